"""The switchboard of test-time compute: how long, how often, and which answer counts."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from trm.inference.search import Search
from trm.inference.selectors import BY_RULES, Stop, selector
from trm.models.recursion import RecursiveModel
from trm.support.errors import InputError, check_at_least, check_between, check_choice
from trm.tasks.base import Task

Start = Literal["fixed", "random"]

_MOST_VIEWS = 1024


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
        select: which trajectory answers: ``halting``, ``residual``, ``confidence``, ``majority``,
            ``validity``, ``cost`` (see ``trm.inference.selectors``), or ``package.function`` of
            one's own
        stop: what ends a puzzle before ``max_steps``: nothing, the first trajectory that says it is
            solved, the first whose answer obeys the rules, or the last: with ``all_valid`` each
            goes on until all have a valid answer, and keeps the best that it had, which costs
            least and of those is the latest. ``select`` then chooses among those that ended it
        sure: halting probability above which a trajectory counts as saying so
        seed: of starts, noise, views and guesses
        search: how a trajectory goes on that has thought and found no answer; None for just so

    Raises:
        InputError: a value that cannot be, or rollouts that would all be equal
    """

    max_steps: int | None = None
    rollouts: int = 1
    views: int = 1
    start: Start = "random"
    noise: float = 0.0
    select: str = "halting"
    stop: Stop = "all"
    sure: float = 0.5
    seed: int = 0
    search: Search | None = None

    def __post_init__(self) -> None:
        check_choice(get_args(Start), start=self.start)
        selector(self.select)
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
        if self.rollouts > 1 and self.start == "fixed" and not self.noise and not self.search:
            raise InputError(
                f"rollouts={self.rollouts} with start=fixed and noise=0 would all be equal; choose "
                f"start=random or a noise such as 0.3"
            )

    @property
    def trajectories(self) -> int:
        """Trajectories of each puzzle."""
        return self.rollouts * self.views

    def for_model(self, task: Task, model: RecursiveModel, N_sup: int) -> "Compute":
        """Fill in what depends on task and model.

        Raises:
            InputError: a choice by validity for a task without rules
        """
        asks_rules = self.stop.endswith("_valid") or self.select in BY_RULES
        if asks_rules and not task.has_rules:
            raise InputError(
                f"{task.name} has no rules by which an answer could be checked; choose "
                f"select=halting, and stop=first_halted or stop=all"
            )
        steps = N_sup if self.max_steps is None else self.max_steps
        search = self.search and self.search.for_model(task, N_sup)
        return replace(self, max_steps=1 if model.one_pass else steps, search=search)
