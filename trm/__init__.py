"""Tiny Recursive Models: train, evaluate and look inside (arXiv 2510.04871).

Public names are imported on first use, so ``import trm`` costs nothing and a command that
needs only the model never pays for Lightning or Hydra.
"""

import importlib
from typing import TYPE_CHECKING, Any

from trm.support.version import __version__

_PUBLIC = {
    "InputError": "trm.support.errors",
    "TinyRecursiveModel": "trm.models.trm",
    "Batched": "trm.support.batched",
    "RecursiveModel": "trm.models.recursion",
    "DeepRecursion": "trm.models.trm",
    "State": "trm.models.recursion",
    "Step": "trm.models.recursion",
    "trajectory": "trm.models.recursion",
    "Task": "trm.tasks.base",
    "Sudoku": "trm.tasks.sudoku",
    "Arc": "trm.tasks.arc",
    "Maze": "trm.tasks.maze",
    "HierarchicalReasoningModel": "trm.models.hrm",
    "DirectPrediction": "trm.models.direct",
    "PuzzleData": "trm.data.puzzles",
    "PuzzleSet": "trm.data.puzzles",
    "Objective": "trm.training.objectives",
    "disturbed": "trm.support.batched",
    "CompositeOptimizer": "trm.training.optimizers",
    "Layout": "trm.checkpoints.layouts.base",
    "load": "trm.checkpoints.opening",
    "save": "trm.checkpoints.opening",
    "save_published": "trm.checkpoints.published",
    "Solver": "trm.inference.solver",
    "Solution": "trm.inference.solution",
    "Compute": "trm.inference.compute",
}
__all__ = ["__version__", *sorted(_PUBLIC)]

if TYPE_CHECKING:
    from trm.checkpoints.layouts.base import Layout
    from trm.checkpoints.opening import load, save
    from trm.checkpoints.published import save_published
    from trm.data.puzzles import PuzzleData, PuzzleSet
    from trm.inference.compute import Compute
    from trm.inference.solution import Solution
    from trm.inference.solver import Solver
    from trm.models.direct import DirectPrediction
    from trm.models.hrm import HierarchicalReasoningModel
    from trm.models.recursion import RecursiveModel, State, Step, trajectory
    from trm.models.trm import DeepRecursion, TinyRecursiveModel
    from trm.support.batched import Batched
    from trm.support.errors import InputError
    from trm.tasks.arc import Arc
    from trm.tasks.base import Task
    from trm.tasks.maze import Maze
    from trm.tasks.sudoku import Sudoku
    from trm.training.objectives import Objective
    from trm.training.optimizers import CompositeOptimizer


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'trm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
