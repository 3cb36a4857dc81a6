"""Layouts of model files, one file each; ``trm.checkpoints.opening`` tries them in this order."""

from trm.checkpoints.layouts.base import Layout, Opened
from trm.checkpoints.layouts.folder import Folder
from trm.checkpoints.layouts.published import Published
from trm.checkpoints.layouts.run import Run
from trm.checkpoints.layouts.shipped import Shipped

BUILT_IN: tuple[Layout, ...] = (Published(), Run(), Folder(), Shipped())

__all__ = ["BUILT_IN", "Folder", "Layout", "Opened", "Published", "Run", "Shipped"]
