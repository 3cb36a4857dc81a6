"""Evaluate a checkpoint: ``python -m trm.evaluate checkpoint=... limit=200``."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import DictConfig
from rich.console import Console

from trm.checkpoints.opening import Opened, open_for
from trm.commands import run_command
from trm.data.loading import load_data
from trm.data.puzzles import PuzzleData, Puzzles, PuzzleSet
from trm.inference.arc_voting import score, submission, vote
from trm.inference.compute import Compute
from trm.inference.record import record_evaluation
from trm.models.recursion import RecursiveModel
from trm.report.compute import against_compute, compute_table, plot_compute
from trm.report.diagnostics import diagnostic_tables, diagnostics
from trm.report.tables import accuracies, pass_rows, pass_table, result_table
from trm.report.thinking import thinking
from trm.results.files import FORMAT, birth_certificate, bits, write_json
from trm.results.keeping import keep
from trm.support.command_line import progress_bar
from trm.support.devices import Precision, machine_memory, pick_device, pick_precision
from trm.support.errors import InputError, check_at_least
from trm.support.files import check_writable
from trm.support.sections import Section, read, resolved
from trm.tasks.arc import Arc
from trm.tasks.base import Task
from trm.training.checks import check_identifiers

log = logging.getLogger("trm")

_FILE_NAMES = "train_file", "test_file"
_SETTINGS = "heads", "n", "T", "prefix_len"  # what a published file may not say
_BYTES = 8  # of the largest number kept of each puzzle, step and trajectory
_VOTES_ELSEWHERE = "submission and votes are for the split test of ARC; leave them null here"
_AUTO = "auto"  # as output: a new file, see trm.results.keeping


@dataclass(frozen=True)
class EvaluationConfig:
    """What is asked for; ``conf/evaluate.yaml`` explains every key."""

    checkpoint: str | None
    split: Literal["train", "val", "test"]
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
        check_at_least(1, heads=self.heads, n=self.n, T=self.T)
        check_at_least(0, prefix_len=self.prefix_len)
        if self.split != "test" and self.asks_for_votes:
            raise InputError(_VOTES_ELSEWHERE)
        self._check_files()

    def _check_files(self) -> None:
        files = {name: Path(path) for name, path in self.files.items()}
        for name, path in files.items():
            check_writable(path, f"{name}=")
        if len({path.resolve() for path in files.values()}) < len(files):
            same = " ".join(f"{name}={path}" for name, path in files.items())
            raise InputError(f"{same} are to be different files; rename one")
        if "plot" in files and files["plot"].suffix.lower() != ".png":
            raise InputError(f"plot={self.plot} must end in .png, for a PNG is what is written")

    @property
    def asks_for_votes(self) -> bool:
        """Whether anything is set that has a meaning for the votes of ARC alone."""
        return self.submission is not None or self.votes is not None

    @property
    def files(self) -> dict[str, str]:
        """The files that are asked for by name."""
        asked = {"output": self.output, "plot": self.plot, "submission": self.submission}
        named = {name: path for name, path in asked.items() if path is not None}
        return {name: path for name, path in named.items() if (name, path) != ("output", _AUTO)}


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
        settings = {name: getattr(config, name) for name in _SETTINGS}
        opened = open_for(str(config.checkpoint), config.task or None, settings)
        task = opened.task
        assert task is not None, "open_for refuses otherwise"
        for sentence in opened.assumed:
            log.warning("%s: assumed %s", config.checkpoint, sentence)
        _check_settings(config, opened.model)
        if config.asks_for_votes and not isinstance(task, Arc):
            raise InputError(_VOTES_ELSEWHERE)
        compute = config.compute.for_model(task, opened.model, opened.trained.N_sup)
        device = pick_device(config.device)
        data = _data(config, opened.config.get("data", {}), task)
        precision = pick_precision(config.precision, device)
        return cls(config, task, opened, data, compute, device, precision)

    def __post_init__(self) -> None:
        if self.config.asks_for_votes and not self.is_vote:
            raise InputError(_VOTES_ELSEWHERE)
        if self.is_vote and self.config.plot is not None:
            raise InputError(
                f"plot={self.config.plot} is of accuracy against compute, which votes do not "
                f"measure; leave it null, or take split=val"
            )
        if self.is_vote and self.compute != Compute(max_steps=self.compute.max_steps):
            raise InputError(
                "votes take one trajectory through all steps; of compute only max_steps has an "
                "effect"
            )
        if self.data.identifiers > 1:
            self._check_identifiers()
        if not self.is_vote:
            self._check_memory()

    def _check_identifiers(self) -> None:
        """Refuse data whose identifiers are not those that the rows were learned for."""
        check_identifiers(self.opened.model, self.data)
        trained, now = str(self.opened.manifest.get("sha256")), self.data.manifest["sha256"]
        if trained != now:
            raise InputError(
                f"{self.config.checkpoint} was trained on other tasks or augmentations (checksum "
                f"{trained[:12]}, now {now[:12]}): its identifiers mean others"
            )

    def _check_memory(self) -> None:
        """Refuse a record that no memory holds; what is never reached of it takes none."""
        puzzles, steps = len(self.puzzles), self.compute.max_steps
        assert steps is not None, "for_model fills it in"
        needed = _BYTES * puzzles * steps * self.compute.trajectories
        memory = machine_memory()
        if memory is not None and needed > memory:
            raise InputError(
                f"compute.max_steps={steps} of {puzzles} puzzles are {needed / 1e9:,.0f} GB of "
                f"numbers and the machine has {memory / 1e9:,.0f} GB; take fewer steps, or fewer "
                f"puzzles with limit"
            )

    @property
    def puzzles(self) -> Puzzles:
        """The puzzles to be evaluated, if there is no vote."""
        return self.data.splits[self.config.split][: self.config.limit]

    @property
    def is_vote(self) -> bool:
        """Whether the augmentations of ARC tasks vote."""
        return self.data.votes is not None and self.config.split == "test"

    @property
    def model_summary(self) -> str:
        """How large the model is and how long it was trained."""
        trained = "" if self.opened.step is None else f", trained {self.opened.step} steps"
        return f"{self.opened.model.size:,} parameters{trained}"


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
    kept = _kept(config, result)  # before anything is shown, which may fail
    show()
    if kept is not None:
        Console().print(f"result  {kept}", highlight=False, markup=False, soft_wrap=True)
    return result


def _kept(config: EvaluationConfig, result: dict[str, Any]) -> Path | None:
    """Write the numbers where they are wanted, and say so if there is no place for them."""
    if config.output is None:
        return None
    if config.output != _AUTO:
        write_json(Path(config.output), result)
        return Path(config.output)
    file = keep(result, str(config.checkpoint), result["task"])
    if file is None:
        log.warning("the numbers are not kept: no folder lets us write; name a file with output=")
    return file


def _evaluate(request: EvaluationRequest) -> tuple[dict[str, Any], Callable[[], None]]:
    """Count hits, also against compute, and look closer at the plain trajectories.

    Returns:
        the numbers, and what prints and plots them
    """
    config, task, compute = request.config, request.task, request.compute
    model, puzzles = request.opened.model, request.puzzles
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
        + (", without search" * (compute.search is None and task.is_searchable))
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

    measured = {"evaluation": by_step, "solved": bits(evaluation.solved)}
    if isinstance(puzzles, PuzzleSet):  # others are made when they are wanted
        measured["puzzles_sha256"] = puzzles.checksum()
    return measured | {"against_compute": points, "diagnostics": diagnosis}, show


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


def _check_settings(config: EvaluationConfig, model: RecursiveModel) -> None:
    """Refuse what is said of a model and not so: only published files leave anything open."""
    for name in _SETTINGS:
        said, actual = getattr(config, name), model.settings().get(name)
        if said not in (None, actual):
            has = f"has {name}={actual}" if actual is not None else f"has no {name}"
            raise InputError(f"{name}={said} is not so: {config.checkpoint} {has}; leave it null")


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
    data.need(config.split)
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


def main() -> None:
    """Evaluate as the command line says."""
    run_command(_main, "evaluate")


if __name__ == "__main__":
    main()
