"""Accuracy after every supervision step, counted as a stream."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trm.data.puzzles import Puzzles
from trm.data.sampler import Batch
from trm.models.recursion import RecursiveModel, trajectory
from trm.support import distributed
from trm.support.devices import autocast
from trm.support.errors import check_at_least
from trm.tasks.base import PAD, Task


@dataclass(frozen=True)
class Evaluation:
    """Hits after each supervision step; item ``k - 1`` belongs to step ``k``.

    Attributes:
        n: puzzles
        hits: for each of the task's measures, such as ``exact``, the puzzles of which it is true
        cell: sum over puzzles of the share of cells right
        first_answers: answers to the first puzzles, (steps, batch, cells) uint8
        wall_time_s: seconds, loading included
        solved: which puzzles have every cell right after the last step, (puzzles,) bool
    """

    n: int
    hits: dict[str, list[int]]
    cell: list[float]
    first_answers: Tensor
    wall_time_s: float = 0.0
    solved: Tensor | None = None

    @property
    def shown_steps(self) -> list[int]:
        """Steps worth a row in a table."""
        return doubling(len(self.cell))


def doubling(last: int) -> list[int]:
    """Return 1, 2, 4, ... and the last."""
    return sorted({2**i for i in range(last.bit_length())} | {last})


@torch.inference_mode()
def answers(model: RecursiveModel, batch: Batch, steps: int) -> Tensor:
    """Return the answer after each supervision step as tokens, (steps, batch, cells) uint8."""
    each = trajectory(model, batch.x_input, batch.puzzle_id, steps)
    return torch.stack([step.y_hat.argmax(-1).to(torch.uint8) for step in each])


def cell_shares(y: Tensor, y_true: Tensor) -> Tensor:
    """Return the share of labelled cells right, (batch,) float32, of (batch, cells) tokens."""
    labelled = y_true != PAD
    return ((y == y_true) & labelled).sum(1) / labelled.sum(1).clamp(min=1)


def count_right(task: Task, batch: Batch, y: Tensor) -> Tensor:
    """Sum the task's measures, then the share of cells right: (steps, measures + 1) float32.

    Args:
        task: knows what is exact, what is valid
        batch: the puzzles
        y: what ``answers`` returned for them
    """
    counts, judged, before = [], None, None
    for answer in y.long():
        if before is None or judged is None:
            judged = task.judge(batch.x_input, answer, batch.y_true)
        else:  # most answers settle, and to judge a maze takes longer than a pass
            anew = (answer != before).any(1)
            found = task.judge(batch.x_input[anew], answer[anew], batch.y_true[anew])
            judged = {name: hit.masked_scatter(anew, found[name]) for name, hit in judged.items()}
        before = answer
        hits = [judged[name].sum() for name in task.measures]
        counts.append(torch.stack([*hits, cell_shares(answer, batch.y_true).sum()]))
    return torch.stack(counts)


def evaluate(
    model: RecursiveModel,
    task: Task,
    puzzles: Puzzles,
    steps: int,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    on_batch: Callable[[int], None] = lambda done: None,
    precision: str = "auto",
) -> Evaluation:
    """Evaluate a model after every supervision step, as the papers do.

    Nothing but the counts and one batch of answers is kept; ``trm.inference.record`` keeps more,
    and knows early exit, rollouts and views. The counts stay on the device until the end.

    Where several processes train together, each calls this and evaluates its share of the puzzles.

    Args:
        model: put into eval mode and onto ``device``
        task: knows what is exact, what is valid
        puzzles: with labels
        steps: supervision steps to run; may exceed those of training
        batch_size: puzzles at once
        device: where to run
        on_batch: told how many puzzles are done
        precision: see ``trm.support.devices.autocast``

    Raises:
        InputError: ``steps`` or ``batch_size`` below 1
    """
    check_at_least(1, steps=steps, batch_size=batch_size)
    model = model.to(device).eval()
    start = time.perf_counter()
    counts: list[Tensor] = []
    first_answers = torch.zeros(steps, 0, task.cells, dtype=torch.uint8)
    solved = torch.zeros(len(puzzles), device=device)
    share = distributed.share(len(puzzles))
    mine, mine_solved = puzzles[share], solved[share]
    for first in range(0, len(mine), batch_size):
        here = slice(first, first + batch_size)
        batch = Batch.of(mine[here], device)
        with autocast(device, precision):
            y = answers(model, batch, steps)
        first_answers = first_answers if first else y.cpu()
        counts.append(count_right(task, batch, y))
        mine_solved[here] = task.is_solution(batch.x_input, y[-1].long(), batch.y_true).float()
        on_batch(min(first + batch_size, len(mine)))
    none = torch.zeros(1, steps, len(task.measures) + 1, dtype=torch.float64)
    sums = torch.cat([none, *(count[None].cpu().double() for count in counts)]).sum(0)
    *hits, cell = distributed.summed(sums).T.tolist()
    whole = {name: [round(k) for k in row] for name, row in zip(task.measures, hits, strict=True)}
    by_puzzle = distributed.summed(solved).bool().cpu()
    wall_time_s = time.perf_counter() - start
    return Evaluation(len(puzzles), whole, cell, first_answers, wall_time_s, by_puzzle)
