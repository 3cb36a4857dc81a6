"""Puzzles as arrays with a manifest, and batches as a pure function of (seed, step)."""

from trm.data.arc.builder import from_arc
from trm.data.files import from_folder, from_hub
from trm.data.generated import generated
from trm.data.puzzles import PuzzleData, PuzzleSet
from trm.data.sampler import Batch, Sampler

__all__ = [
    "Batch",
    "PuzzleData",
    "PuzzleSet",
    "Sampler",
    "from_arc",
    "from_folder",
    "from_hub",
    "generated",
]
