"""Evaluate a checkpoint: ``python -m trm.evaluate checkpoint=... limit=200``."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress

from trm.checkpoints.opening import Opened, open_model, shipped
from trm.commands import run_command
from trm.data.loading import load_data
from trm.data.puzzles import PuzzleData
from trm.inference.arc_voting import score, submission, vote
from trm.inference.compute import Compute
from trm.inference.record import record_evaluation
from trm.report.compute import against_compute, compute_table, plot_compute
from trm.report.diagnostics import diagnostic_tables, diagnostics
from trm.report.tables import accuracies, pass_rows, pass_table, result_table
from trm.report.thinking import thinking
from trm.results.files import FORMAT, birth_certificate, write_json
from trm.support.build import check_arguments, check_types
from trm.support.devices import Precision, pick_device, pick_precision
from trm.support.errors import InputError, check_at_least, check_choice
from trm.support.files import check_writable
from trm.tasks.base import Task
from trm.training.checks import check_identifiers

_TYPES: dict[str, Any] = {
    **dict.fromkeys(("checkpoint", "output", "plot", "submission"), str | None),
    **dict.fromkeys(("limit", "votes"), int | None),
    **dict.fromkeys(("split", "device", "precision"), str),
    "batch_size": int,
    **dict.fromkeys(("data", "compute"), dict),
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
    compute = _compute(config["compute"])
    opened = open_model(config["checkpoint"], {})
    if opened.task is None or not opened.config:
        raise InputError(
            f"{config['checkpoint']} does not say how it was trained; evaluate a checkpoint of a "
            f"run, or a model that comes with trm: {', '.join(shipped())}"
        )
    task, model = opened.task, opened.model
    compute = compute.for_model(task, model, opened.trained.N_sup)
    device = pick_device(config["device"])
    config["precision"] = pick_precision(config["precision"], device)
    data = _data(config, opened.config["data"], task)
    _check_identifiers(opened, config["checkpoint"], data)
    request = EvaluationRequest(config, task, opened, data, compute, device)
    votes = data.votes is not None and config["split"] == "test"
    if not votes and (config["submission"] is not None or config["votes"] is not None):
        raise InputError("submission and votes are for the split test of ARC; leave them null here")
    if votes and compute != Compute(max_steps=compute.max_steps):
        raise InputError(
            "votes take one trajectory through all steps; of compute only max_steps has an effect"
        )
    measured = _vote(request) if votes else _evaluate(request)
    result = {
        "format": FORMAT,
        "task": task.name,
        "checkpoint": config["checkpoint"],
        "parameters": model.size,
        "trained_steps": opened.step,
        "split": config["split"],
        "compute": asdict(compute),
        "seed": opened.config.get("seed"),
        "device": str(device),
        "precision": config["precision"],
        "wall_time_s": round(time.perf_counter() - start, 3),
        **measured,
        "trained_with": opened.config,
        "manifest": data.manifest,
        "certificate": birth_certificate(device),
    }
    if config["output"] is not None:
        write_json(Path(config["output"]), result)
    return result


def _compute(config: dict[str, Any]) -> Compute:
    """Read the switchboard; what is wrong with it is named by its config key."""
    try:
        check_arguments(Compute, config, "compute")
        return Compute(**config)
    except InputError as error:
        key = "" if str(error).startswith("compute.") else "compute."
        raise InputError(f"{key}{error}") from None


def _check_identifiers(opened: Opened, path: str, data: PuzzleData) -> None:
    """Refuse data whose identifiers are not those that the rows were learned for."""
    if data.identifiers == 1:
        return
    check_identifiers(opened.model, data)
    trained = opened.manifest.get("sha256")
    if trained != data.manifest["sha256"]:
        raise InputError(
            f"{path} was trained on other tasks or augmentations (checksum "
            f"{str(trained)[:12]}, now {data.manifest['sha256'][:12]}): its identifiers mean others"
        )


class EvaluationRequest(NamedTuple):
    """What to evaluate."""

    config: dict[str, Any]
    task: Task
    opened: Opened
    data: PuzzleData
    compute: Compute
    device: torch.device

    @property
    def model_summary(self) -> str:
        """How large the model is and how long it was trained."""
        return f"{self.opened.model.size:,} parameters, trained {self.opened.step} steps"


def _evaluate(request: EvaluationRequest) -> dict[str, Any]:
    """Count hits, print them against compute, and look closer at the plain trajectories."""
    config, task, opened, data, compute, device = request
    puzzles = data.splits[config["split"]][: config["limit"]]
    batch_size = config["batch_size"]
    with _progress(len(puzzles)) as on_batch:
        record = record_evaluation(
            opened.model,
            task,
            puzzles,
            compute,
            opened.trained,
            batch_size,
            device,
            on_batch,
            config["precision"],
        )
    several = compute.trajectories > 1
    title = (
        f"{task.name}: {len(puzzles)} {config['split']} puzzles, {request.model_summary}, "
        f"{record.wall_time_s:.0f} s on {device}"
        + (f"; the best of {compute.trajectories} trajectories by {compute.select}" * several)
    )
    evaluation, passes = record.by_step(), opened.model.passes
    points = against_compute(record, passes)
    diagnosis = diagnostics(record, task, puzzles)
    console = Console()
    console.print(
        result_table(evaluation, title),
        compute_table(points),
        *diagnostic_tables(diagnosis),
        thinking(task, puzzles, evaluation),
    )
    by_step = accuracies(evaluation)
    if config["plot"] is not None:
        title = f"{task.name}, {len(puzzles)} puzzles"
        plot_compute(points, by_step, title, Path(config["plot"]))
    return {
        "evaluation": by_step,
        "against_compute": points,
        "diagnostics": diagnosis,
    }


def _vote(request: EvaluationRequest) -> dict[str, Any]:
    """Let the augmentations of ARC tasks vote, print pass@K, and write a submission."""
    config, steps = request.config, request.compute.max_steps
    assert steps is not None, "for_model fills it in"
    votes = request.data.votes.narrowed(config["limit"], config["votes"])
    with _progress(len(votes.puzzles)) as on_batch:
        ballot = vote(
            request.opened.model,
            votes,
            steps,
            config["batch_size"],
            request.device,
            on_batch,
            config["precision"],
        )
    solved = {name: both for name, both in votes.questions.items() if both[1]}
    title = (
        f"arc: {len(votes.questions)} tasks, {len(votes.puzzles)} votes, {request.model_summary}"
    )
    measured: dict[str, Any] = {"votes": len(votes.puzzles), "tasks": len(votes.questions)}
    if solved:
        arc_score = score(ballot, solved)
        measured["pass_at"] = pass_rows(arc_score.pass_at, arc_score.tasks)
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
    check_at_least(1, batch_size=config["batch_size"])
    check_choice(get_args(Precision), precision=config["precision"])
    for name in ("limit", "votes"):
        if config[name] is not None and config[name] < 1:
            raise InputError(f"{name}={config[name]} must be at least 1, or null for all")
    for name in ("output", "plot", "submission"):
        if config[name]:
            check_writable(Path(config[name]), f"{name}=")


def _data(config: dict[str, Any], trained_on: dict[str, Any], task: Task) -> PuzzleData:
    source = dict(config["data"])
    if "_target_" not in source:
        path = source["path"]
        source = trained_on if path is None else trained_on | {"path": path}
    data = load_data(source, task)
    check_choice(data.splits, split=config["split"])
    return data


def _main(cfg: DictConfig) -> float:
    """Return the exact accuracy after the last step, or pass@2 of ARC, for sweeps."""
    result = run_evaluation(cfg)
    if "pass_at" in result:
        return float(result["pass_at"][1]["accuracy"])  # pass@2, the benchmark's
    return float(result["evaluation"][-1]["exact_accuracy"]) if "evaluation" in result else 0.0


if __name__ == "__main__":
    run_command(_main, "evaluate")
