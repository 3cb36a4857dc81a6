"""Search as test-time compute: pin what is sure, else guess, and take back what contradicts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trm.support import counter_rng
from trm.support.batched import Batched, disturbed
from trm.support.errors import InputError, check_at_least, check_between
from trm.tasks.base import Task

_START = 4  # a stream of random numbers, told apart by this word
_AGAIN = 3  # how much shorter a trajectory thinks after a fresh start
_EVERY = 12  # pins in the time that a model was trained to think
_OF_A_GUESS = 2  # how many times as long it thinks about a guess as about a pin
_NO_OTHER = 0.995  # probability of two symbols together above which a cell has no third
_POSSIBLE = 0.02  # probability below which a symbol is not tried
_LESS = 0.25  # of what may be wrong is taken for possible after each fresh start,
_DOUBTS = 4  # so many times


@dataclass(frozen=True)
class Search:
    """How a trajectory goes on that has thought and not found the answer.

    It writes into the puzzle what it is sure of, or else a guess, thinks on from where it stands,
    and so on: a search in depth. When what is written breaks the rules, or the model calls it a
    contradiction, the last guess is taken back with all that came after it, and the next symbol of
    its cell is tried from the state in which the model was then. When there is no other, the guess
    before is taken back; when there is none, the trajectory starts anew from a random state, and
    takes less for certain than before.

    Attributes:
        think: supervision steps before the first pin, and a third of them after each fresh start;
            None for as many as in training
        every: supervision steps after a pin, and twice as many after a guess; None for a twelfth
            of ``think``
        sure: probability above which a cell is pinned, at first

    Raises:
        InputError: a value out of range
    """

    think: int | None = None
    every: int | None = None
    sure: float = 0.98

    def __post_init__(self) -> None:
        check_at_least(1, think=self.think, every=self.every)
        check_between(0, 1, sure=self.sure)

    def for_model(self, task: Task, N_sup: int) -> "Search":
        """Fill in what depends on task and model.

        Raises:
            InputError: a task whose puzzles have no open cells, or no rules
        """
        if not task.is_searchable:
            raise InputError(
                f"search writes into the open cells of a puzzle and checks the rules; {task.name} "
                f"has no such {'rules' if not task.has_rules else 'cells'}, take search=null"
            )
        think = self.think or N_sup
        return replace(self, think=think, every=self.every or max(1, think // _EVERY))

    def pinned(self, sought: "Sought", likely: Tensor, blank: int) -> Tensor:
        """Write into the open cells what is sure, (batch, cells) int64.

        Args:
            sought: searches
            likely: probabilities of the symbols of each cell, (batch, cells, symbols)
            blank: token of an open cell; the symbols are the tokens above it
        """
        most, symbol = likely.max(-1)
        unsure = (1 - self.sure) * doubt(sought.restarts)[:, None]
        is_sure = (sought.x_input == blank) & (most > 1 - unsure)
        return torch.where(is_sure, symbol + blank + 1, sought.x_input)


def doubt(restarts: Tensor) -> Tensor:
    """Return by how much less likely errors must be after so many fresh starts, (batch,).

    A search that has tried everything it held for possible has pinned or ruled out too much.
    """
    return _LESS ** restarts.clamp(max=_DOUBTS)


def cell_to_guess(is_open: Tensor, likely: Tensor) -> int:
    """Choose the cell whose guess says most.

    Of the cells that have two possible symbols the least decided one: if the guess is wrong, the
    other symbol is certain. If there is none, the cell whose two likeliest symbols have most.

    Args:
        is_open: (cells,) bool
        likely: probabilities of the symbols of each cell, (cells, symbols)
    """
    best = likely.topk(2).values
    most, two = best[:, 0], best.sum(1)
    worth = torch.where(two > _NO_OTHER, 2 - most, two)
    return int(torch.where(is_open, worth, -1).argmax())


@dataclass(frozen=True)
class Sought(Batched):
    """Where the searches of trajectories stand.

    Attributes:
        number: of the trajectory, (batch,) int64
        question: as the trajectory sees it, (batch, cells) int64
        x_input: with what the search has written, (batch, cells) int64
        state: of the model, (batch, ...)
        wait: supervision steps until something is decided, (batch,) int64
        guesses: made so far, those taken back too, (batch,) int64
        restarts: fresh starts so far, (batch,) int64
    """

    number: Tensor
    question: Tensor
    x_input: Tensor
    state: Batched
    wait: Tensor
    guesses: Tensor
    restarts: Tensor


@dataclass
class _Guess:
    """What it takes to try another symbol: the search as it was, and the tokens not yet tried."""

    before: Sought
    cell: int
    untried: list[int]


class Searching:
    """Searches of many trajectories, with the guesses that each may still take back.

    Args:
        search: with everything filled in
        task: whose puzzles they are
        trajectories: of each puzzle; those of equal rank start anew in the same states
        seed: of these states
    """

    def __init__(self, search: Search, task: Task, trajectories: int, seed: int) -> None:
        assert task.blank is not None, "checked when everything was filled in"
        assert search.think, "likewise"
        assert search.every, "likewise"
        self.search, self.task, self.blank = search, task, task.blank
        self.trajectories, self.seed = trajectories, seed
        self.think, self.every = search.think, search.every
        self._guesses: dict[int, list[_Guess]] = {}  # by the number of the trajectory

    def forget(self, numbers: Sequence[int]) -> None:
        """Drop what is kept of trajectories that have ended."""
        for number in numbers:
            self._guesses.pop(number, None)

    def decide(self, sought: Sought, probabilities: Tensor, contradicts: Tensor | None) -> Sought:
        """Pin, guess, take back or start anew.

        Args:
            sought: searches that have waited long enough
            probabilities: of the tokens of each cell, (batch, cells, vocab)
            contradicts: whether the model says so, (batch,) bool, if it can
        """
        likely = probabilities[:, :, self.blank + 1 :]
        is_open = sought.x_input == self.blank
        # A full grid that obeyed the rules would have been an answer.
        is_dead = self.task.contradicts(sought.x_input) | ~is_open.any(1)
        if contradicts is not None:
            is_dead |= contradicts
        pinned = self.search.pinned(sought, likely, self.blank)
        is_sure = (pinned != sought.x_input).any(1) & ~is_dead
        wait = torch.full_like(sought.wait, self.every)
        x_input = torch.where(is_sure[:, None], pinned, sought.x_input)
        decided = replace(sought, x_input=x_input, wait=wait)

        rows = (~is_sure).nonzero()[:, 0]
        if not len(rows):
            return decided
        dead = is_dead.tolist()
        changed = []
        for row in rows.tolist():
            here, guesses = sought[row : row + 1], self._of(sought, row)
            if not dead[row]:
                guesses.append(self._guess(here, likely[row], is_open[row]))
            changed.append(self._try_next(here, guesses))
        return decided.map(lambda all, some: all.index_copy(0, rows, some), Sought.cat(changed))

    def _of(self, sought: Sought, row: int) -> list[_Guess]:
        return self._guesses.setdefault(int(sought.number[row]), [])

    def _guess(self, here: Sought, likely: Tensor, is_open: Tensor) -> _Guess:
        cell = cell_to_guess(is_open, likely)
        share, symbols = likely[cell].sort(descending=True)
        least = _POSSIBLE * doubt(here.restarts)
        possible = symbols[share >= torch.minimum(share[0], least)]
        return _Guess(here, cell, (possible + self.blank + 1).tolist())

    def _try_next(self, here: Sought, guesses: list[_Guess]) -> Sought:
        """Try the next symbol of the last guess that has one, or start anew."""
        while guesses and not guesses[-1].untried:
            guesses.pop()
        if not guesses:
            return self._anew(here)
        last = guesses[-1]
        x_input = last.before.x_input.clone()
        x_input[0, last.cell] = last.untried.pop(0)
        return replace(
            here,
            x_input=x_input,
            state=last.before.state,
            wait=torch.full_like(here.wait, _OF_A_GUESS * self.every),
            guesses=here.guesses + 1,
        )

    def _anew(self, here: Sought) -> Sought:
        rank = here.number % self.trajectories
        keys = counter_rng.key(self.seed, _START, rank, here.restarts)
        return replace(
            here,
            x_input=here.question,
            state=disturbed(here.state, keys, 0.0, 1.0),
            wait=torch.full_like(here.wait, max(1, self.think // _AGAIN)),
            restarts=here.restarts + 1,
        )
