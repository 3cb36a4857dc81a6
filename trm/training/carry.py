"""What survives from one training step to the next, as a value."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trm.data.sampler import Batch
from trm.support import counter_rng, distributed
from trm.support.batched import Batched

_EXPLORATION = 1  # tells this use of (seed, step, slot) from the sampler's
_WRITTEN_BEFORE = {  # names in checkpoints of version 0.1 and before
    **{name: f"puzzles.{name}" for name in ("x_input", "y_true", "puzzle_id")},
    **{name: f"state.{name}" for name in ("y", "z")},
}


@dataclass(frozen=True)
class Carry(Batched):
    """The puzzles in hand and how far each has come.

    Attributes:
        puzzles: the puzzles in hand
        state: where each stands
        steps: supervision steps taken, (batch,) int64
        halted: (batch,) bool; a halted puzzle's slot takes a fresh puzzle at the next step
    """

    puzzles: Batch
    state: Batched
    steps: Tensor
    halted: Tensor

    @classmethod
    def empty(cls, batch: Batch, initial: Batched) -> "Carry":
        """Make a carry of free slots, shaped like ``batch``."""
        steps = torch.zeros_like(batch.puzzle_id)
        return cls(batch, initial, steps, torch.ones_like(steps, dtype=torch.bool))

    def admit(self, batch: Batch, initial: Batched) -> "Carry":
        """Put the puzzles of ``batch`` into the free slots, from the initial state."""
        admitted = self.where(~self.halted, Carry.empty(batch, initial))
        return replace(admitted, halted=torch.zeros_like(self.halted))

    def advance(
        self, state: Batched, q_hat: Tensor, N_sup: int, must_take: Tensor, taken: int = 1
    ) -> "Carry":
        """Take on the state after supervision steps and mark who halts.

        Args:
            state: after the steps; its gradient is cut
            q_hat: halting logits, (batch,)
            N_sup: the most steps a puzzle may take
            must_take: the fewest steps each puzzle must take, (batch,) int64
            taken: supervision steps since the last state
        """
        steps = self.steps + taken
        halted = should_halt(q_hat, steps, N_sup) & (steps >= must_take)
        return Carry(self.puzzles, state.detach(), steps, halted)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the carry of all processes as plain tensors, for a checkpoint."""
        return {name: distributed.gathered(tensor) for name, tensor in self.tensors()}

    def restored(self, saved: Mapping[str, Tensor], device: torch.device) -> "Carry":
        """Return this process's share of what ``state_dict`` returned, in the form of this one.

        Raises:
            KeyError: it was saved by a model whose state has other parts
        """
        mine = distributed.share(len(saved["steps"]))
        return self.with_tensors(
            {
                _WRITTEN_BEFORE.get(name, name): tensor[mine].to(device)
                for name, tensor in saved.items()
            }
        )


def should_halt(q_hat: Tensor, step: Tensor, N_sup: int) -> Tensor:
    """Mark, as (batch,) bool, the puzzles judged solved or out of supervision steps.

    Args:
        q_hat: halting logits, (batch,)
        step: supervision steps taken, this one included, (batch,) int64
        N_sup: the most steps a puzzle may take
    """
    return (q_hat > 0) | (step >= N_sup)


def steps_to_take(seed: int, k: int, slots: Tensor, N_sup: int, exploration: float) -> Tensor:
    """Draw the fewest steps each slot's puzzle must take, as (batch,) int64.

    With probability ``exploration`` uniform in 2 ... ``N_sup``, else 0: without it a halting head
    that says "solved" too early would never see what another step brings. A pure function of
    (seed, step ``k``, slot), drawn anew at every step as in the published code.
    """
    keys = counter_rng.key(seed, k, slots, _EXPLORATION)
    explores = counter_rng.uniform(keys) < exploration
    fewest = 2 + counter_rng.below(counter_rng.mix(keys), max(N_sup - 1, 1))
    return torch.where(explores, fewest.clamp(max=N_sup), 0)
