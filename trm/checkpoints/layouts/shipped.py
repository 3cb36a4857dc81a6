"""The models that come with this package, by their names."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trm.checkpoints.layouts.base import Layout, Opened
from trm.checkpoints.layouts.folder import Folder

_log = logging.getLogger(__name__)
_FOLDER = Path(__file__).parents[2] / "pretrained"


def shipped() -> list[str]:
    """Return the names of the models that the package brings along."""
    return sorted(card.parent.name for card in _FOLDER.glob("*/config.json"))


class Shipped(Layout):
    """A name such as ``sudoku-6x6`` or ``sudoku_6x6``; a file or model of that name goes first."""

    name = "model that comes with trm"

    def claims(self, path: Path) -> bool:
        """Take the names of ``shipped``; a folder of mazes may well be called maze, too."""
        return _name(path) in shipped() and not os.path.isfile(path)

    def read(self, path: Path, settings: Mapping[str, Any]) -> Opened:
        """Open the folder in the package."""
        if os.path.isdir(path):
            _log.warning(f"warning: the folder {path} here holds no model; {path} of trm is taken")
        return Folder().read(_FOLDER / _name(path), settings)


def _name(path: Path) -> str:
    return str(path).lower().replace("_", "-")
