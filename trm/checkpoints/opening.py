"""One door for every file that holds a model: ``load`` and ``save``, whatever its layout."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from trm.checkpoints import native
from trm.checkpoints.layouts import BUILT_IN, Folder, Layout, Opened
from trm.checkpoints.layouts.folder import PARTS
from trm.checkpoints.layouts.shipped import shipped
from trm.models.recursion import RecursiveModel
from trm.support.build import build
from trm.support.errors import InputError
from trm.tasks import task_named
from trm.tasks.base import Task

__all__ = ["Opened", "load", "load_into", "open_for", "open_model", "save", "shipped"]

_LEAVE_NO_TRACE = "heads", "n", "T", "positions"  # settings that no shape tells


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
    layout: Layout | str | None = None,
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
        layout: one of your own, tried before the built-in ones, or its class as
            ``package.module.Name``; see docs/own_layout.md

    Raises:
        InputError: a file that is missing, broken, dangerous, or holds another kind of model
    """
    settings = {
        "heads": heads,
        "n": n,
        "T": T,
        "prefix_len": prefix_len,
        "seq_len": task.cells if task is not None and seq_len is None else seq_len,
        "positions": positions,
    }
    opened = open_model(path, settings, identifiers, layout)
    if opened.assumed:
        warnings.warn(f"{path}: assumed {'; '.join(opened.assumed)}", stacklevel=2)
    return opened.model


def save(
    model: RecursiveModel,
    path: str | Path,
    task: Task | None = None,
    run: dict[str, Any] | None = None,
    layout: Layout | str | None = None,
) -> None:
    """Write a model into a folder: ``model.safetensors`` and ``config.json``.

    Args:
        model: any model of this library
        path: a folder, made if need be; ``load`` and ``from_pretrained`` open it
        task: what it was trained on, so that readers know
        run: that trained it, as ``config``, ``manifest`` and ``step``; plain types
        layout: to write instead, as for ``load``

    Raises:
        InputError: a model or place that the layout cannot write
    """
    chosen = _made(layout) or Folder()
    chosen.write(Opened(model, chosen.name, task, **run or {}), Path(path))


def open_model(
    path: str | Path,
    settings: dict[str, Any],
    identifiers: Sequence[int | str] | None = None,
    layout: Layout | str | None = None,
) -> Opened:
    """Open a file or folder by the first layout that claims it; arguments as for ``load``.

    Raises:
        InputError: as ``load``, and what no layout claims
    """
    own = _made(layout)
    layouts = BUILT_IN if own is None else (own, *BUILT_IN)
    everything = {**settings, "identifiers": identifiers}
    path = Path(path).expanduser()
    try:
        for tried in layouts:
            if tried.claims(path):
                return tried.read(path, {k: v for k, v in everything.items() if v is not None})
        raise _unclaimed(path, layouts)
    except InputError:
        raise
    except Exception as error:  # whatever a reader trips over, the file is at fault
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{path} is damaged, or made to look like a model ({reason})") from error


def open_for(
    path: str | Path,
    task: "Task | str | Mapping[str, Any] | None" = None,
    settings: Mapping[str, Any] | None = None,
) -> Opened:
    """Open a model for puzzles: those it was trained on, or others that it can answer.

    Args:
        path: see ``load``
        task: itself, its name (``sudoku_9x9``), or changes of the file's own (``{"side": 12}``);
            None for the file's own
        settings: as ``load`` takes them, where the file does not say

    Raises:
        InputError: as ``load``; a task that the model is not made for, or none where the file has
            none
    """
    known = None if task is None else _whole(task)
    sized = {"seq_len": known.cells} if known is not None else {}
    given = {name: value for name, value in (settings or {}).items() if value is not None}
    opened = open_model(path, sized | given)
    if isinstance(task, Mapping) and known is None and opened.task is not None:
        known = build({**opened.task.settings(), **task}, Task, "task")
    known = opened.task if known is None else known
    if known is None:
        raise InputError(
            f"{path} does not say what its puzzles are; give the task, sudoku_9x9, maze_30x30 or "
            f"arc, as task=... or --task"
        )
    check_made_for(opened.model, known)
    return replace(opened, task=known, model=opened.model.on(known.structure))


def load_into(model: RecursiveModel, path: str | Path, task: Task, with_rows: bool = True) -> None:
    """Put the weights of a file into a model, identifier rows included if wanted.

    Args:
        model: of the same architecture; what a published file does not say is taken from it
        path: see ``load``
        task: of the model
        with_rows: whether the file's identifier rows are wanted

    Raises:
        InputError: as ``load``, or weights that do not fit, naming the first
    """
    mine = model.settings()
    said = {name: mine[name] for name in _LEAVE_NO_TRACE if mine.get(name) is not None}
    opened = open_model(path, {"seq_len": task.cells, **said})
    other, whose = opened.model, opened.task.name if opened.task else "puzzles it does not name"
    file = f"{path} (of a run on {whose})"
    if (theirs := getattr(other, "prefix_len", 0)) != (own := getattr(model, "prefix_len", 0)):
        raise InputError(
            f"{file} has {theirs} positions in front of the grid, the model {own}; set "
            f"model.prefix_len={theirs}"
        )
    weights = other.state_dict()
    native.check_fits(model, native.shapes_of(weights), file)
    model.load_state_dict(weights)
    if other.identifiers is not None and with_rows:
        native.copy_rows(model, other.identifiers.weights, file)


def check_made_for(model: RecursiveModel, task: Task) -> None:
    """Refuse a model that was made for puzzles of another size.

    Raises:
        InputError: naming the sizes
    """
    if model.any_size:
        return
    settings = model.settings()
    for name, value in {"seq_len": task.cells, "vocab_size": task.vocab_size}.items():
        if settings.get(name, value) != value:
            raise InputError(
                f"the model has {name}={settings[name]}, {task.name} needs {value}; give the task "
                f"that it was trained on"
            )


def _whole(task: Task | str | Mapping[str, Any]) -> Task | None:
    """Return a task that is said as a whole, not by changes of a file's own."""
    if isinstance(task, Mapping):
        return build(task, Task, "task") if "_target_" in task else None
    return task_named(task) if isinstance(task, str) else task


def _made(layout: Layout | str | None) -> Layout | None:
    return build({"_target_": layout}, Layout, "layout") if isinstance(layout, str) else layout


def _unclaimed(path: Path, layouts: Sequence[Layout]) -> InputError:
    if not os.path.exists(path):  # which raises nothing, whatever the path
        close = get_close_matches(str(path).lower().replace("_", "-"), shipped(), n=1)
        meant = f"did you mean {close[0]}? G" if close else "g"
        return InputError(
            f"checkpoint {path} does not exist; {meant}ive a file, a folder, or one of the models "
            f"that come with trm: {', '.join(shipped())}"
        )
    if path.name in PARTS and Folder().claims(path.parent):
        return InputError(f"{path} is a part of a model; give its folder, {path.parent}")
    tried = ", ".join(layout.name for layout in layouts)
    return InputError(
        f"{path} is of no known layout (tried: {tried}); in Python, trm.load takes one of your own "
        f"as layout=..."
    )
