"""Files that hold trained models, ours and the published ones."""

from trm.checkpoints.opening import Opened, load, save
from trm.checkpoints.published import save_published

__all__ = ["Opened", "load", "save", "save_published"]
