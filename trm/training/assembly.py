"""The parts of a training run, made from its config."""

from typing import Any

from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback

from trm.data.module import PuzzleDataModule
from trm.data.puzzles import PuzzleData
from trm.models.recursion import RecursiveModel
from trm.support.build import build, check_arguments
from trm.support.devices import pick_device, pick_precision
from trm.support.errors import InputError
from trm.tasks.base import Task
from trm.training.ema import EMA
from trm.training.module import DeepSupervision, MakeOptimizer
from trm.training.objectives import Objective

_BATCH_SIZES = ("batch_size", "eval_batch_size")  # of the section train, for the data module


def training_module(config: dict[str, Any], task: Task, model: RecursiveModel) -> DeepSupervision:
    """Make the LightningModule.

    Raises:
        InputError: a value it refuses, or a batch size of the wrong type
    """
    batch_sizes = {name: config["train"][name] for name in _BATCH_SIZES}
    settings = {name: value for name, value in config["train"].items() if name not in batch_sizes}
    check_arguments(PuzzleDataModule, batch_sizes, "train")
    check_arguments(DeepSupervision, settings, "train")
    optimizer = _optimizer(config["optimizer"], model)
    objective = config.get("objective") and build(config["objective"], Objective, "objective")
    return DeepSupervision(model, task, optimizer, objective, seed=config["seed"], **settings)


def data_module(config: dict[str, Any], task: Task, data: PuzzleData) -> PuzzleDataModule:
    """Make the data module; its arguments were checked with the others of the section."""
    batch_sizes = {name: config["train"][name] for name in _BATCH_SIZES}
    return PuzzleDataModule(data, task, seed=config["seed"], **batch_sizes)


def averaging(config: dict[str, Any]) -> list[Callback]:
    """Make the callback that averages the weights, if one is wanted."""
    if config["ema"] is None:
        return []
    check_arguments(EMA, config["ema"], "ema")
    return [EMA(**config["ema"])]


def precision(trainer: dict[str, Any]) -> Any:
    """Resolve ``auto`` to what the device of a section ``trainer`` is fast at."""
    if trainer["precision"] != "auto":
        return trainer["precision"]
    name = {"gpu": "cuda"}.get(trainer["accelerator"], trainer["accelerator"])
    try:
        return pick_precision("auto", pick_device(name))
    except InputError:  # what Lightning alone knows, or will refuse
        return "32-true"


def _optimizer(config: dict[str, Any], model: RecursiveModel) -> MakeOptimizer:
    """Make the function that makes the optimizer from named parameters, and try it on the model."""
    try:
        make: MakeOptimizer = instantiate(config, _convert_="all")
        make(model.named_parameters())
    except InputError:
        raise
    except Exception as error:  # each optimizer refuses bad values in its own way
        said = " ".join(str(error).split())
        raise InputError(f"optimizer: {said}") from None
    return make
