"""Evaluate a checkpoint: ``python -m trm.evaluate checkpoint=... limit=200``."""

import os
import time
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress

from trm.build import check_types
from trm.checkpoints import native
from trm.commands import load_data, run_command
from trm.data.puzzles import PuzzleSet
from trm.errors import InputError
from trm.inference.evaluation import evaluate
from trm.report.results import FORMAT, birth_certificate, write_json
from trm.report.tables import accuracies, result_table
from trm.report.thinking import thinking
from trm.tasks.base import Task

_TYPES: dict[str, Any] = {
    **dict.fromkeys(("checkpoint", "output"), str | None),
    **dict.fromkeys(("limit", "N_sup"), int | None),
    **dict.fromkeys(("split", "device"), str),
    "batch_size": int,
    "data": dict,
}


def run_evaluation(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate, print the table, and return the numbers.

    Args:
        cfg: the composed config ``evaluate``

    Raises:
        InputError: a checkpoint or data that cannot be read or do not fit together
    """
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    _check(config)
    start = time.perf_counter()
    checkpoint = native.read(config["checkpoint"])
    task, model = checkpoint.task(), checkpoint.model()
    device = pick_device(config["device"])
    puzzles, manifest = _puzzles(config, checkpoint.config["data"], task)
    trained_steps = 1 if model.one_pass else checkpoint.config["train"]["N_sup"]
    steps = trained_steps if config["N_sup"] is None else config["N_sup"]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("evaluating", total=len(puzzles))
        evaluation = evaluate(
            model,
            task,
            puzzles,
            steps,
            config["batch_size"],
            device,
            on_batch=lambda done: progress.update(bar, completed=done),
        )
    result = {
        "format": FORMAT,
        "task": task.name,
        "checkpoint": str(checkpoint.path),
        "parameters": model.size,
        "trained_steps": checkpoint.step,
        "split": config["split"],
        "N_sup": steps,
        "seed": checkpoint.config.get("seed"),
        "device": str(device),
        "wall_time_s": round(time.perf_counter() - start, 3),
        "evaluation": accuracies(evaluation),
        "trained_with": checkpoint.config,
        "manifest": manifest,
        "certificate": birth_certificate(device),
    }
    console = Console()
    title = (
        f"{task.name}: {len(puzzles)} {config['split']} puzzles, {result['parameters']:,} "
        f"parameters, trained {checkpoint.step} steps, {evaluation.wall_time_s:.0f} s on {device}"
    )
    console.print(result_table(evaluation, title))
    console.print(thinking(task, puzzles, evaluation))
    if config["output"] is not None:
        write_json(Path(config["output"]), result)
    return result


def _check(config: dict[str, Any]) -> None:
    check_types(config, _TYPES)
    if config["checkpoint"] is None:
        raise InputError(
            "checkpoint=null names no file; give checkpoint=logs/.../checkpoints/best.ckpt"
        )
    if config["N_sup"] is not None and config["N_sup"] < 1:
        raise InputError(f"N_sup={config['N_sup']} must be at least 1, or null for as trained")
    if config["batch_size"] < 1:
        raise InputError(f"batch_size={config['batch_size']} must be at least 1")
    if config["output"] is not None:
        output = Path(config["output"])
        if output.is_dir() or not os.access(output.parent, os.W_OK):
            raise InputError(f"output={output} cannot be written; name a file in a folder of yours")


def pick_device(name: str) -> torch.device:
    """Resolve ``auto`` to the best device there is.

    Raises:
        InputError: no such device here
    """
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        torch.ones(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = str(error).strip().partition("\n")[0]
        raise InputError(f"device={name} cannot be used ({said}); device=cpu always can") from None
    return torch.device(name)


def _puzzles(
    config: dict[str, Any], trained_on: dict[str, Any], task: Task
) -> tuple[PuzzleSet, dict[str, Any]]:
    source = dict(config["data"])
    if "_target_" not in source:
        path = source["path"]
        source = trained_on if path is None else trained_on | {"path": path}
    data = load_data(source, task)
    if config["split"] not in data.splits:
        raise InputError(f"split={config['split']} must be one of {', '.join(data.splits)}")
    puzzles = data.splits[config["split"]]
    limit = config["limit"]
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit} must be at least 1, or null for all {len(puzzles)}")
    return puzzles[:limit], data.manifest


def _main(cfg: DictConfig) -> float:
    """Return the exact accuracy after the last step, for sweeps."""
    accuracy: float = run_evaluation(cfg)["evaluation"][-1]["exact_accuracy"]
    return accuracy


if __name__ == "__main__":
    run_command(_main, "evaluate")
