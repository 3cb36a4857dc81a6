"""Does an export answer as its model does, and how fast?"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
import torch

from trm.data.puzzles import Puzzles
from trm.data.sampler import Batch
from trm.export.runner import Exported
from trm.models.recursion import RecursiveModel, State, trajectory
from trm.support.errors import InputError
from trm.tasks.base import Task

BATCH = 64
_REPEATS = {1: 21, BATCH: 5}


@dataclass(frozen=True)
class Agreement:
    """How an export and the float model differ, each going its own way through all steps.

    Attributes:
        puzzles: compared
        steps: supervision steps
        equal_by_step: share of puzzles whose answers are equal after each step
        float_accuracy: exact accuracy of the model after the last step
        exported_accuracy: of the export
        first_difference: largest absolute difference of ``y_hat`` after the first step
        largest_difference: after any; recursion lets small ones grow where it does not settle
    """

    puzzles: int
    steps: int
    equal_by_step: list[float]
    float_accuracy: float
    exported_accuracy: float
    first_difference: float
    largest_difference: float

    def check(self, tolerance: float, same_answers: bool) -> None:
        """Refuse an export that has lost too much.

        Args:
            tolerance: share of the puzzles
            same_answers: whether the weights were kept, so that other answers are a fault even
                where both are wrong

        Raises:
            InputError: accuracy falls, or if asked for answers differ, on more than ``tolerance``
        """
        most = tolerance * self.puzzles + 1e-9
        remedy = f"more than --tolerance={tolerance:g}; nothing was written"
        if round((self.float_accuracy - self.exported_accuracy) * self.puzzles) > most:
            raise InputError(
                f"accuracy falls from {self.float_accuracy:.4f} to {self.exported_accuracy:.4f} on "
                f"{self.puzzles} puzzles, {remedy}"
            )
        other = round((1 - self.equal_by_step[-1]) * self.puzzles)
        if same_answers and other > most:
            raise InputError(f"{other} of {self.puzzles} final answers are others, {remedy}")


@torch.inference_mode()
def compare(
    model: RecursiveModel,
    exported: Exported,
    task: Task,
    puzzles: Puzzles,
    steps: int,
    on_batch: Callable[[int], None] = lambda done: None,
) -> Agreement:
    """Let both answer the same puzzles, one or more, all with labels.

    The model is in eval mode and on the CPU; ``on_batch`` gets the number of puzzles done.
    """
    equal = np.zeros(steps)
    differences = np.zeros(steps)
    solved = np.zeros(2)
    for first in range(0, len(puzzles), BATCH):
        batch = Batch.of(puzzles[first : first + BATCH])
        x_input, puzzle_id = batch.x_input.numpy(), batch.puzzle_id.numpy()
        y, z = exported.start(len(batch))
        for k, step in enumerate(trajectory(model, batch.x_input, batch.puzzle_id, steps)):
            exported_step = exported.step(x_input, y, z, puzzle_id)
            y, z = exported_step.y, exported_step.z
            theirs = torch.from_numpy(exported_step.y_hat)
            answers = step.y_hat.argmax(-1), theirs.argmax(-1)
            equal[k] += (answers[0] == answers[1]).all(1).sum().item()
            differences[k] = max(differences[k], (step.y_hat - theirs).abs().max().item())
        solved += [
            task.is_solution(batch.x_input, answer, batch.y_true).sum().item() for answer in answers
        ]
        on_batch(min(first + BATCH, len(puzzles)))
    count = len(puzzles)
    return Agreement(
        puzzles=count,
        steps=steps,
        equal_by_step=(equal / count).tolist(),
        float_accuracy=float(solved[0] / count),
        exported_accuracy=float(solved[1] / count),
        first_difference=float(differences[0]),
        largest_difference=float(differences.max()),
    )


@torch.inference_mode()
def latencies(
    model: RecursiveModel, exported: Exported, x_input: torch.Tensor
) -> dict[str, dict[str, float]]:
    """Time one supervision step of both, in turns: milliseconds per puzzle, by batch size.

    The model is in eval mode and on the CPU; ``x_input`` is (puzzles, cells) int64, not empty.
    """
    latency: dict[str, dict[str, float]] = {"float": {}, "exported": {}}
    for size, repeats in _REPEATS.items():
        tokens = x_input[torch.arange(size) % len(x_input)]
        ids = torch.zeros(size, dtype=torch.int64)
        y, z = exported.start(size)
        state = State(torch.from_numpy(y), torch.from_numpy(z))
        grids = tokens.numpy()
        calls: dict[str, Callable[[], object]] = {
            "float": partial(model, tokens, ids, state),
            "exported": partial(exported.step, grids, y, z),
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(repeats + 1):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
        for name, seconds in times.items():  # the first warms up
            latency[name][str(size)] = round(1000 * median(seconds[1:]) / size, 4)
    return latency
