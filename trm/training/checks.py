"""Check of a training config: what no constructor looks at."""

from typing import Any

from trm.data.puzzles import PuzzleData
from trm.models.recursion import RecursiveModel
from trm.support.build import check_types
from trm.support.errors import InputError, check_at_least, check_choice
from trm.tasks.base import Task
from trm.training.module import validated

_TYPES: dict[str, Any] = {
    **dict.fromkeys(("task", "data", "model", "optimizer", "recursion", "train", "trainer"), dict),
    **dict.fromkeys(("checkpoint", "footprint", "test"), dict),
    **dict.fromkeys(("ema", "logger", "callbacks", "objective"), dict | None),
    **dict.fromkeys(("run_dir", "ckpt_path", "init_from"), str | None),
    "seed": int,
}


def check_config(config: dict[str, Any]) -> None:
    """Refuse a config ``train`` that would fail later or mean something else.

    Args:
        config: resolved, plain types

    Raises:
        InputError: naming the first bad key
    """
    if gone := _TYPES.keys() - config.keys():
        raise InputError(f"config key {min(gone)} is gone; set {min(gone)}=null instead")
    check_types(config, _TYPES)
    check_types(config["test"], {"limit": int | None}, "test.")
    steps = {"max_steps": int, "val_check_interval": int}
    check_types(config["trainer"], steps, "trainer.")
    check_at_least(1, "trainer.", **{name: config["trainer"][name] for name in steps})
    if config["model"].get("n") == 0:
        raise InputError("model.n=0 never shows the puzzle to the network; take n=1 or more")
    clip, precision = config["train"]["gradient_clip"], str(config["trainer"]["precision"])
    if clip is not None and precision.startswith("16"):
        raise InputError(
            f"train.gradient_clip={clip} would clip gradients that trainer.precision={precision} "
            "has scaled; take bf16-mixed, or train.gradient_clip=null"
        )
    if config["ema"] is not None and precision in ("bf16-true", "16-true"):
        raise InputError(
            f"trainer.precision={precision} keeps weights too coarsely for the small steps of an "
            "average; take bf16-mixed, or ema=null"
        )
    if config["trainer"]["limit_val_batches"] == 0:
        raise InputError(
            "trainer.limit_val_batches=0 leaves nothing to choose the best checkpoint by; take 1"
        )
    if config["test"]["limit"] is not None and config["test"]["limit"] < 0:
        raise InputError(f"test.limit={config['test']['limit']} must be 0 or more, or null for all")
    if not 0 <= config["seed"] < 2**32:
        raise InputError(f"seed={config['seed']} must lie between 0 and 2^32 - 1")
    _check_saving(config["checkpoint"])
    footprint = config["footprint"]
    check_types(footprint, {"watts": float | None, "co2_g_per_kwh": float}, "footprint.")
    for name, value in footprint.items():
        if value is not None and value <= 0:
            raise InputError(f"footprint.{name}={value} must be positive")


def check_monitors(config: dict[str, Any], task: Task) -> None:
    """Refuse to watch a metric that the task does not have.

    Raises:
        InputError: naming the metric and those there are
    """
    known = validated(task)
    for name, watcher in (
        {"checkpoint": config["checkpoint"]} | (config["callbacks"] or {})
    ).items():
        monitor = watcher.get("monitor", known[0])
        check_choice(known, f"{name}.", monitor=monitor)


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


def check_processes(config: dict[str, Any], processes: int) -> None:
    """Refuse what several processes cannot share.

    Args:
        config: its section ``train``
        processes: that train together

    Raises:
        InputError: saying what to set instead
    """
    if config["batch_size"] % processes:
        raise InputError(
            f"train.batch_size={config['batch_size']} cannot be split evenly over {processes} "
            f"processes; take a multiple of {processes}"
        )
    if config["identifiers_only"] and processes > 1:
        raise InputError(
            "train.identifiers_only=true leaves the processes no gradient to average; take "
            "trainer.devices=1"
        )


def _check_saving(config: dict[str, Any]) -> None:
    known = {
        "monitor": str,
        "mode": str,
        "every_n_steps": int | None,
        "light": bool,
        "moments": bool,
    }
    if odd := config.keys() ^ known.keys():
        raise InputError(
            f"checkpoint.{min(odd)} does not exist or is gone; it has {', '.join(known)}"
        )
    check_types(config, known, "checkpoint.")
    check_choice(("min", "max"), "checkpoint.", mode=config["mode"])
    if config["every_n_steps"] is not None and config["every_n_steps"] < 1:
        raise InputError(
            f"checkpoint.every_n_steps={config['every_n_steps']} must be at least 1, or null"
        )
    if not config["moments"] and not config["light"]:
        raise InputError("checkpoint.moments=false needs checkpoint.light=true")
