"""Folders written by ``trm.save``: ``model.safetensors`` and ``config.json``."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from trm.checkpoints.layouts.base import Layout, Opened
from trm.checkpoints.native import check_fits
from trm.models.recursion import RecursiveModel
from trm.support.build import build
from trm.support.errors import InputError
from trm.tasks.base import Task

_FORMAT = 1  # of config.json
_NO_RUN: dict[str, Any] = {"step": None, "config": {}, "manifest": {}}
PARTS = _CONFIG, _WEIGHTS = "config.json", "model.safetensors"


class Folder(Layout):
    """What ``save_pretrained`` of huggingface_hub writes, with the task and the run beside."""

    name = "safetensors folder"

    def claims(self, path: Path) -> bool:
        """Take a folder with either file: what lacks the other is told of as such."""
        return any(os.path.isfile(path / name) for name in (_CONFIG, _WEIGHTS))

    def read(self, path: Path, settings: Mapping[str, Any]) -> Opened:
        """Build what ``config.json`` describes once the weights are seen to fit."""
        config = _config(path / _CONFIG)
        task, run = (config.pop(name, None) for name in ("task", "run"))
        model = _model(path, config)
        task = task and build(task, Task, f"{path / _CONFIG} task")
        return Opened(model, self.name, task, **run or {})

    def write(self, opened: Opened, path: Path) -> None:
        """Write any model of this library."""
        config = {"format": _FORMAT, **opened.model.settings()}
        run = {"step": opened.step, "config": opened.config, "manifest": opened.manifest}
        if opened.task is not None:
            config["task"] = opened.task.settings()
        if run != _NO_RUN:
            config["run"] = run
        opened.model.save_pretrained(path, config=config)


def _config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        made_with = config.pop("format", None)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{file} cannot be read ({error}); trm.save writes such folders") from None
    if made_with != _FORMAT or "_target_" not in config:
        raise InputError(
            f"{file} has format {made_with}, this version reads {_FORMAT}; write the folder with "
            f"trm.save"
        )
    return config


def _model(folder: Path, config: dict[str, Any]) -> RecursiveModel:
    group = str(folder / _CONFIG)
    try:
        with torch.device("meta"):  # whatever the config says, it costs no memory before it fits
            empty = build(config, RecursiveModel, group)
        check_fits(empty, _shapes(folder / _WEIGHTS), str(folder / _WEIGHTS))
        # from_pretrained would do, but prints on the standard output, which is for answers.
        model = build(config, RecursiveModel, group).eval()
        model.load_folder(folder)
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: {_WEIGHTS} does not fit {_CONFIG}: {reason}") from None
    return model


def _shapes(file: Path) -> dict[str, list[int]]:
    with safe_open(file, framework="pt") as weights:
        return {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
