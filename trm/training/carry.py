"""What survives from one training step to the next, as a value."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trm import counter_rng, processes
from trm.data.sampler import Batch
from trm.models.recursion import State

_EXPLORATION = 1  # tells this use of (seed, step, slot) from the sampler's


@dataclass(frozen=True)
class Carry:
    """The puzzles in hand and how far each has come.

    Attributes:
        puzzles: the puzzles in hand
        state: where each stands
        steps: supervision steps taken, (batch,) int64
        halted: (batch,) bool; a halted puzzle's slot takes a fresh puzzle at the next step
    """

    puzzles: Batch
    state: State
    steps: Tensor
    halted: Tensor

    @classmethod
    def empty(cls, batch: Batch, initial: State) -> "Carry":
        """Make a carry of free slots, shaped like ``batch``."""
        steps = torch.zeros_like(batch.puzzle_id)
        return cls(batch, initial, steps, torch.ones_like(steps, dtype=torch.bool))

    def admit(self, batch: Batch, initial: State) -> "Carry":
        """Put the puzzles of ``batch`` into the free slots, from the initial state."""
        fresh = self.halted
        mine, theirs = self.puzzles, batch
        puzzles = Batch(
            torch.where(fresh[:, None], theirs.x_input, mine.x_input),
            torch.where(fresh[:, None], theirs.y_true, mine.y_true),
            torch.where(fresh, theirs.puzzle_id, mine.puzzle_id),
        )
        state = self.state.replaced_where(fresh, initial)
        steps = torch.where(fresh, 0, self.steps)
        return Carry(puzzles, state, steps, torch.zeros_like(fresh))

    def advance(self, state: State, q_hat: Tensor, N_sup: int, must_take: Tensor) -> "Carry":
        """Take on the state after a supervision step and mark who halts.

        Args:
            state: after the step; its gradient is cut
            q_hat: halting logits, (batch,)
            N_sup: the most steps a puzzle may take
            must_take: the fewest steps each puzzle must take, (batch,) int64
        """
        steps = self.steps + 1
        halted = should_halt(q_hat, steps, N_sup) & (steps >= must_take)
        return Carry(self.puzzles, state.detach(), steps, halted)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the carry of all processes as plain tensors, for a checkpoint."""
        mine = {
            "x_input": self.puzzles.x_input,
            "y_true": self.puzzles.y_true,
            "puzzle_id": self.puzzles.puzzle_id,
            "y": self.state.y,
            "z": self.state.z,
            "steps": self.steps,
            "halted": self.halted,
        }
        return {name: processes.gathered(tensor) for name, tensor in mine.items()}

    @classmethod
    def from_state_dict(cls, saved: dict[str, Tensor], device: torch.device) -> "Carry":
        """Rebuild this process's share of what ``state_dict`` returned."""
        mine = processes.share(len(saved["steps"]))
        at = {name: tensor[mine].to(device) for name, tensor in saved.items()}
        puzzles = Batch(at["x_input"], at["y_true"], at["puzzle_id"])
        return cls(puzzles, State(at["y"], at["z"]), at["steps"], at["halted"])


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
