"""One door for every file that holds a model: ``load`` and ``save``, whatever its layout."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trm.checkpoints.layouts import BUILT_IN, Folder, Layout, Opened
from trm.checkpoints.layouts.shipped import shipped
from trm.models.recursion import RecursiveModel
from trm.support.build import build
from trm.support.errors import InputError
from trm.tasks.base import Task

__all__ = ["Opened", "load", "open_model", "save", "shipped"]


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


def _made(layout: Layout | str | None) -> Layout | None:
    return build({"_target_": layout}, Layout, "layout") if isinstance(layout, str) else layout


def _unclaimed(path: Path, layouts: Sequence[Layout]) -> InputError:
    if not os.path.exists(path):  # which raises nothing, whatever the path
        return InputError(
            f"checkpoint {path} does not exist; give a file, a folder, or one of the models that "
            f"come with trm: {', '.join(shipped())}"
        )
    tried = ", ".join(layout.name for layout in layouts)
    return InputError(
        f"{path} is of no known layout (tried: {tried}); name one of your own with layout=..."
    )
