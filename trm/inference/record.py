"""What every step of every trajectory gave; any smaller amount of compute is read off it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trm.data.puzzles import Puzzles, Rows
from trm.inference.compute import Compute
from trm.inference.evaluation import Evaluation, cell_shares
from trm.inference.rollouts import RolloutStep, rollout
from trm.inference.selectors import Signals, Stop, candidates, select_trajectory
from trm.models.recursion import RecursiveModel, Trained
from trm.support.errors import check_at_least
from trm.tasks.base import Task


@dataclass(frozen=True)
class Outcome:
    """What one amount of compute comes to.

    Attributes:
        hits: for each of the task's measures, the puzzles of which it is true, (puzzles,) bool
        cell: share of cells right, (puzzles,) float32
        steps: supervision steps over all trajectories, (puzzles,) int64
    """

    hits: dict[str, Tensor]
    cell: Tensor
    steps: Tensor


@dataclass(frozen=True)
class EvaluationRecord:
    """An evaluation in all its parts; tensors are (steps, puzzles, R) on the CPU.

    A puzzle that ended keeps what its last step gave.

    Attributes:
        compute: as it was run
        hits: for each of the task's measures, bool
        cell: share of cells right, float32
        signals: by which trajectories are chosen
        end: supervision steps each puzzle took, (puzzles,) int64
        first_answers: what would be answered after each step to the first puzzles,
            (steps, first, cells) uint8
        wall_time_s: seconds, loading included
        parts: names of the parts of the state, as residuals are counted
    """

    compute: Compute
    hits: dict[str, Tensor]
    cell: Tensor
    signals: Signals
    end: Tensor
    first_answers: Tensor
    wall_time_s: float
    parts: tuple[str, ...] = ("y", "z")

    @property
    def puzzles(self) -> int:
        """How many puzzles were evaluated."""
        return len(self.end)

    @property
    def steps(self) -> int:
        """Supervision steps of those that took the most."""
        return len(self.cell)

    @property
    def seconds_per_step(self) -> float:
        """Wall time per supervision step of one trajectory."""
        return self.wall_time_s / max(1, int(self.end.sum()) * self.compute.trajectories)

    def outcome(
        self,
        steps: int | None = None,
        trajectories: int | None = None,
        select: str | None = None,
        stop: Stop | None = None,
        sure: float | None = None,
    ) -> Outcome:
        """Return what less compute, or another choice, would have given.

        Args:
            steps: at most; None for as many as were run, as with the others
            trajectories: the first so many
            select: see ``Compute``
            stop: see ``Compute``; another one than was run can be asked only of a run to the end
            sure: see ``Compute``
        """
        stop = self.compute.stop if stop is None else stop
        was_run = stop == self.compute.stop or (self.compute.stop == "all" and stop != "all_valid")
        assert was_run, "neither steps that were not run nor answers kept can be read off"
        signals = self.signals[:steps, :, :trajectories]
        among = candidates(stop, self.compute.sure if sure is None else sure, signals)
        ends = among.any(-1)
        last = torch.where(ends.any(0), ends.int().argmax(0), len(ends) - 1)
        at = last, torch.arange(self.puzzles)
        select = self.compute.select if select is None else select
        choice = select_trajectory(select, signals[at], among[at])
        return Outcome(
            {name: hit[(*at, choice)] for name, hit in self.hits.items()},
            self.cell[(*at, choice)],
            (last + 1) * signals.halting.shape[-1],
        )

    def by_step(self) -> Evaluation:
        """Return the hits with at most 1, 2, ... supervision steps."""
        after = [self.outcome(steps=k + 1) for k in range(self.steps)]
        return Evaluation(
            self.puzzles,
            {name: [int(one.hits[name].sum()) for one in after] for name in self.hits},
            [one.cell.double().sum().item() for one in after],
            self.first_answers,
            self.wall_time_s,
            after[-1].hits["exact"],
        )


def record_evaluation(
    model: RecursiveModel,
    task: Task,
    puzzles: Puzzles,
    compute: Compute,
    trained: Trained,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    on_batch: Callable[[int], None] = lambda done: None,
    precision: str = "auto",
) -> EvaluationRecord:
    """Evaluate a model on puzzles with any amount of compute, and keep what each step gave.

    Memory grows by about 40 bytes per puzzle, step and trajectory.

    Args:
        model: put into eval mode and onto ``device``
        task: knows what is exact, what is valid
        puzzles: with labels
        compute: how much to think
        trained: how the model was trained
        batch_size: trajectories at once
        device: where to run
        on_batch: told how many puzzles are done
        precision: see ``trm.support.devices.autocast``

    Raises:
        InputError: ``batch_size`` below 1, or a choice that the task does not allow
    """
    check_at_least(1, batch_size=batch_size)
    model = model.to(device).eval()
    start = time.perf_counter()
    compute = compute.for_model(task, model, trained.N_sup)
    assert compute.max_steps is not None, "for_model fills it in"
    rows = puzzles.on(device)
    x_input, _, puzzle_id = rows(torch.arange(len(puzzles), device=device))
    shape = compute.max_steps, len(puzzles), compute.trajectories
    parts = tuple(name for name, _ in model.initial_state(1).features())
    builder = _RecordBuilder(task, rows, shape, parts, batch_size)
    done = 0
    arguments = model, task, x_input, puzzle_id, compute, trained, batch_size, precision
    for step in rollout(*arguments):
        builder.add(step)
        done += int(step.ended.sum())
        on_batch(done)
    return builder.record(compute, time.perf_counter() - start)


class _RecordBuilder:
    """A record in the making."""

    def __init__(
        self,
        task: Task,
        rows: Rows,
        shape: tuple[int, int, int],
        parts: tuple[str, ...],
        first: int,
    ) -> None:
        self.task, self.rows, self.parts = task, rows, parts
        self.hits = {name: torch.zeros(shape, dtype=torch.bool) for name in task.measures}
        self.cell = torch.zeros(shape)
        self.signals = Signals(
            halting=torch.zeros(shape),
            residuals=torch.zeros(*shape, len(parts)),
            confidence=torch.zeros(shape),
            valid=torch.zeros(shape, dtype=torch.bool),
            cost=torch.zeros(shape),
            answer=torch.zeros(shape, dtype=torch.int64),
        )
        self.before = torch.zeros(*shape[1:], task.cells, dtype=torch.uint8)
        self.end = torch.zeros(shape[1], dtype=torch.int64)
        self.answers = torch.zeros(shape[0], min(first, shape[1]), task.cells, dtype=torch.uint8)

    def add(self, step: RolloutStep) -> None:
        """Judge a step's answers and write them down."""
        R = step.y.shape[1]
        x_input, y_true, _ = (row.long() for row in self.rows(step.index.repeat_interleave(R)))
        y = step.y.flatten(0, 1)
        index, steps = step.index.cpu(), step.steps.cpu()
        at = steps - 1, index
        # Most answers settle, and to judge a maze takes longer than a pass.
        answer = step.y.to("cpu", torch.uint8)
        changed = (answer != self.before[index]).any(-1) | (steps == 1)[:, None]
        self.before[index] = answer
        anew = changed.flatten().to(y.device)
        judged = self.task.judge(x_input[anew], y[anew], y_true[anew])
        for name, hits in self.hits.items():
            settled = hits[(steps - 2).clamp(min=0), index]
            hits[at] = settled.masked_scatter(changed, judged[name].cpu())
        self.cell[at] = cell_shares(y, y_true).view(-1, R).cpu()
        for (_, table), (_, signal) in zip(
            self.signals.tensors(), step.signals.tensors(), strict=True
        ):
            table[at] = signal.cpu()
        self.end[index] = steps
        shown = index < self.answers.shape[1]
        rows = torch.arange(len(index))[shown]
        self.answers[at[0][shown], index[shown]] = answer[rows, step.choice.cpu()[rows]]

    def record(self, compute: Compute, wall_time_s: float) -> EvaluationRecord:
        """Repeat the last step of puzzles that ended, and cut off steps that none took."""
        step = torch.arange(int(self.end.max()))[:, None]
        at = torch.minimum(step, self.end - 1), torch.arange(len(self.end))
        first = tuple(index[..., : self.answers.shape[1]] for index in at)
        return EvaluationRecord(
            compute,
            {name: hit[at] for name, hit in self.hits.items()},
            self.cell[at],
            self.signals[at],
            self.end,
            self.answers[first],
            wall_time_s,
            self.parts,
        )
