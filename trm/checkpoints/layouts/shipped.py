"""The models that come with this package, by their names."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trm.checkpoints.layouts.base import Layout, Opened
from trm.checkpoints.layouts.folder import Folder

_FOLDER = Path(__file__).parents[2] / "pretrained"


def shipped() -> list[str]:
    """Return the names of the models that the package brings along."""
    return sorted(card.parent.name for card in _FOLDER.glob("*/config.json"))


class Shipped(Layout):
    """A name such as ``sudoku-6x6`` or ``sudoku_6x6``; a file or folder of that name goes first."""

    name = "model that comes with trm"

    def claims(self, path: Path) -> bool:
        """Take the names of ``shipped``."""
        return _name(path) in shipped() and not os.path.exists(path)

    def read(self, path: Path, settings: Mapping[str, Any]) -> Opened:
        """Open the folder in the package."""
        return Folder().read(_FOLDER / _name(path), settings)


def _name(path: Path) -> str:
    return str(path).lower().replace("_", "-")
