"""Checks of a training config that need its task, its model, its data or its processes."""

from trm.data.puzzles import PuzzleData
from trm.models.recursion import RecursiveModel
from trm.support.errors import InputError, check_choice
from trm.tasks.base import Task
from trm.training.config import Supervision, TrainingConfig
from trm.training.module import validated


def check_monitors(config: TrainingConfig, task: Task) -> None:
    """Refuse to watch a metric that the task does not have.

    Raises:
        InputError: naming the metric and those there are
    """
    known = validated(task)
    check_choice(known, "checkpoint.", monitor=config.checkpoint.monitor)
    for name, watcher in (config.callbacks or {}).items():
        check_choice(known, f"{name}.", monitor=watcher.get("monitor", known[0]))


def check_identifiers(model: RecursiveModel, data: PuzzleData) -> None:
    """Refuse a table with fewer rows than the data has identifiers.

    Raises:
        InputError: saying how many it needs
    """
    table = model.identifiers
    if table is not None and len(table.weights) < data.identifiers:
        raise InputError(
            f"model.identifiers={len(table.weights)} is too few for this data, which has "
            f"{data.identifiers}; model.identifiers=null takes as many as there are"
        )
    if table is None and data.identifiers > 1:
        raise InputError(
            "this data tells its tasks apart by identifiers; give the model positions for them "
            "with model.prefix_len and model.identifiers=null"
        )


def check_processes(train: Supervision, processes: int) -> None:
    """Refuse what several processes cannot share.

    Args:
        train: section of the config
        processes: that train together

    Raises:
        InputError: saying what to set instead
    """
    if train.batch_size % processes:
        raise InputError(
            f"train.batch_size={train.batch_size} cannot be split evenly over {processes} "
            f"processes; take a multiple of {processes}"
        )
    if train.identifiers_only and processes > 1:
        raise InputError(
            "train.identifiers_only=true leaves the processes no gradient to average; take "
            "trainer.devices=1"
        )
