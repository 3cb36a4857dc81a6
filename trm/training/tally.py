"""Training metrics, summed on the device and read now and then."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trm import processes
from trm.training.carry import Carry
from trm.training.losses import StepLoss

_OF_ALL = ("total", "answer", "halt", "exact")  # what is summed over all puzzles in hand
_OF_HALTED = ("exact", "cell", "halt_right")  # … over those that halt


@dataclass(frozen=True)
class Measured:
    """What some training steps came to, over all processes.

    Attributes:
        logged: means to log; those over halted puzzles only if any halted
        puzzles: puzzles advanced, one for each supervision step
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

    @torch.no_grad()
    def add(self, parts: list[StepLoss], q_hat: Tensor, carry: Carry) -> None:
        """Add a step.

        Args:
            parts: losses of the micro-batches
            q_hat: halting logits of the whole batch, (batch,)
            carry: after the step
        """
        dtype = parts[0].total.dtype
        values = {
            name: torch.cat([getattr(part, name) for part in parts]).to(dtype)
            for name in {*_OF_ALL, *_OF_HALTED}
        }
        halted = carry.halted.to(dtype)
        sums = torch.stack(
            [
                torch.ones_like(halted).sum(),
                (~values["total"].isfinite()).to(dtype).sum(),
                (q_hat > 0).to(dtype).sum(),
                *(values[name].sum() for name in _OF_ALL),
                halted.sum(),
                # Not by a product of vectors, which autocast would round to bfloat16.
                *((values[name] * halted).sum() for name in _OF_HALTED),
                (carry.steps.to(dtype) * halted).sum(),
            ]
        )
        self.sums = sums if self.sums is None else self.sums + sums

    def read(self) -> Measured | None:
        """Return the means over all processes and keep the sums; None if there are none."""
        if self.sums is None:
            return None
        puzzles, not_finite, stops, *sums = processes.summed(self.sums).tolist()
        total, answer, halt, solved, halted, exact, cell, halt_right, steps = sums
        of_all = {"loss": total, "answer_loss": answer, "halt_loss": halt}
        of_halted = {
            "exact_accuracy": exact,
            "cell_accuracy": cell,
            "halt_accuracy": halt_right,
            "steps": steps,
        }
        logged = {name: value / puzzles for name, value in of_all.items()}
        if halted:
            logged |= {name: value / halted for name, value in of_halted.items()}
        return Measured(
            logged, round(puzzles), round(not_finite), solved / puzzles, stops / puzzles
        )

    def clear(self) -> None:
        """Start anew."""
        self.sums = None

    def state(self) -> Tensor | None:
        """Return the sums of all processes, (processes, sums), for a checkpoint."""
        return None if self.sums is None else processes.gathered(self.sums[None])

    def restore(self, saved: Tensor | None, device: torch.device) -> None:
        """Take back what ``state`` returned, whatever the number of processes is by now."""
        if saved is not None:
            mine = saved[processes.rank() :: processes.count()].to(device)
            self.sums = mine[0].clone() if len(mine) == 1 else mine.sum(0)


def first_bad_step(measured: Measured, step: int, batch_size: int) -> int:
    """Return the first of the steps up to ``step`` whose loss was not finite.

    Once a loss is not finite the weights are not, nor is any loss after it.
    """
    return step - math.ceil(measured.not_finite / batch_size) + 1
