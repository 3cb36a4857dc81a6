"""Search as test-time compute: pin what is sure, else guess, and start anew on a contradiction."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trm.support import counter_rng
from trm.support.errors import InputError, check_at_least, check_between
from trm.tasks.base import Task

_GUESS, _START = 3, 4  # streams of random numbers, told apart by these words
_AGAIN = 3  # how much shorter a trajectory thinks after a fresh start: chances count for more
_EVERY = 12  # pins in the time that a model was trained to think


@dataclass(frozen=True)
class Search:
    """How a trajectory goes on that has thought and not found the answer.

    It writes into the puzzle what it is sure of, or else one cell by its probabilities, thinks on
    from where it stands, and so on. When what is written breaks the rules, or the model calls it a
    contradiction, it takes everything back and starts anew from a random state.

    Attributes:
        think: supervision steps before the first pin, and a third of them after each fresh start;
            None for as many as in training
        every: supervision steps between pins; None for a twelfth of ``think``
        sure: probability from which on a cell is pinned

    Raises:
        InputError: a value out of range
    """

    think: int | None = None
    every: int | None = None
    sure: float = 0.98

    def __post_init__(self) -> None:
        check_at_least(1, "search.", think=self.think, every=self.every)
        check_between(0, 1, "search.", sure=self.sure)

    def for_model(self, task: Task, N_sup: int) -> "Search":
        """Fill in what depends on task and model.

        Raises:
            InputError: a task whose puzzles have no open cells, or no rules
        """
        if task.blank is None or not task.has_rules:
            raise InputError(
                f"search writes into the open cells of a puzzle and checks the rules; {task.name} "
                f"has no such {'rules' if not task.has_rules else 'cells'}, take search=null"
            )
        think = self.think or N_sup
        return replace(self, think=think, every=self.every or max(1, think // _EVERY))

    def is_due(self, steps: Tensor, restarts: Tensor) -> Tensor:
        """Mark, as bool, trajectories that pin now, so many steps after their last start."""
        assert self.think, "for_model fills it in"
        assert self.every, "likewise"
        think = torch.where(restarts > 0, max(1, self.think // _AGAIN), self.think)
        return (steps >= think) & ((steps - think) % self.every == 0)

    def pins(
        self, x_input: Tensor, probabilities: Tensor, is_due: Tensor, blank: int, keys: Tensor
    ) -> Tensor:
        """Write pins into the puzzles that are due, (batch, cells) int64.

        Args:
            x_input: with the pins so far, (batch, cells) int64
            probabilities: of the tokens of each cell, (batch, cells, vocab)
            is_due: (batch,) bool
            blank: token of an open cell; those above it may be written
            keys: of the guesses, (batch,) int64
        """
        likely = probabilities[:, :, blank + 1 :]
        open_cell = (x_input == blank) & is_due[:, None]
        most, symbol = likely.max(-1)
        is_sure = open_cell & (most > self.sure)
        pinned = torch.where(is_sure, symbol + blank + 1, x_input)

        # Nothing is sure: one cell, the surest, gets a symbol drawn from its probabilities.
        cell = torch.where(open_cell, most, -1).argmax(1)
        rows = torch.arange(len(x_input), device=x_input.device)
        share = likely[rows, cell].cumsum(-1)
        drawn = (counter_rng.uniform(keys)[:, None] * share[:, -1:] >= share).sum(-1)
        guessed = blank + 1 + drawn.clamp(max=share.shape[1] - 1)
        guesses = open_cell.any(1) & ~is_sure.any(1)
        pinned[rows, cell] = torch.where(guesses, guessed, pinned[rows, cell])
        return pinned


def guess_keys(seed: int, rollout: Tensor, steps: Tensor) -> Tensor:
    """Return the key of each trajectory's guess after so many supervision steps."""
    return counter_rng.key(seed, _GUESS, rollout, steps)


def start_keys(seed: int, rollout: Tensor, steps: Tensor) -> Tensor:
    """Return the key of the state in which each trajectory starts anew."""
    return counter_rng.key(seed, _START, rollout, steps)
