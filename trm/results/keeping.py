"""Where the numbers of an evaluation are kept if nobody says where."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from trm.checkpoints.native import best_of
from trm.results.files import write_json
from trm.support.errors import InputError
from trm.support.files import timestamp


def run_of(checkpoint: str | Path) -> Path | None:
    """Return the folder of the run that a checkpoint lies in, None of what lies in none."""
    folder = best_of(Path(checkpoint).expanduser()).parent.parent
    return folder if os.path.isfile(folder / "config.yaml") else None


def keep(contents: dict[str, Any], checkpoint: str, task_name: str) -> Path | None:
    """Write the numbers of an evaluation into a new file; nothing is ever overwritten.

    It is ``evaluation.json`` in the numbered folder of a multirun's job, else
    ``evaluations/<date>_<time>.json`` in the folder of the checkpoint's run, and where there is no
    run, or its folder lets nobody write, ``logs/<task>/evaluations/<date>_<time>.json``.

    Args:
        contents: plain types
        checkpoint: as the command was given it
        task_name: such as ``sudoku_9x9``

    Returns:
        the file; None if all these places are closed
    """
    for file in _places(checkpoint, task_name):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(exist_ok=False)
        except OSError:
            continue
        try:
            write_json(file, contents)
        except InputError:
            file.unlink(missing_ok=True)
        else:
            return file
    return None


def _places(checkpoint: str, task_name: str) -> Iterator[Path]:
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        yield Path(HydraConfig.get().runtime.output_dir, "evaluation.json")
    name = f"{timestamp()}.json"
    if run := run_of(checkpoint):
        yield run / "evaluations" / name
    yield Path("logs", task_name, "evaluations", name)
