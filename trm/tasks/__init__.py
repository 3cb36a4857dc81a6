"""What a puzzle is: vocabulary, shape, symmetries, rules and looks. One file per task."""

from trm.tasks.arc import Arc
from trm.tasks.base import PAD, Symmetry, Task
from trm.tasks.maze import Maze
from trm.tasks.sudoku import Sudoku

__all__ = ["PAD", "Arc", "Maze", "Sudoku", "Symmetry", "Task"]
