"""Files that hold trained models: ours, the published ones, and those of a layout of one's own."""

from trm.checkpoints.layouts import Layout
from trm.checkpoints.opening import Opened, load, save
from trm.checkpoints.published import save_published

__all__ = ["Layout", "Opened", "load", "save", "save_published"]
