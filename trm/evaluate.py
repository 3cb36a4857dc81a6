"""Evaluate a checkpoint: ``python -m trm.evaluate checkpoint=... limit=200``."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console

from trm.checkpoints.opening import Opened, open_for
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
from trm.support.command_line import progress_bar
from trm.support.devices import Precision, pick_device, pick_precision
from trm.support.errors import InputError, check_at_least, check_choice
from trm.support.files import check_writable
from trm.support.sections import Section, read, resolved
from trm.tasks.base import Task
from trm.training.checks import check_identifiers

log = logging.getLogger("trm")

_FILE_NAMES = "train_file", "test_file"


@dataclass(frozen=True)
class EvaluationConfig:
    """What is asked for; ``conf/evaluate.yaml`` explains every key."""

    checkpoint: str | None
    split: str
    limit: int | None
    votes: int | None
    submission: str | None
    batch_size: int
    device: str
    precision: Precision
    output: str | None
    plot: str | None
    task: Section
    data: Section
    compute: Compute
    heads: int | None = None
    n: int | None = None
    T: int | None = None
    prefix_len: int | None = None

    def __post_init__(self) -> None:
        if self.checkpoint is None:
            raise InputError(
                "checkpoint=null names no file; give checkpoint=logs/.../checkpoints/best.ckpt"
            )
        check_at_least(1, batch_size=self.batch_size, limit=self.limit, votes=self.votes)
        for name in ("output", "plot", "submission"):
            if path := getattr(self, name):
                check_writable(Path(path), f"{name}=")


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate: everything that the config names, opened and checked."""

    config: EvaluationConfig
    task: Task
    opened: Opened
    data: PuzzleData
    compute: Compute
    device: torch.device
    precision: str

    @classmethod
    def of(cls, config: EvaluationConfig) -> "EvaluationRequest":
        """Open the checkpoint and its data.

        Raises:
            InputError: what cannot be read, or does not fit together
        """
        settings = {name: getattr(config, name) for name in ("heads", "n", "T", "prefix_len")}
        opened = open_for(str(config.checkpoint), config.task or None, settings)
        task = opened.task
        assert task is not None, "open_for refuses otherwise"
        for sentence in opened.assumed:
            log.warning("%s: assumed %s", config.checkpoint, sentence)
        compute = config.compute.for_model(task, opened.model, opened.trained.N_sup)
        device = pick_device(config.device)
        data = _data(config, opened.config.get("data", {}), task)
        precision = pick_precision(config.precision, device)
        return cls(config, task, opened, data, compute, device, precision)

    def __post_init__(self) -> None:
        asks_for_votes = self.config.submission is not None or self.config.votes is not None
        if asks_for_votes and not self.is_vote:
            raise InputError(
                "submission and votes are for the split test of ARC; leave them null here"
            )
        if self.is_vote and self.compute != Compute(max_steps=self.compute.max_steps):
            raise InputError(
                "votes take one trajectory through all steps; of compute only max_steps has an "
                "effect"
            )
        if self.data.identifiers > 1:
            self._check_identifiers()

    def _check_identifiers(self) -> None:
        """Refuse data whose identifiers are not those that the rows were learned for."""
        check_identifiers(self.opened.model, self.data)
        trained, now = str(self.opened.manifest.get("sha256")), self.data.manifest["sha256"]
        if trained != now:
            raise InputError(
                f"{self.config.checkpoint} was trained on other tasks or augmentations (checksum "
                f"{trained[:12]}, now {now[:12]}): its identifiers mean others"
            )

    @property
    def is_vote(self) -> bool:
        """Whether the augmentations of ARC tasks vote."""
        return self.data.votes is not None and self.config.split == "test"

    @property
    def model_summary(self) -> str:
        """How large the model is and how long it was trained."""
        return f"{self.opened.model.size:,} parameters, trained {self.opened.step} steps"


def run_evaluation(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate, print the table, and return the numbers.

    Args:
        cfg: the composed config ``evaluate``

    Raises:
        InputError: a checkpoint or data that cannot be read or do not fit together
    """
    start = time.perf_counter()
    config = read(EvaluationConfig, resolved(cfg))
    request = EvaluationRequest.of(config)
    measured, show = _vote(request) if request.is_vote else _evaluate(request)
    opened, device = request.opened, request.device
    result = {
        "format": FORMAT,
        "task": request.task.name,
        "checkpoint": config.checkpoint,
        "parameters": opened.model.size,
        "trained_steps": opened.step,
        "split": config.split,
        "compute": asdict(request.compute),
        "seed": opened.config.get("seed"),
        "device": str(device),
        "precision": request.precision,
        "wall_time_s": round(time.perf_counter() - start, 3),
        **measured,
        "trained_with": opened.config,
        "manifest": request.data.manifest,
        "certificate": birth_certificate(device),
    }
    if config.output is not None:
        write_json(Path(config.output), result)  # before anything is shown, which may fail
    show()
    return result


def _evaluate(request: EvaluationRequest) -> tuple[dict[str, Any], Callable[[], None]]:
    """Count hits, also against compute, and look closer at the plain trajectories.

    Returns:
        the numbers, and what prints and plots them
    """
    config, task, compute, model = (
        request.config,
        request.task,
        request.compute,
        request.opened.model,
    )
    puzzles = request.data.splits[config.split][: config.limit]
    with progress_bar("evaluating", len(puzzles)) as on_batch:
        record = record_evaluation(
            model,
            task,
            puzzles,
            compute,
            request.opened.trained,
            config.batch_size,
            request.device,
            on_batch,
            request.precision,
        )
    several = compute.trajectories > 1
    title = (
        f"{task.name}: {len(puzzles)} {config.split} puzzles, {request.model_summary}, "
        f"{record.wall_time_s:.0f} s on {request.device}"
        + (f"; the best of {compute.trajectories} trajectories by {compute.select}" * several)
    )
    evaluation, points = record.by_step(), against_compute(record, model.passes)
    diagnosis = diagnostics(record, task, puzzles)
    by_step = accuracies(evaluation)

    def show() -> None:
        Console().print(
            result_table(evaluation, title),
            compute_table(points),
            *diagnostic_tables(diagnosis),
            thinking(task, puzzles, evaluation),
        )
        if config.plot is not None:
            name = f"{task.name}, {len(puzzles)} puzzles"
            plot_compute(points, by_step, name, Path(config.plot))

    return {"evaluation": by_step, "against_compute": points, "diagnostics": diagnosis}, show


def _vote(request: EvaluationRequest) -> tuple[dict[str, Any], Callable[[], None]]:
    """Let the augmentations of ARC tasks vote, and write a submission.

    Returns:
        the numbers, and what prints them
    """
    config, steps = request.config, request.compute.max_steps
    assert steps is not None, "for_model fills it in"
    votes = request.data.votes.narrowed(config.limit, config.votes)
    with progress_bar("evaluating", len(votes.puzzles)) as on_batch:
        ballot = vote(
            request.opened.model,
            votes,
            steps,
            config.batch_size,
            request.device,
            on_batch,
            request.precision,
        )
    solved = {name: both for name, both in votes.questions.items() if both[1]}
    title = (
        f"arc: {len(votes.questions)} tasks, {len(votes.puzzles)} votes, {request.model_summary}"
    )
    measured: dict[str, Any] = {"votes": len(votes.puzzles), "tasks": len(votes.questions)}
    if solved:
        arc_score = score(ballot, solved)
        measured["pass_at"] = pass_rows(arc_score.pass_at, arc_score.tasks)
    if config.submission is not None:
        questions = {name: inputs for name, (inputs, _) in votes.questions.items()}
        write_json(Path(config.submission), submission(ballot, questions))

    def show() -> None:
        if solved:
            Console().print(pass_table(measured["pass_at"], title))
        else:
            Console().print(f"{title}: no solutions to compare with", highlight=False)

    return measured, show


def _data(config: EvaluationConfig, trained_on: Section, task: Task) -> PuzzleData:
    source = config.data
    if "_target_" not in source and not trained_on and source.get("path") is None:
        raise InputError(
            f"{config.checkpoint} does not say what data it was trained on; name a folder with "
            f"data.path=..., or make puzzles with data=generated"
        )
    if "_target_" not in source:
        changes = {name: value for name, value in source.items() if value is not None}
        source = (_elsewhere(trained_on) if "path" in changes else trained_on) | changes
    data = load_data(source, task)
    check_choice(data.splits, split=config.split)
    return data


def _elsewhere(source: Section) -> Section:
    """Return the source of another folder: file names hold for one, and others have no folder."""
    if source.get("_target_") in (None, "trm.data.generated", "trm.data.from_hub"):
        return {"_target_": "trm.data.from_folder"}
    return {name: value for name, value in source.items() if name not in _FILE_NAMES}


def _main(cfg: DictConfig) -> float:
    """Return the exact accuracy after the last step, or pass@2 of ARC, for sweeps."""
    result = run_evaluation(cfg)
    if "pass_at" in result:
        return float(result["pass_at"][1]["accuracy"])  # pass@2, the benchmark's
    return float(result["evaluation"][-1]["exact_accuracy"]) if "evaluation" in result else 0.0


if __name__ == "__main__":
    run_command(_main, "evaluate")
