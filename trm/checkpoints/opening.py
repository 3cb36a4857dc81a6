"""One door for every file that holds a model: ``load``, and what ``describe`` prints."""

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from trm.build import build
from trm.checkpoints import native, published
from trm.errors import InputError
from trm.models.recursion import RecursiveModel, Trained
from trm.tasks.base import Task

_FOLDER_FORMAT = 1  # of config.json beside model.safetensors
_SHIPPED = Path(__file__).parents[1] / "pretrained"


@dataclass(frozen=True)
class Opened:
    """A model and what its file says of it.

    Attributes:
        model: ready, in eval mode
        layout: what kind of file it was
        task: the task it was trained on, if the file says
        step: optimizer steps it was trained for, if the file says
        config: resolved, of the run that trained it, or empty
        manifest: of the data it was trained on, or empty
        assumed: one sentence for every setting that the file did not say
    """

    model: RecursiveModel
    layout: str
    task: Task | None = None
    step: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)

    @property
    def trained(self) -> Trained:
        """How it was trained; as in the paper where the file does not say."""
        train = self.config.get("train", {})
        return Trained(
            train.get("N_sup", Trained.N_sup),
            train.get("halting") or self.model.halting,
            train.get("loss", Trained.loss),
        )


def load(
    path: str | Path,
    *,
    task: Task | None = None,
    heads: int | None = None,
    n: int | None = None,
    T: int | None = None,
    prefix_len: int | None = None,
    seq_len: int | None = None,
    positions: str | None = None,
    identifiers: Sequence[int | str] | None = None,
) -> RecursiveModel:
    """Return the model that a file or folder holds, in eval mode.

    Opens checkpoints of this library (with the weights that were validated), folders written by
    ``trm.save``, and the published layouts of TRM and HRM. No code in a file is run. What a
    published file does not say is assumed as in the released configurations, with a warning.

    Args:
        path: a file, a folder with ``model.safetensors``, the folder of a run (its best checkpoint
            is taken), or the name of a model that comes with this package, such as ``sudoku-6x6``
        task: gives ``seq_len`` to a published file
        heads: of a published file, as the next five; what is given is not assumed
        n: latent recursions
        T: recursion cycles
        prefix_len: positions that hold the identifier
        seq_len: cells of the grid
        positions: ``rotary`` or ``none``
        identifiers: identifier rows of a published file to keep, by number or, with an
            ``identifiers.json`` beside it, by name; None for all, ``[]`` for none

    Raises:
        InputError: a file that is missing, broken, dangerous, or holds another kind of model
    """
    given = {
        "heads": heads,
        "n": n,
        "T": T,
        "prefix_len": prefix_len,
        "seq_len": task.cells if task is not None and seq_len is None else seq_len,
        "positions": positions,
    }
    opened = open_model(path, given, identifiers)
    if opened.assumed:
        warnings.warn(f"{path}: assumed {'; '.join(opened.assumed)}", stacklevel=2)
    return opened.model


def save(
    model: RecursiveModel,
    path: str | Path,
    task: Task | None = None,
    run: dict[str, Any] | None = None,
) -> None:
    """Write a model into a folder: ``model.safetensors`` and ``config.json``.

    Args:
        model: any model of this library
        path: a folder, made if need be; ``load`` and ``from_pretrained`` open it
        task: what it was trained on, so that readers know
        run: that trained it, as ``config``, ``manifest`` and ``step``; plain types
    """
    config = {"format": _FOLDER_FORMAT, **model.settings()}
    if task is not None:
        config["task"] = task.settings()
    if run is not None:
        config["run"] = run
    model.save_pretrained(Path(path), config=config)


def open_model(
    path: str | Path, given: dict[str, Any], identifiers: Sequence[int | str] | None = None
) -> Opened:
    """Open a file or folder; arguments and errors as for ``load``."""
    path = _found(path)
    try:
        return _open_folder(path) if path.is_dir() else _open_file(path, given, identifiers)
    except InputError:
        raise
    except Exception as error:  # whatever a reader trips over, the file is at fault
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{path} is damaged, or made to look like a model ({said})") from error


def shipped() -> list[str]:
    """Return the names of the models that the package brings along."""
    return sorted(card.parent.name for card in _SHIPPED.glob("*/config.json"))


def _found(path: str | Path) -> Path:
    """Return where a model lies; a name that is no file may be one of ``shipped``."""
    given = native.best_of(Path(path).expanduser())
    if os.path.exists(given) or len(given.parts) != 1 or given.suffix:
        return given
    if given.name not in shipped():
        raise InputError(
            f"checkpoint {path} does not exist; give a file, a folder, or one of the models that "
            f"come with trm: {', '.join(shipped())}"
        )
    return _SHIPPED / given


def _open_file(
    path: Path, given: dict[str, Any], identifiers: Sequence[int | str] | None
) -> Opened:
    contents = native.read_torch(path)
    if published.is_published(contents):
        found = published.from_published(contents, path, given, identifiers)
        return Opened(found.model, "published state dict", assumed=found.assumed)
    native.check_format(contents, path)
    checkpoint = native.Checkpoint(path, contents)
    manifest = contents["trm"]["manifest"]
    return Opened(
        checkpoint.model(),
        "checkpoint of a run",
        checkpoint.task(),
        checkpoint.step,
        checkpoint.config,
        manifest,
    )


def _open_folder(folder: Path) -> Opened:
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        made_with, target, task = config.get("format"), config.get("_target_"), config.get("task")
        run = {"step": None, "config": {}, "manifest": {}} | config.get("run", {})
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{file} cannot be read ({error}); trm.save writes such folders") from None
    if made_with != _FOLDER_FORMAT or target is None:
        raise InputError(
            f"{file} has format {made_with}, this version reads {_FOLDER_FORMAT}; write the folder "
            f"with trm.save"
        )
    arguments = {k: v for k, v in config.items() if k not in ("format", "task", "run")}
    weights = folder / "model.safetensors"
    try:
        shapes = _shapes(weights)
        with torch.device("meta"):  # whatever the config says, it costs no memory before it fits
            empty = build(arguments, RecursiveModel, str(file))
        native.check_fits(empty, shapes, str(weights))
        # from_pretrained would do, but prints on the standard output, which is for answers.
        model = build(arguments, RecursiveModel, str(file)).eval()
        model.load_folder(folder)
    except (SafetensorError, OSError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: model.safetensors does not fit config.json: {said}") from None
    task = task and build(task, Task, f"{file} task")
    return Opened(model, "safetensors folder", task, **run)


def _shapes(file: Path) -> dict[str, list[int]]:
    with safe_open(file, framework="pt") as weights:
        return {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
