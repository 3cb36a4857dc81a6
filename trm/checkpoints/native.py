"""The library's own checkpoint: a Lightning file that also says how to rebuild the model.

Beside Lightning's own keys it holds plain types under ``trm``: the format version, the resolved
config and the data manifest. ``state_dict`` has the weights that were validated (the EMA, if
there is one), ``current_model_state`` those the optimizer steps. Nothing needs pickled classes,
so the file opens with ``weights_only=True``.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trm.checkpoints.torch_files import read_torch
from trm.models.recursion import RecursiveModel
from trm.support.build import build
from trm.support.devices import machine_memory
from trm.support.errors import InputError
from trm.tasks.base import Task

FORMAT = 1  # raise it when a file of the old format can no longer be read as it is
_SECTIONS = ("task", "model", "data", "train")  # of the config, without which no run can be rebuilt
_PREFIX = "model."  # of the network's keys inside the LightningModule


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        path: where it was read
        contents: everything in the file
    """

    path: Path
    contents: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config of the run."""
        return self.contents["trm"]["config"]

    @property
    def step(self) -> int:
        """Optimizer steps taken."""
        return int(self.contents.get("global_step", 0))

    @property
    def trained_on(self) -> str:
        """Name of the task of the run."""
        return str(self.contents["trm"]["manifest"].get("task"))

    @property
    def overrides(self) -> list[str]:
        """Command line of the run."""
        return [str(text) for text in self.contents["trm"].get("overrides", [])]

    @property
    def is_light(self) -> bool:
        """Whether the puzzles in hand were left out."""
        return "carry" not in self.contents

    @property
    def clock(self) -> dict[str, float]:
        """What the training behind it took: seconds on the wall and of the processor, joules."""
        card = self.contents["trm"]
        return {name: card.get(name, 0.0) for name in ("wall_time_s", "cpu_time_s", "energy_j")}

    @property
    def weights(self) -> dict[str, Tensor]:
        """Validated weights of the network."""
        state = self.contents["state_dict"].items()
        return {
            name.removeprefix(_PREFIX): tensor
            for name, tensor in state
            if isinstance(name, str) and name.startswith(_PREFIX) and isinstance(tensor, Tensor)
        }

    def task(self) -> Task:
        """Rebuild the task."""
        return build(self.config["task"], Task, "task")

    def model(self) -> RecursiveModel:
        """Rebuild the model with the validated weights, in eval mode.

        Raises:
            InputError: weights that do not fit the config
        """
        task, weights = self.task(), self.weights
        # Whatever the config says, it costs no memory before it fits.
        empty = empty_model(self.config["model"], task)
        check_fits(empty, shapes_of(weights), f"{self.path} (of a run on {self.trained_on})")
        model = build_model(self.config["model"], task)
        load_weights(model, self)
        return model.eval()


def metadata(
    config: dict[str, Any], manifest: dict[str, Any], overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what goes under ``trm`` in a new checkpoint.

    Args:
        config: resolved, of the run
        manifest: of its data
        overrides: of its command line, so that it can be continued without repeating them
    """
    contents = {"config": config, "manifest": manifest, "overrides": list(overrides)}
    return {"format": FORMAT, **contents}


def build_model(config: dict[str, Any], task: Task) -> RecursiveModel:
    """Make the model of a config for a task, with fresh weights.

    The constructor gets what its arguments name of ``Task.structure``.

    Raises:
        InputError: a config that cannot be, or a model larger than this machine's memory
    """
    empty = empty_model(config, task)
    needed = 4 * (empty.size + (empty.identifiers.weights.numel() if empty.identifiers else 0))
    memory = machine_memory()
    if memory is not None and needed > memory:
        raise InputError(
            f"the model needs {needed / 1e9:.1f} GB, this machine has {memory / 1e9:.1f}; make "
            f"model.dim, model.layers or model.identifiers smaller"
        )
    return _build(config, task)


def empty_model(config: dict[str, Any], task: Task) -> RecursiveModel:
    """Make the model of a config without weights: it costs neither memory nor random numbers."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return _build(config, task)


def _build(config: dict[str, Any], task: Task) -> RecursiveModel:
    try:
        return build(config, RecursiveModel, "model", **task.structure)
    except InputError:
        raise
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"the model of this config cannot be made: {reason}") from error


def read(path: str | Path) -> Checkpoint:
    """Open a checkpoint of a run; no code in it is run.

    Raises:
        InputError: no such file, a truncated file, or no checkpoint of this library
    """
    path = best_of(Path(path).expanduser())
    contents = read_torch(path)
    check_format(contents, path)
    return Checkpoint(path, contents)


def best_of(path: Path) -> Path:
    """Return the best checkpoint of a run whose folder is given; other paths as they are."""
    best = path / "checkpoints" / "best.ckpt"
    return best if os.path.isfile(best) else path


def check_format(contents: Any, path: Path) -> None:
    """Refuse what is no checkpoint of this library, or one of another format.

    Raises:
        InputError: saying which
    """
    if not isinstance(contents, dict) or not isinstance(contents.get("trm"), dict):
        raise InputError(
            f"{path} is a torch file, but no checkpoint of this library: no key 'trm'; of a model "
            f"that this library has, the state_dict alone is opened"
        )
    card = contents["trm"]
    if card.get("format") != FORMAT:
        raise InputError(
            f"checkpoint {path} has format {card.get('format')}, this version reads {FORMAT}; "
            f"use the version of trm that wrote it"
        )
    config = card.get("config")
    there = {
        "trm.config": config,
        "trm.manifest": card.get("manifest"),
        "state_dict": contents.get("state_dict"),
        **{f"trm.config.{k}": isinstance(config, dict) and config.get(k) for k in _SECTIONS},
    }
    for name, value in there.items():
        if not isinstance(value, dict):
            raise InputError(f"checkpoint {path} is damaged: {name} is missing")


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Return the shapes of tensors by their names, as ``check_fits`` takes them."""
    return {name: tensor.shape for name, tensor in weights.items()}


def check_fits(model: RecursiveModel, shapes: Mapping[str, Sequence[int]], file: str) -> None:
    """Refuse weights of other names or shapes than a model's.

    Raises:
        InputError: naming the first
    """
    own = shapes_of(model.state_dict())
    for name in sorted(own.keys() | shapes.keys()):
        mine, theirs = (tuple(d[name]) if name in d else "absent" for d in (own, shapes))
        if mine != theirs:
            raise InputError(
                f"{file} does not fit the model: {name} is {theirs} in the file and {mine} in the "
                f"model"
            )


def load_weights(model: RecursiveModel, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's validated weights into a model, identifier rows included.

    Raises:
        InputError: a missing or surplus key or another shape, naming the first
    """
    weights, file = checkpoint.weights, f"{checkpoint.path} (of a run on {checkpoint.trained_on})"
    check_fits(model, shapes_of(weights), file)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:  # a tensor of a type that cannot be copied
        raise InputError(f"{file} does not fit the model: {error}") from None
    copy_rows(model, checkpoint.contents.get("identifiers"), file)


def copy_rows(model: RecursiveModel, saved: Any, file: str) -> None:
    """Put a file's identifier rows into a model that has a table.

    Raises:
        InputError: rows of another number or width
    """
    if model.identifiers is None or saved is None:
        return  # a file's model without a prefix: rows start at zero, as they do anyway
    table = model.identifiers.weights
    if not isinstance(saved, Tensor) or saved.shape != table.shape:
        raise InputError(
            f"{file} does not fit the model: identifier rows are "
            f"{tuple(getattr(saved, 'shape', ()))} in the file, {tuple(table.shape)} in the model"
        )
    table.copy_(saved)
