"""From a section ``data`` of a config to puzzles; needs neither Hydra nor Lightning."""

from typing import Any

from trm.data.puzzles import PuzzleData
from trm.support.build import call
from trm.tasks.base import Task


def load_data(config: dict[str, Any], task: Task) -> PuzzleData:
    """Call the data source that a config names.

    Raises:
        InputError: an unknown source or argument, or data that cannot be read
    """
    return call(config, PuzzleData, "data", task)
