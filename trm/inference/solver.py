"""Solve puzzles: text in, checked answers out."""

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch

from trm.checkpoints.opening import open_for
from trm.inference.compute import Compute
from trm.inference.frames import Story, trajectory_frames
from trm.inference.rollouts import RolloutStep, rollout
from trm.inference.search import Search
from trm.inference.solution import Solution, Solutions
from trm.models.recursion import RecursiveModel, Trained
from trm.support.build import check_arguments
from trm.support.devices import Precision, pick_device, pick_precision
from trm.support.errors import InputError, check_at_least, check_choice
from trm.tasks.base import Task
from trm.tasks.reading import Reader

_BATCH_SIZE = {"cpu": 64}  # by kind of device, see experiments/LOG.md
_STEPS = 16  # supervision steps at least: more than training had may help, and solved puzzles leave
_SEARCH_STEPS = 60  # with a search, times as many as in training


def default_compute(task: Task, N_sup: int = 16, **changes: Any) -> Compute:
    """Return how much a solver thinks unless told otherwise, with some values changed.

    As many supervision steps as in training, or 16 if that is more; where there are open cells and
    rules, a search of up to 60 times as many as in training.

    Args:
        task: decides whether rules can end a puzzle, and whether there are cells to search
        N_sup: supervision steps in training
        changes: of the values of ``Compute``

    Raises:
        InputError: a value that ``Compute`` does not have, or not of that kind
    """
    check_arguments(Compute, changes, "compute")
    stop = "first_valid" if task.has_rules else "first_halted"
    # Where nothing ends a puzzle early, a search would only go on.
    ends = changes.get("stop", stop) == "first_valid"
    searches = ends and task.is_searchable and changes.get("search", True)
    steps = _SEARCH_STEPS * N_sup if searches else max(_STEPS, N_sup)
    settings: dict[str, Any] = {"max_steps": steps, "stop": stop} | changes
    if searches:
        settings.setdefault("search", Search())
    return Compute(**settings)


class Solver:
    """A model that answers puzzles, with as much test-time compute as it is given.

    Puzzles of mixed difficulty share a batch, solved ones leave it and others take their places, so
    the cost follows the mean number of steps. Unless ``compute`` says otherwise, a puzzle ends with
    the first answer that obeys the rules, or for a task without rules with the first that the model
    calls solved; see ``default_compute`` for when it ends at the latest. Models of any size answer
    puzzles of all their sizes.

    Args:
        model: any model of this library; put into eval mode
        task: what its puzzles are
        compute: see ``Compute`` and ``default_compute``
        trained: how the model was trained; ``Solver.load`` reads it from the file
        batch_size: trajectories at once; None for 64 on a CPU, where more are no faster, and 256
            elsewhere
        device: where to run; None for where the model is
        precision: ``bf16-mixed`` for bfloat16 products, ``32-true`` for none, ``auto`` for what the
            device is fast at

    Raises:
        InputError: a choice that does not suit task or model
    """

    def __init__(
        self,
        model: RecursiveModel,
        task: Task,
        compute: Compute | None = None,
        trained: Trained | None = None,
        batch_size: int | None = None,
        device: torch.device | str | None = None,
        precision: Precision = "auto",
    ) -> None:
        check_at_least(1, batch_size=batch_size)
        check_choice(get_args(Precision), precision=precision)
        device = pick_device(device) if isinstance(device, str) else device
        model = model.on(task.structure)
        self.model = (model if device is None else model.to(device)).eval()
        self.task = task
        self.trained = (
            Trained(halting=model.halting, loss=model.loss) if trained is None else trained
        )
        compute = default_compute(task, self.trained.N_sup) if compute is None else compute
        self.compute = compute.for_model(task, model, self.trained.N_sup)
        device = next(self.model.parameters()).device
        self.batch_size = batch_size or _BATCH_SIZE.get(device.type, 256)
        self.precision = pick_precision(precision, device)
        self.names: Mapping[str, int] = {}  # identifiers of ARC tasks, where a file says them
        self._others: dict[int, Solver] = {}  # by the number of cells

    @classmethod
    def load(
        cls,
        path: str | Path,
        compute: Compute | None = None,
        task: Task | str | None = None,
        batch_size: int | None = None,
        device: torch.device | str | None = None,
        precision: Precision = "auto",
        settings: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> "Solver":
        """Open a model file that says what it was trained on, or a shipped model by its name.

        Args:
            path: see ``trm.load``
            compute: see ``Compute``
            task: of a file that does not name it, or its name, such as ``sudoku_9x9``
            batch_size: as above
            device: where to run
            precision: as above
            settings: of a published file, as ``trm.load`` takes them: ``heads``, ``n`` ...
            changes: of ``default_compute``, where ``compute`` is None, such as ``rollouts=8``

        Raises:
            InputError: a file that cannot be opened, or does not name its task while none is given,
                or is of another task; changes of what ``compute`` gives
        """
        if compute is not None and changes:
            raise InputError(f"{min(changes)}=... changes compute, which is given; put it in there")
        opened = open_for(path, task, settings)
        assert opened.task is not None, "open_for refuses otherwise"
        if compute is None:
            compute = default_compute(opened.task, opened.trained.N_sup, **changes)
        solver = cls(
            opened.model, opened.task, compute, opened.trained, batch_size, device, precision
        )
        solver.names = opened.manifest.get("first_identifiers", {})
        return solver

    def __repr__(self) -> str:
        sizes = ", and other sizes" if self.model.any_size else ""
        model = f"{type(self.model).__name__} with {self.model.size:,} parameters"
        return f"Solver({model}, for {self.task.name}{sizes}, {self.compute})"

    def solve(
        self,
        puzzles: str | Sequence[str] | np.ndarray | torch.Tensor,
        puzzle_id: int | Sequence[int] = 0,
    ) -> Solutions:
        """Answer puzzles, in their order.

        A puzzle whose clues contradict each other is not given to the model: it is reported as
        unsolvable. One that is already complete is its own answer. Of several puzzles, one that
        cannot be read has no answer, and a ``problem`` that says why.

        Args:
            puzzles: texts, or one text, of one line or several, see ``trm.tasks.reading``; or whole
                numbers (tokens; for Sudoku also digits, 0 for a blank), an array or tensor of
                (puzzles, cells) or (puzzles, rows, columns), or of one puzzle
            puzzle_id: identifiers, or one for all, for models that have a table of them

        Raises:
            InputError: one text or array of the wrong length or with a foreign symbol or token,
                naming the cell; or identifiers that the model does not have
        """
        one = isinstance(puzzles, str)
        if isinstance(puzzles, np.ndarray | torch.Tensor):
            task = self.of_size(math.prod(puzzles.shape)).task
            one = puzzles.shape in ((task.cells,), task.grid_shape)
        if one:
            return self.solve_tokens([self.tokens(cast(Any, puzzles))], puzzle_id)
        if not isinstance(puzzles, np.ndarray | torch.Tensor | Sequence):
            raise InputError(
                f"a {type(puzzles).__name__} is no puzzle; give a text, an array, or a list of them"
            )
        return self._solve_some(list(puzzles), puzzle_id)

    def trajectory(
        self,
        puzzle: str | np.ndarray | torch.Tensor,
        puzzle_id: int = 0,
        steps: int | None = None,
    ) -> Story:
        """Show how one puzzle is thought about: its plain trajectory, up to the first valid answer.

        Args:
            puzzle: as for ``solve``; nothing is written into it
            puzzle_id: its identifier
            steps: supervision steps at most; None for 16, or as many as in training

        Returns:
            what draws itself in a notebook, and ``trm.report.pictures.draw`` writes as a file; of a
            solved puzzle it knows the solution

        Raises:
            InputError: as ``solve`` does
        """
        x_input = self.tokens(puzzle)
        there = self.of_size(len(x_input))
        task = there.task
        if steps is None:
            steps = default_compute(task, self.trained.N_sup, search=None).max_steps
            assert steps is not None, "a default has it"
        question = torch.from_numpy(x_input)[None]
        ids = torch.tensor(there.identifiers(puzzle_id, 1))
        frames = trajectory_frames(there.model, question, steps, self.trained, ids, self.precision)
        answers = frames.answers[:, 0]
        valid = task.is_valid(question.long().expand(len(answers), -1), answers.long())
        if not (task.has_rules and valid.any()):
            return Story.of(task, x_input, frames)
        last = int(valid.int().argmax())
        return Story.of(task, x_input, frames[: last + 1], y_true=answers[last].numpy())

    def _solve_some(
        self, puzzles: list[Any], puzzle_id: int | Sequence[int] | np.ndarray
    ) -> Solutions:
        """Answer puzzles of a list, of which some may not be readable."""
        ids = self.identifiers(puzzle_id, len(puzzles))
        solutions: dict[int, Solution] = {}
        tokens: dict[int, np.ndarray] = {}
        for place, puzzle in enumerate(puzzles):
            try:
                tokens[place] = self.tokens(puzzle)
            except InputError as error:
                solutions[place] = Solution(str(puzzle), None, None, f"not read: {error}")
        found = self.solve_tokens(list(tokens.values()), ids[list(tokens)])
        solutions |= dict(zip(tokens, found, strict=True))
        return Solutions(solutions[place] for place in range(len(puzzles)))

    def tokens(self, puzzle: str | np.ndarray | torch.Tensor) -> np.ndarray:
        """Encode a puzzle of any size that the model takes, (cells,) uint8; see ``solve``."""
        if isinstance(puzzle, str):
            tokens = self.reader().read_one(puzzle).tokens
            assert tokens is not None, "read_one raises otherwise"
            return tokens
        grid = np.asarray(puzzle.cpu() if isinstance(puzzle, torch.Tensor) else puzzle)
        return self.of_size(grid.size)._checked(grid)

    def reader(self) -> Reader:
        """Return what finds puzzles of the sizes that the model takes in what people write."""

        def of_size(cells: int) -> Task | None:
            there = self.of_size(cells).task
            return there if there.cells == cells else None

        return Reader(self.task, of_size)

    def of_size(self, cells: int) -> "Solver":
        """Return the solver for puzzles of so many cells: the same model, if it has any size.

        The solver itself where model or task have no such size.
        """
        if cells == self.task.cells or not self.model.any_size:
            return self
        if cells not in self._others:
            task = self.task.of_size(cells)
            if task is None:
                return self
            there = copy.copy(self)
            there.task, there.model = task, self.model.on(task.structure)
            self._others[cells] = there
        return self._others[cells]

    def solve_tokens(
        self, tokens: Sequence[np.ndarray], puzzle_id: int | Sequence[int] | np.ndarray = 0
    ) -> Solutions:
        """Answer puzzles given as (cells,) uint8 tokens, of one size or several; see ``solve``."""
        found = dict(self.answers(tokens, puzzle_id))
        return Solutions(found[place] for place in range(len(tokens)))

    def answers(
        self, tokens: Sequence[np.ndarray], puzzle_id: int | Sequence[int] | np.ndarray = 0
    ) -> Iterator[tuple[int, Solution]]:
        """Yield the place of each puzzle and its answer as soon as it is found, in any order.

        Args:
            tokens: as for ``solve_tokens``
            puzzle_id: as for ``solve``

        Raises:
            InputError: identifiers that the model does not have
        """
        ids = self.identifiers(puzzle_id, len(tokens))
        for cells in sorted({len(grid) for grid in tokens}):
            places = [place for place, grid in enumerate(tokens) if len(grid) == cells]
            some = [tokens[place] for place in places]
            for i, solution in self.of_size(cells)._answers(some, ids[places]):
                yield places[i], solution

    def _answers(
        self, tokens: Sequence[np.ndarray], ids: np.ndarray
    ) -> Iterator[tuple[int, Solution]]:
        start = time.perf_counter()
        unsolved = []
        for i, grid in enumerate(tokens):
            if (solution := self._without_model(grid)) is None:
                unsolved.append(i)
            else:
                yield i, solution
        if not unsolved:
            return
        x_input = torch.from_numpy(np.stack([tokens[i] for i in unsolved]))
        puzzle_ids = torch.from_numpy(ids[unsolved])
        arguments = self.compute, self.trained, self.batch_size, self.precision
        for step in rollout(self.model, self.task, x_input, puzzle_ids, *arguments):
            time_s = time.perf_counter() - start
            for place, solution in self._solutions(step, x_input):
                yield unsolved[place], replace(solution, time_s=time_s)

    def identifiers(self, puzzle_id: int | Sequence[int] | np.ndarray, puzzles: int) -> np.ndarray:
        """Return one identifier per puzzle, (puzzles,) int64.

        Raises:
            InputError: another number of them than of puzzles, or rows that the model does not have
        """
        ids = np.asarray(puzzle_id, dtype=np.int64)
        if ids.ndim and len(ids) != puzzles:
            raise InputError(f"{len(ids)} identifiers for {puzzles} puzzles; give one for each")
        table = self.model.identifiers
        if table is not None:
            rows = len(table.weights)
            unknown = ids[(ids < 0) | (ids >= rows)]
            if unknown.size:
                raise InputError(
                    f"identifier {unknown.flat[0]} is none of the model's, 0 ... {rows - 1}"
                )
        return np.broadcast_to(ids, puzzles)

    def _checked(self, grid: np.ndarray) -> np.ndarray:
        """Check the tokens of a puzzle that is no text; return (cells,) uint8."""
        task = self.task
        if not np.issubdtype(grid.dtype, np.integer) or grid.size != task.cells:
            raise InputError(
                f"a puzzle has shape {grid.shape} of {grid.dtype}; {task.name} takes text, or "
                f"{task.cells} whole tokens"
            )
        return task.from_numbers(grid.ravel().astype(np.int64)).astype(np.uint8)

    def _without_model(self, x_input: np.ndarray) -> Solution | None:
        """Say what needs no thinking: contradictions, and puzzles that are complete."""
        text = self.task.decode(x_input)
        if not self.task.has_rules:
            return None
        if problem := self.task.explain(x_input):
            return Solution(text, None, False, f"unsolvable: {problem}", task=self.task)
        grid = torch.from_numpy(x_input).long()[None]
        if self.task.is_valid(grid, grid).item():
            return Solution(text, text, True, "already solved", task=self.task)
        return None

    def _solutions(
        self, step: RolloutStep, x_input: torch.Tensor
    ) -> Iterator[tuple[int, Solution]]:
        """Make solutions of the puzzles that leave with this step, with their numbers."""
        rows = step.ended.nonzero()[:, 0]
        at = rows, step.choice[rows]
        signals = step.signals[at]
        plain = zip(
            step.index[rows].tolist(),
            step.y[at].to(torch.uint8).cpu().numpy(),
            signals.valid.tolist(),
            signals.halting.sigmoid().tolist(),
            signals.confidence.tolist(),
            step.steps[rows].tolist(),
            step.pins[at].tolist(),
            step.guesses[at].tolist(),
            step.restarts[at].tolist(),
            strict=True,
        )
        for place, y, valid, halting, confidence, steps, pins, guesses, restarts in plain:
            question, is_wrong = x_input[place].numpy(), self.task.has_rules and not valid
            answer, problem = (
                self._unsolved(question, y) if is_wrong else (self.task.decode(y), None)
            )
            yield (
                place,
                Solution(
                    self.task.decode(question),
                    answer,
                    valid if self.task.has_rules else None,
                    problem,
                    halting,
                    confidence,
                    steps,
                    steps * self.compute.trajectories,
                    pins,
                    guesses,
                    restarts,
                    task=self.task,
                ),
            )

    def _unsolved(self, question: np.ndarray, y: np.ndarray) -> tuple[str | None, str]:
        """Return what to show of an answer that breaks the rules, and what to say."""
        if self.task.has_answer(question) is False:
            return None, "unsolvable: no answer keeps what is given and the rules"
        return self.task.decode(y), f"not solved: {self.task.explain(question, y)}"
