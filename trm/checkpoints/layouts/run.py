"""Checkpoints of this library's runs; training writes them, ``native`` says what is in them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trm.checkpoints import native
from trm.checkpoints.layouts.base import Layout, Opened
from trm.checkpoints.torch_files import head


class Run(Layout):
    """A checkpoint, or the folder of a run, whose best checkpoint is taken."""

    name = "checkpoint of a run"

    def claims(self, path: Path) -> bool:
        """Take every torch file, and what is named like one: a broken one is told of as such."""
        path = native.best_of(path)
        return bool(head(path)) or (path.suffix == ".ckpt" and os.path.isfile(path))

    def read(self, path: Path, settings: Mapping[str, Any]) -> Opened:
        """Rebuild the model of the run, with the weights that were validated."""
        checkpoint = native.read(path)
        manifest = checkpoint.contents["trm"]["manifest"]
        return Opened(
            checkpoint.model(),
            self.name,
            checkpoint.task(),
            checkpoint.step,
            checkpoint.config,
            manifest,
        )
