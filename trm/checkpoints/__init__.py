"""Files that hold trained models."""

from trm.checkpoints.native import Checkpoint, load, read

__all__ = ["Checkpoint", "load", "read"]
