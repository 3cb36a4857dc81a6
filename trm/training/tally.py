"""Training metrics, summed on the device and read now and then."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trm.support import distributed
from trm.training.carry import Carry
from trm.training.losses import StepLoss

_OF_HALTED = {"exact": "exact_accuracy", "cell": "cell_accuracy", "halt_right": "halt_accuracy"}


@dataclass(frozen=True)
class Measured:
    """What some training steps came to, over all processes.

    Attributes:
        logged: means to log; those over halted puzzles only if any halted
        puzzles: puzzles advanced, one for each training step
        not_finite: how many of them had a loss that is not finite
        solved: share of them with every cell right
        says_stop: share of them with a positive halting logit
    """

    logged: dict[str, float]
    puzzles: int
    not_finite: int
    solved: float
    says_stop: float


class Tally:
    """Sums since the metrics were last read.

    Adding never waits for the device; reading does, and adds up all processes.
    """

    def __init__(self) -> None:
        self.sums: Tensor | None = None
        self.losses: list[str] = []

    @torch.no_grad()
    def add(self, parts: list[StepLoss], q_hat: Tensor, carry: Carry) -> None:
        """Add a step.

        Args:
            parts: losses of the micro-batches
            q_hat: halting logits of the whole batch, (batch,)
            carry: after the step
        """
        self.losses = [*parts[0].losses]
        dtype = parts[0].total.dtype

        def whole(values: list[Tensor]) -> Tensor:
            return torch.cat(values).to(dtype)

        total, halted = whole([part.total for part in parts]), carry.halted.to(dtype)
        of_halted = [whole([getattr(part, name) for part in parts]) for name in _OF_HALTED]
        sums = torch.stack(
            [
                torch.ones_like(halted).sum(),
                (~total.isfinite()).to(dtype).sum(),
                (q_hat > 0).to(dtype).sum(),
                total.sum(),
                *(whole([part.losses[name] for part in parts]).sum() for name in self.losses),
                of_halted[0].sum(),
                halted.sum(),
                # Not by a product of vectors, which autocast would round to bfloat16.
                *((values * halted).sum() for values in of_halted),
                (carry.steps.to(dtype) * halted).sum(),
            ]
        )
        self.sums = sums if self.sums is None else self.sums + sums

    def read(self) -> Measured | None:
        """Return the means over all processes and keep the sums; None if there are none."""
        if self.sums is None:
            return None
        puzzles, not_finite, stops, *sums = distributed.summed(self.sums).tolist()
        of_all = ["loss", *(f"{name}_loss" for name in self.losses)]
        solved, halted, *of_halted = sums[len(of_all) :]
        logged = {name: value / puzzles for name, value in zip(of_all, sums, strict=False)}
        if halted:
            names = [*_OF_HALTED.values(), "steps"]
            logged |= {n: value / halted for n, value in zip(names, of_halted, strict=True)}
        return Measured(
            logged, round(puzzles), round(not_finite), solved / puzzles, stops / puzzles
        )

    def clear(self) -> None:
        """Start anew."""
        self.sums = None

    def state(self) -> dict[str, Any] | None:
        """Return the sums of all processes, (processes, sums), for a checkpoint."""
        if self.sums is None:
            return None
        return {"sums": distributed.gathered(self.sums[None]), "losses": self.losses}

    def restore(self, saved: dict[str, Any] | Tensor | None, device: torch.device) -> None:
        """Take back what ``state`` returned, whatever the number of processes is by now."""
        if saved is None:
            return
        if isinstance(saved, Tensor):  # as it was before losses had names
            saved = {"sums": saved, "losses": ["answer", "halt"]}
        self.losses = saved["losses"]
        mine = saved["sums"][distributed.rank() :: distributed.count()].to(device)
        self.sums = mine[0].clone() if len(mine) == 1 else mine.sum(0)


def first_bad_step(measured: Measured, step: int, batch_size: int) -> int:
    """Return the first of the steps up to ``step`` whose loss was not finite.

    Once a loss is not finite the weights are not, nor is any loss after it.
    """
    return step - math.ceil(measured.not_finite / batch_size) + 1
