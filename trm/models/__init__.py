"""Networks with one signature: ``model(x_input, puzzle_id, state) -> Step``."""

from trm.models.recursion import RecursiveModel, State, Step, trajectory
from trm.models.trm import TinyRecursiveModel

__all__ = ["RecursiveModel", "State", "Step", "TinyRecursiveModel", "trajectory"]
