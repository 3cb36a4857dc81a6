"""Evaluate a checkpoint: ``python -m trm.evaluate checkpoint=... limit=200``."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress

from trm.build import check_types
from trm.checkpoints import native
from trm.commands import load_data, run_command
from trm.data.puzzles import PuzzleData
from trm.devices import pick_device
from trm.errors import InputError
from trm.inference.arc_voting import score, submission, vote
from trm.inference.evaluation import evaluate
from trm.models.recursion import Halting, RecursiveModel
from trm.report.results import FORMAT, birth_certificate, write_json
from trm.report.tables import accuracies, pass_rows, pass_table, result_table
from trm.report.thinking import thinking
from trm.tasks.base import Task
from trm.training.checks import check_identifiers

_TYPES: dict[str, Any] = {
    **dict.fromkeys(("checkpoint", "output", "submission"), str | None),
    **dict.fromkeys(("limit", "N_sup", "votes"), int | None),
    **dict.fromkeys(("split", "device"), str),
    "batch_size": int,
    "early_exit": bool,
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
    data = _data(config, checkpoint.config["data"], task)
    _check_identifiers(checkpoint, model, data)
    trained_steps = 1 if model.one_pass else checkpoint.config["train"]["N_sup"]
    steps = trained_steps if config["N_sup"] is None else config["N_sup"]
    said = f"{model.size:,} parameters, trained {checkpoint.step} steps"
    halting = checkpoint.config["train"].get("halting") or model.halting
    early_exit = halting if config["early_exit"] else None
    asked = _Asked(config, task, model, data, steps, device, said, early_exit)
    votes = data.votes is not None and config["split"] == "test"
    if not votes and (config["submission"] is not None or config["votes"] is not None):
        raise InputError("submission and votes are for the split test of ARC; leave them null here")
    if votes and config["early_exit"]:
        raise InputError("early_exit=true has no effect on votes, which all take every step")
    measured = _vote(asked) if votes else _evaluate(asked)
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
        **measured,
        "trained_with": checkpoint.config,
        "manifest": data.manifest,
        "certificate": birth_certificate(device),
    }
    if config["output"] is not None:
        write_json(Path(config["output"]), result)
    return result


def _check_identifiers(
    checkpoint: native.Checkpoint, model: RecursiveModel, data: PuzzleData
) -> None:
    """Refuse data whose identifiers are not those that the rows were learned for."""
    if data.identifiers == 1:
        return
    check_identifiers(model, data)
    trained = checkpoint.contents["trm"]["manifest"].get("sha256")
    if trained != data.manifest["sha256"]:
        raise InputError(
            f"{checkpoint.path} was trained on other tasks or augmentations (checksum "
            f"{str(trained)[:12]}, now {data.manifest['sha256'][:12]}): its identifiers mean others"
        )


class _Asked(NamedTuple):
    """What to evaluate, and what to say of it."""

    config: dict[str, Any]
    task: Task
    model: RecursiveModel
    data: PuzzleData
    steps: int
    device: torch.device
    said: str
    early_exit: Halting | None


def _evaluate(asked: _Asked) -> dict[str, Any]:
    """Count hits after each supervision step, and print them."""
    config, task, model, data, steps, device, said, _ = asked
    puzzles = data.splits[config["split"]][: config["limit"]]
    with _progress(len(puzzles)) as on_batch:
        evaluation = evaluate(
            model, task, puzzles, steps, config["batch_size"], device, on_batch, asked.early_exit
        )
    each = evaluation.taken / evaluation.n
    title = (
        f"{task.name}: {len(puzzles)} {config['split']} puzzles, {said}, "
        f"{evaluation.wall_time_s:.0f} s on {device}, {each:.1f} steps a puzzle"
    )
    console = Console()
    console.print(result_table(evaluation, title), thinking(task, puzzles, evaluation))
    return {"evaluation": accuracies(evaluation), "steps_per_puzzle": each}


def _vote(asked: _Asked) -> dict[str, Any]:
    """Let the augmentations of ARC tasks vote, print pass@K, and write a submission."""
    config, _, model, data, steps, device, said, _ = asked
    votes = data.votes.narrowed(config["limit"], config["votes"])
    with _progress(len(votes.puzzles)) as on_batch:
        ballot = vote(model, votes, steps, config["batch_size"], device, on_batch)
    solved = {name: both for name, both in votes.questions.items() if both[1]}
    title = f"arc: {len(votes.questions)} tasks, {len(votes.puzzles)} votes, {said}"
    measured: dict[str, Any] = {"votes": len(votes.puzzles), "tasks": len(votes.questions)}
    if solved:
        found = score(ballot, solved)
        measured["pass_at"] = pass_rows(found.pass_at, found.tasks)
        Console().print(pass_table(measured["pass_at"], title))
    else:
        Console().print(f"{title}: no solutions to compare with", highlight=False)
    if config["submission"] is not None:
        questions = {name: inputs for name, (inputs, _) in votes.questions.items()}
        write_json(Path(config["submission"]), submission(ballot, questions))
    return measured


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("evaluating", total=total)
        yield lambda done: progress.update(bar, completed=done)


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
    for name in ("limit", "votes"):
        if config[name] is not None and config[name] < 1:
            raise InputError(f"{name}={config[name]} must be at least 1, or null for all")
    for name in ("output", "submission"):
        path = config[name] and Path(config[name])
        if path and (path.is_dir() or not os.access(path.parent, os.W_OK)):
            raise InputError(f"{name}={path} cannot be written; name a file in a folder of yours")


def _data(config: dict[str, Any], trained_on: dict[str, Any], task: Task) -> PuzzleData:
    source = dict(config["data"])
    if "_target_" not in source:
        path = source["path"]
        source = trained_on if path is None else trained_on | {"path": path}
    data = load_data(source, task)
    if config["split"] not in data.splits:
        raise InputError(f"split={config['split']} must be one of {', '.join(data.splits)}")
    return data


def _main(cfg: DictConfig) -> float:
    """Return the exact accuracy after the last step, or pass@2 of ARC, for sweeps."""
    result = run_evaluation(cfg)
    if "pass_at" in result:
        return float(result["pass_at"][1]["accuracy"])  # pass@2, the benchmark's
    return float(result["evaluation"][-1]["exact_accuracy"]) if "evaluation" in result else 0.0


if __name__ == "__main__":
    run_command(_main, "evaluate")
