"""What a puzzle is: vocabulary, shape, symmetries, rules and looks. One file per task."""

import re

from trm.support.errors import InputError
from trm.tasks.arc import Arc
from trm.tasks.base import PAD, Symmetry, Task
from trm.tasks.maze import Maze
from trm.tasks.sudoku import Sudoku

__all__ = ["PAD", "Arc", "Maze", "Sudoku", "Symmetry", "Task", "task_named"]


def task_named(name: str) -> Task:
    """Return the task of a name as results have it: ``sudoku_9x9``, ``maze_30x30``, ``arc``.

    ``sudoku`` and ``maze`` alone are those; a hyphen is as good as an underscore.

    Raises:
        InputError: there is no such task
    """
    kind, _, size = name.strip().lower().replace("-", "_").partition("_")
    sides = re.fullmatch(r"(\d{1,4})x(\d{1,4})", size or _USUAL.get(kind, ""))
    if kind == "arc" and not size:
        return Arc()
    task: Task | None = None
    if sides is not None and kind in _USUAL:
        rows, columns = map(int, sides.groups())
        task = (Sudoku() if kind == "sudoku" else Maze()).of_size(rows * columns)
    if task is None or task.grid_shape != (rows, columns):
        raise InputError(
            f"task={name} is none of sudoku_9x9 (or another size), maze_30x30 (likewise) and arc"
        )
    return task


_USUAL = {"sudoku": "9x9", "maze": "30x30"}  # sizes of the papers
