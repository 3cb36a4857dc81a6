"""The parts of a training run, made from its config."""

import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, get_args

import torch
from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from trm.checkpoints.native import Checkpoint
from trm.data.loading import load_data
from trm.data.module import PuzzleDataModule
from trm.data.puzzles import PuzzleData
from trm.models.recursion import RecursiveModel
from trm.support.build import annotations, build, check_arguments, check_types, locate, nearest
from trm.support.devices import best_kind, pick_precision
from trm.support.errors import InputError
from trm.support.sections import Section
from trm.tasks.base import Task
from trm.training.checks import check_processes
from trm.training.config import TrainerSettings, TrainingConfig
from trm.training.ema import EMA
from trm.training.module import DeepSupervision, MakeOptimizer
from trm.training.objectives import Objective
from trm.training.progress import TrainingProgress
from trm.training.saving import AtomicCheckpointIO, LastCheckpoint


class KeptFiles(NamedTuple):
    """What keeps the checkpoints of a run."""

    best: ModelCheckpoint
    last: LastCheckpoint


def training_module(
    config: TrainingConfig | Section, task: Task, model: RecursiveModel
) -> DeepSupervision:
    """Make the LightningModule.

    Raises:
        InputError: a value it refuses
    """
    config = TrainingConfig.of(config)
    settings = config.train.settings
    check_arguments(DeepSupervision, settings, "train")
    optimizer = _optimizer(config.optimizer, model)
    objective = None
    if config.objective:
        objective = build(config.objective, Objective, "objective", **task.structure)
    return DeepSupervision(model, task, optimizer, objective, seed=config.seed, **settings)


def data_module(
    config: TrainingConfig | Section,
    task: Task,
    data: PuzzleData,
    others: Sequence[tuple[Task, PuzzleData]] = (),
) -> PuzzleDataModule:
    """Make the data module; ``others`` are further sizes, as ``other_sizes`` loads them."""
    config = TrainingConfig.of(config)
    settings = config.train.batches
    settings["small_first"] = config.trainer.max_steps if settings["small_first"] else None
    return PuzzleDataModule(data, task, seed=config.seed, others=others, **settings)


def other_sizes(config: TrainingConfig, module: DeepSupervision) -> list[tuple[Task, PuzzleData]]:
    """Load the puzzles of further sizes to train on, and tell the module of them.

    Raises:
        InputError: a model that has one size, or two sizes with the same number of cells
    """
    others = []
    for each in config.of_other_sizes():
        task = build(each.task, Task, "task")
        module.add_size(task)
        others.append((task, load_data(each.data, task)))
    return others


def averaging(config: TrainingConfig | Section) -> list[Callback]:
    """Make the callback that averages the weights, if one is wanted."""
    ema = TrainingConfig.of(config).ema
    return [] if ema is None else [EMA(ema.decay)]


def kept_files(config: TrainingConfig, folder: Path, resumed: Checkpoint | None) -> KeptFiles:
    """Make the callbacks that keep the best weights and the last in a run's folder."""
    checkpoints = folder / "checkpoints"
    last_path = checkpoints / "last.ckpt"
    best = ModelCheckpoint(
        checkpoints,
        "best",
        monitor=config.checkpoint.monitor,
        mode=config.checkpoint.mode,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )
    last = LastCheckpoint(
        last_path,
        config.checkpoint.every_n_steps,
        config.train.log_every_n_steps,
        step=resumed.step if resumed and resumed.path == last_path.resolve() else 0,
    )
    return KeptFiles(best, last)


def lightning_trainer(config: TrainingConfig, folder: Path, callbacks: list[Callback]) -> Trainer:
    """Make Lightning's trainer, which keeps everything in a run's folder.

    Raises:
        InputError: a value that its callbacks refuse, or what its processes cannot share
    """
    callbacks = [TrainingProgress(config.train.batch_size), *callbacks, *averaging(config)]
    callbacks += instantiate(config.callbacks or {}, _convert_="all").values()
    trainer: Trainer = instantiate(
        config.trainer.plain,
        precision=precision(config.trainer),
        log_every_n_steps=config.train.log_every_n_steps,
        default_root_dir=str(folder),
        callbacks=callbacks,
        logger=[
            instantiate(_identified(logger, folder), save_dir=str(folder), _convert_="all")
            for logger in (config.logger or {}).values()
            if logger is not None
        ],
        plugins=[AtomicCheckpointIO(config.checkpoint.light, config.checkpoint.moments)],
        _convert_="all",
    )
    check_processes(config.train, trainer.world_size)
    return trainer


def _identified(logger: Any, folder: Path) -> Any:
    """Give a run one identity with Weights & Biases, however often it is continued."""
    if not isinstance(logger, dict) or not str(logger.get("_target_")).endswith("WandbLogger"):
        return logger
    known: Section = {"id": hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]}
    return known | ({} if logger.get("offline") else {"resume": "allow"}) | logger


def precision(trainer: TrainerSettings) -> Any:
    """Resolve ``auto`` to what the device of a section ``trainer`` is fast at."""
    if trainer.precision != "auto":
        return trainer.precision
    kind = best_kind() if trainer.accelerator == "auto" else str(trainer.accelerator)
    kind = {"gpu": "cuda"}.get(kind, kind)
    # What is not here, or what Lightning alone knows, is Lightning's to refuse or to run.
    is_here = kind == "cpu" or kind == best_kind()
    return pick_precision("auto", torch.device(kind)) if is_here else "32-true"


def _optimizer(config: Section, model: RecursiveModel) -> MakeOptimizer:
    """Make the function that makes the optimizer from named parameters, and try it on the model."""
    try:
        _check_optimizer(config)
        make: MakeOptimizer = instantiate(config, _convert_="all")
        make(model.named_parameters())
    except InputError:
        raise
    except Exception as error:  # each optimizer refuses bad values in its own way
        reason = " ".join(str(error).split())
        raise InputError(f"optimizer: {reason}") from None
    return make


def _check_optimizer(config: Section) -> None:
    """Refuse arguments of a wrong type, by the annotations of the target or else its defaults."""
    target = locate(str(config.get("_target_")), "optimizer")
    known, hints = inspect.signature(target).parameters, annotations(target)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    given = {name: value for name, value in config.items() if not name.startswith("_")}
    check_types(given, hints, "optimizer.")
    for name, value in given.items():
        if name not in known and not takes_any:
            raise InputError(
                f"optimizer: {target.__name__} takes no {name}; {nearest(name, known)}"
            )
        default = known[name].default if name in known else None
        may_be_none = NoneType in get_args(hints.get(name, Any | None))
        if not _is_like(value, default) and not (value is None and may_be_none):
            raise InputError(
                f"optimizer.{name}={value!r} must be of the same type as its default, {default}"
            )


def _is_like(value: Any, default: Any) -> bool:
    """Tell whether a value is as plain as a default: a number, a word, so many numbers."""
    if isinstance(default, tuple | list):
        is_row = isinstance(value, tuple | list) and len(value) == len(default)
        return is_row and all(map(_is_like, value, default))
    if isinstance(default, bool | str):
        return isinstance(value, type(default))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number or not isinstance(default, int | float)
