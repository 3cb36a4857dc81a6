"""What became of a puzzle, said in words and drawn in notebooks."""

from dataclasses import InitVar, dataclass

from trm.tasks.base import Task
from trm.tasks.html import panels

_DRAWN = 10  # solutions that a notebook draws of many


@dataclass(frozen=True)
class Solution:
    """What became of one puzzle.

    Attributes:
        puzzle: as text
        answer: as text; None where the puzzle cannot have one, or could not be read
        valid: whether the answer was checked to obey the rules; None for tasks without rules
        problem: what is wrong with puzzle or answer, in words, or None
        halting_probability: with which the model says "solved"; None if it was not asked
        confidence: mean over cells of the probability of the token chosen; None likewise
        steps: supervision steps of the trajectory that answered
        total_steps: of all its trajectories
        pins: cells that a search had written into the puzzle when it was answered
        guesses: that the search had made, those taken back too
        restarts: how often it had started anew
        matches: whether the answer is the solution that stood beside the puzzle; None if none did
        time_s: seconds from the start of the call until this puzzle was answered
        task: whose puzzle it is, by which a notebook draws it; None if it could not be read. It is
            no field, so that ``dataclasses.asdict`` gives plain values
    """

    puzzle: str
    answer: str | None
    valid: bool | None
    problem: str | None = None
    halting_probability: float | None = None
    confidence: float | None = None
    steps: int = 0
    total_steps: int = 0
    pins: int = 0
    guesses: int = 0
    restarts: int = 0
    matches: bool | None = None
    time_s: float = 0.0
    task: InitVar[Task | None] = None

    def __post_init__(self, task: Task | None) -> None:
        object.__setattr__(self, "task", task)  # where dataclasses.replace looks for it

    @property
    def failed(self) -> bool:
        """Whether there is no answer, or one that breaks the rules."""
        return self.answer is None or self.valid is False

    def verdict(self, with_time: bool = True) -> str:
        """Say in words what is known of the answer; in a batch its time says little."""
        verdict = self.problem or ("valid" if self.valid else "not checked: no rules")
        if self.halting_probability is None or self.confidence is None:
            return verdict
        steps = f"{self.steps} step{'s' if self.steps > 1 else ''}"
        if self.total_steps > self.steps:
            steps += f" ({self.total_steps} over all trajectories)"
        if self.pins or self.guesses:
            search = "after a search" if self.failed else "found by search"
            steps += f", {search}: {self.pins} cells written, {self.guesses} guesses made"
            steps += f", {self.restarts} fresh starts" if self.restarts else ""
        if self.matches is False:
            verdict += ", other than the solution beside it"
        time_s = f", {1000 * self.time_s:.0f} ms" if with_time else ""
        return (
            f"{verdict}; {steps}{time_s}, says solved with "
            f"{100 * self.halting_probability:.0f} %, sure of its cells with "
            f"{100 * self.confidence:.0f} %"
        )

    def _repr_html_(self) -> str:
        task: Task | None = vars(self)["task"]  # mypy knows an InitVar as an argument alone
        if task is None:
            return panels([(self.puzzle, "")], self.verdict())
        x_input = task.known(self.puzzle)
        drawn = [("puzzle", task.show(x_input)._repr_html_())]
        if self.answer is not None:
            answer = "answer", task.show(x_input, task.known(self.answer))._repr_html_()
            # An answer that keeps what is given shows the puzzle, too.
            drawn = [answer] if task.given(x_input).any() else [*drawn, answer]
        return panels(drawn, self.verdict())


class Solutions(list[Solution]):
    """Solutions in the order of their puzzles; a notebook draws the first of them."""

    def _repr_html_(self) -> str:
        shown = "".join(solution._repr_html_() for solution in self[:_DRAWN])
        more = f"{len(self) - _DRAWN:,} more" if len(self) > _DRAWN else ""
        return f"{shown}{panels([], more)}"
