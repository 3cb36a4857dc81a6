"""Accuracy after every supervision step, counted as a stream."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trm.data.puzzles import PuzzleSet
from trm.data.sampler import Batch
from trm.errors import InputError
from trm.models.recursion import RecursiveModel, trajectory
from trm.tasks.base import PAD, Task


@dataclass(frozen=True)
class Evaluation:
    """Hits after each supervision step; item ``k - 1`` belongs to step ``k``.

    Attributes:
        n: puzzles
        exact: puzzles with every cell right
        valid: puzzles whose answer obeys the rules, whatever the label says
        cell: sum over puzzles of the share of cells right
        wall_time_s: seconds, loading included
    """

    n: int
    exact: list[int]
    valid: list[int]
    cell: list[float]
    wall_time_s: float = 0.0

    @classmethod
    def of(cls, counts: Tensor, n: int, wall_time_s: float = 0.0) -> "Evaluation":
        """Read what ``count_right`` summed, (steps, 3), off the device."""
        exact, valid, cell = counts.T.tolist()
        return cls(n, [round(k) for k in exact], [round(k) for k in valid], cell, wall_time_s)

    @property
    def shown_steps(self) -> list[int]:
        """Steps worth a row in a table: 1, 2, 4, ... and the last."""
        last = len(self.exact)
        return sorted({2**i for i in range(last.bit_length()) if 2**i <= last} | {last})


@torch.inference_mode()
def count_right(model: RecursiveModel, task: Task, batch: Batch, steps: int) -> Tensor:
    """Sum exact, valid and cell accuracy over a batch after each step: (steps, 3) float64."""
    labelled = batch.y_true != PAD
    counts = []
    for step in trajectory(model, batch.x_input, batch.puzzle_id, steps):
        y = step.y_hat.argmax(-1)
        exact = task.is_solution(batch.x_input, y, batch.y_true)
        valid = task.is_valid(batch.x_input, y)
        cell = ((y == batch.y_true) & labelled).sum(1) / labelled.sum(1).clamp(min=1)
        counts.append(torch.stack([exact.sum(), valid.sum(), cell.sum()]))
    return torch.stack(counts).cpu().double()


def evaluate(
    model: RecursiveModel,
    task: Task,
    puzzles: PuzzleSet,
    steps: int,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    on_batch: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Evaluate a model on puzzles; nothing but the counts is kept.

    Args:
        model: put into eval mode and onto ``device``
        task: knows what is exact and what is valid
        puzzles: with labels
        steps: supervision steps to run; may exceed those of training
        batch_size: puzzles at once
        device: where to run
        on_batch: told how many puzzles are done

    Raises:
        InputError: ``steps`` or ``batch_size`` below 1
    """
    if steps < 1 or batch_size < 1:
        raise InputError(f"steps={steps} and batch_size={batch_size} must be at least 1")
    model = model.to(device).eval()
    start = time.perf_counter()
    counts = torch.zeros(steps, 3, dtype=torch.float64)
    for first in range(0, len(puzzles), batch_size):
        batch = Batch.of(puzzles[first : first + batch_size], device)
        counts += count_right(model, task, batch, steps)
        on_batch(min(first + batch_size, len(puzzles)))
    return Evaluation.of(counts, len(puzzles), time.perf_counter() - start)
