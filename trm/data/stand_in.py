"""Puzzles that stand in for data that is not at hand, to measure speed and nothing else."""

from typing import Any

import numpy as np

from trm.data.arc.builder import ArcBuilder
from trm.data.arc.files import ArcTask
from trm.data.puzzles import PuzzleData, PuzzleSet
from trm.tasks.arc import COLOURS, Arc
from trm.tasks.base import Task

_PUZZLES = 256
_TASKS = 8


def stand_in(task: Task, config: dict[str, Any]) -> PuzzleData:
    """Make puzzles of a task's shape, as many augmentations of each as the data would have.

    Of ``config``, the section ``data`` of a config, ``augmentations`` alone counts.
    """
    augmentations = config.get("augmentations")
    if isinstance(task, Arc):
        return _arc(1000 if augmentations is None else augmentations)
    # Cells at random are no puzzle, but cost what puzzles cost.
    random = np.random.default_rng(0)
    tokens = random.integers(1, task.vocab_size, (2, _PUZZLES, task.cells), dtype=np.uint8)
    puzzles = PuzzleSet.of(*tokens)
    splits = {"train": puzzles, "val": puzzles[:8], "test": puzzles[:8]}
    return PuzzleData(splits, augmentations, {"sha256": "", "counts": {}}, 1)


def _arc(augmentations: int) -> PuzzleData:
    builder = ArcBuilder(augmentations, seed=0)
    for number in range(_TASKS):
        random = np.random.default_rng(number)
        grids = random.integers(0, COLOURS, (7, 10 + 2 * number, 20), dtype=np.uint8)
        pairs = [(grids[0], grids[1]), (grids[2], grids[3]), (grids[4], grids[5])]
        task = ArcTask(f"stand_in_{number}", pairs, [grids[6]], [grids[0]])
        builder.add(task, role=("test", "val", "train")[min(number, 2)])
    return builder.data("stand-ins", shared=0)
