"""The switchboard of test-time compute: how long, how often, and which answer counts."""

from dataclasses import dataclass, replace
from itertools import count
from math import log
from typing import Literal, get_args

import torch
from torch import Tensor

from trm import counter_rng
from trm.errors import InputError, check_at_least, check_between, check_choice
from trm.models.recursion import RecursiveModel
from trm.support.batched import Batched
from trm.tasks.base import Symmetry, Task

Start = Literal["fixed", "random"]
Select = Literal["halting", "residual", "confidence", "majority", "validity"]
Stop = Literal["all", "first_halted", "first_valid"]

_NOISE = 1  # streams of random numbers, told apart by these words
_VIEWS = 2
_MOST_VIEWS = 1024
_VIEWS_TRIED = 16  # times as many as wanted, since a small group repeats itself soon


@dataclass(frozen=True)
class Compute:
    """How much a model may think about a puzzle, and which of its answers is taken.

    A *trajectory* is one rollout of one view; a puzzle has ``rollouts * views`` of them. The first
    rollout always starts where the model was trained to start and has no noise, and the first view
    is the puzzle itself, so more of either only adds to the plain trajectory.

    Attributes:
        max_steps: supervision steps each trajectory may take; None for as many as in training
        rollouts: trajectories from different starts or with different noise
        views: symmetric copies of the puzzle; answers are turned back before they are compared
        start: where rollouts beyond the first begin, at the fixed or a random initial state
        noise: standard deviation of the Gaussian noise that rollouts beyond the first get on ``y``
            and ``z`` before every supervision step; the entries of both have root mean square 1
        select: which trajectory answers: the highest halting logit, the least change in the last
            step, the highest mean probability of the tokens chosen, the most frequent answer (of
            equally frequent ones the most confident), or a valid one (of several the one with the
            highest halting logit)
        stop: what ends a puzzle before ``max_steps``: nothing, the first trajectory that says it is
            solved, or the first whose answer obeys the rules. ``select`` then chooses among those
            that ended it
        sure: halting probability above which a trajectory counts as saying so
        seed: of starts, noise and views

    Raises:
        InputError: a value that cannot be, or rollouts that would all be equal
    """

    max_steps: int | None = None
    rollouts: int = 1
    views: int = 1
    start: Start = "random"
    noise: float = 0.0
    select: Select = "halting"
    stop: Stop = "all"
    sure: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice(get_args(Start), start=self.start)
        check_choice(get_args(Select), select=self.select)
        check_choice(get_args(Stop), stop=self.stop)
        check_at_least(1, max_steps=self.max_steps, rollouts=self.rollouts)
        check_between(1, _MOST_VIEWS, views=self.views)
        if not 0 < self.sure < 1:
            raise InputError(f"sure={self.sure} must lie between 0 and 1")
        if not 0 <= self.noise < float("inf"):
            raise InputError(f"noise={self.noise} must be 0 or a positive number")
        if self.noise and self.rollouts == 1:
            raise InputError(
                f"noise={self.noise} is for rollouts beyond the first; give rollouts=2 or more"
            )
        if self.rollouts > 1 and self.start == "fixed" and not self.noise:
            raise InputError(
                f"rollouts={self.rollouts} with start=fixed and noise=0 would all be equal; choose "
                f"start=random or a noise such as 0.3"
            )

    @property
    def trajectories(self) -> int:
        """Trajectories of each puzzle."""
        return self.rollouts * self.views

    def settled(self, task: Task, model: RecursiveModel, N_sup: int) -> "Compute":
        """Fill in what depends on task and model.

        Raises:
            InputError: a choice by validity for a task without rules
        """
        if not task.has_rules and "valid" in self.stop + self.select:
            raise InputError(
                f"{task.name} has no rules by which an answer could be checked; choose "
                f"select=halting, and stop=first_halted or stop=all"
            )
        steps = N_sup if self.max_steps is None else self.max_steps
        return replace(self, max_steps=1 if model.one_pass else steps)


@dataclass(frozen=True)
class Signs(Batched):
    """What a step shows of R trajectories, by which one is chosen; (..., R) unless said.

    Attributes:
        halting: logit, positive where it says "solved"
        residuals: root mean square by which each part of the state changed (``y``, ``z``),
            (..., R, parts)
        confidence: mean over cells of the probability of the token chosen
        valid: bool, the answer obeys the rules; False where a task has none
        answer: int64 hash of the answer, equal for equal answers
    """

    halting: Tensor
    residuals: Tensor
    confidence: Tensor
    valid: Tensor
    answer: Tensor


def candidates(stop: Stop, sure: float, signs: Signs) -> Tensor:
    """Mark, as (..., R) bool, the trajectories by which a puzzle may end before the last step."""
    if stop == "first_halted":
        return signs.halting > log(sure / (1 - sure))
    return signs.valid if stop == "first_valid" else torch.zeros_like(signs.valid)


def chosen(select: Select, signs: Signs, among: Tensor) -> Tensor:
    """Return the number of the trajectory that answers, (...) int64; of equal ones the first.

    Args:
        select: see ``Compute``
        signs: of all trajectories, (..., R)
        among: those that may be chosen, (..., R) bool; all, where none is marked
    """
    among = among | ~among.any(-1, keepdim=True)
    if select == "halting":
        score = signs.halting
    elif select == "residual":
        score = -signs.residuals.sum(-1)
    elif select == "confidence":
        score = signs.confidence
    elif select == "validity":
        score = signs.valid.float() + signs.halting.sigmoid() / 2
    else:
        same = signs.answer[..., :, None] == signs.answer[..., None, :]
        votes = (same & among[..., None, :]).float()
        count, sure = votes.sum(-1), (votes * signs.halting.sigmoid()[..., None, :]).sum(-1)
        score = count + sure / (count + 1)  # the second term stays below one vote
    return score.masked_fill(~among, -torch.inf).argmax(-1)


def views(task: Task, wanted: int, seed: int) -> Symmetry:
    """Return ``wanted`` different symmetries, the identity first.

    Raises:
        InputError: the task has fewer
    """
    keys = counter_rng.key(seed, _VIEWS, torch.arange(_VIEWS_TRIED * wanted))
    symmetry = task.symmetries(torch.cat([torch.zeros(1, dtype=torch.int64), keys]))
    both = torch.cat([symmetry.cells, symmetry.tokens], 1)
    _, kind = torch.unique(both, dim=0, return_inverse=True)
    order = torch.arange(len(kind))
    first = torch.full((int(kind.max()) + 1,), len(kind)).scatter_reduce(0, kind, order, "amin")
    if len(first) < wanted:
        raise InputError(f"views={wanted}: {task.name} has {len(first)} symmetric views, no more")
    kept = first.sort().values[:wanted]
    return Symmetry(symmetry.cells[kept], symmetry.tokens[kept])


def first_states(model: RecursiveModel, compute: Compute) -> Batched:
    """Return the state in which each rollout starts, (rollouts, ...) on the model's device.

    The draws depend on seed and rollout alone, so the puzzles of a batch do not matter.
    """
    plain = model.initial_state(1)
    others = [plain] * (compute.rollouts - 1)
    if compute.start == "random":
        for r in range(len(others)):
            word = int(counter_rng.key(compute.seed, r + 1))
            others[r] = model.initial_state(1, torch.Generator().manual_seed(word))
    return Batched.cat([plain, *others])


def with_noise(state: Batched, compute: Compute, rollout: Tensor, step: Tensor) -> Batched:
    """Add Gaussian noise to the rollouts beyond the first.

    Args:
        state: (batch, ...)
        compute: gives scale and seed
        rollout: number of each, (batch,) int64
        step: supervision steps taken before, (batch,) int64
    """
    scale, parts = compute.noise * (rollout > 0), count()

    def noisy(h: Tensor) -> Tensor:
        keys = counter_rng.key(compute.seed, _NOISE, next(parts), rollout, step)
        normal = counter_rng.normal(keys, h[0].numel()).view_as(h)
        return h + (scale.view(-1, *[1] * (h.dim() - 1)) * normal).to(h.dtype)

    return state.map(noisy)
