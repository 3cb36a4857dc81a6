"""Runs in processes side by side, with progress over all of them; to be stopped at any time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from types import FrameType
from typing import Any

import torch
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from experiments.numbers import value
from experiments.table import Cell, data_checksum, file_name, identity, recipe_hash, recorded
from experiments.tuning import Search
from trm.results.files import birth_certificate, read_result, write_json
from trm.support.errors import InputError, Stopped
from trm.training.guards import NOT_FINITE
from trm.training.run_folder import LOCK

_LOOK_EVERY_S = 0.5
# Of a run's config, what says where it ran and nothing about the number.
_LEFT_OUT = ("run_dir", "ckpt_path", "logger", "debug")
_IN_USE = "in use by another process"  # as a run says whose folder is locked


@dataclass(frozen=True)
class Job:
    """One run: a recipe with a seed, and the folder it runs in.

    Attributes:
        search: of the learning rate, if the run is one of it
    """

    cell: Cell
    seed: int
    folder: Path
    search: Search | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Recipe and seed."""
        return self.cell.recipe, self.seed

    @property
    def said(self) -> str:
        """What a person calls it."""
        rate = "" if self.search is None else f"lr {self.cell.rate:g}, "
        return f"{self.cell.row.label}, {self.cell.column.name}, {rate}seed {self.seed}"

    def tried(self, data: str | None = None) -> bool:
        """Tell whether its search knows what came out, on these data if a checksum is given."""
        return self.search is not None and self.cell.rate in self.search.outcome(data).runs

    def commands(self) -> list[list[str]]:
        """Return what is to be run, one after the other."""
        train = self.cell.command(self.seed, self.folder)
        if self.cell.column.measure == "exact":
            return [train]
        checkpoint = self.folder / "checkpoints" / "best.ckpt"
        evaluate = ["python", "-m", "trm.evaluate", f"checkpoint={checkpoint}"]
        return [train, [*evaluate, f"output={self.folder / 'votes.json'}"]]

    def result(self) -> dict[str, Any]:
        """Read what came out, without what says where it ran."""
        result = read_result(self.folder)
        assert recipe_hash(result["config"]) == self.cell.recipe, "this is another run's folder"
        votes = self.folder / "votes.json"
        if self.cell.column.measure != "exact":
            result["pass_at"] = read_result(votes)["pass_at"]
        config = {key: value for key, value in result["config"].items() if key not in _LEFT_OUT}
        if "path" in config["data"]:
            config["data"] = config["data"] | {"path": None}
        return result | {"config": config}

    @property
    def busy(self) -> bool:
        """Whether a process is at work in the folder."""
        if not self.folder.is_dir():
            return False
        try:
            with FileLock(self.folder / LOCK, timeout=0):
                return False
        except Timeout:
            return True


@dataclass
class _Running:
    """A job at work: one command after the other, with one log."""

    job: Job
    environment: dict[str, str]
    start: float = field(default_factory=time.monotonic)
    done: int = 0  # commands
    process: subprocess.Popen[bytes] | None = None
    told: bool = False  # to end

    @property
    def log(self) -> Path:
        return self.job.folder.with_suffix(".log")

    def next(self) -> bool:
        """Start the next command, if there is one."""
        commands = self.job.commands()
        if self.done == len(commands):
            return False
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *commands[self.done][1:]],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C comes to the runner, which tells all
            )
        self.done += 1
        return True

    def tell(self, number: int) -> None:
        """Send a signal to the process and its own."""
        if self.process is not None and self.process.poll() is None:
            self.told = True
            os.killpg(self.process.pid, number)

    def last_words(self) -> str:
        """Return the last line of the log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")


class Runner:
    """Trains what has no result yet.

    Args:
        results: folder of the result files
        processes: runs side by side
        threads: of each
    """

    def __init__(self, results: Path, processes: int, threads: int) -> None:
        self.results, self.processes = results, processes
        self.environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self._running: list[_Running] = []
        self._failed: dict[str, str] = {}
        self._seconds: dict[str, list[float]] = {}  # that runs took, by recipe
        self._signal = 0

    def run(self, jobs: list[Job], then: Callable[[], list[Job]] = list) -> None:
        """Train all that have no result.

        Args:
            jobs: to be done first
            then: says, once they are done, what is next

        Raises:
            InputError: some failed; the others are done
            Stopped: a signal ended it; the same command goes on
        """
        try:
            self.results.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"results={self.results} cannot be made: {error.strerror}") from None
        done = recorded(self.results)
        for (recipe, _), result in done.items():
            self._seconds.setdefault(recipe, []).append(result["training_wall_time_s"])
        total = self._train(jobs)
        total += self._train([] if self._signal else then())
        if self._signal:
            name = signal.Signals(self._signal).name
            said = f"stopped by {name}: the runs in hand are saved; the same command goes on"
            raise Stopped(said, self._signal)
        if self._failed:
            what = "; ".join(f"{name}: {said}" for name, said in self._failed.items())
            raise InputError(f"{len(self._failed)} of {total} runs failed: {what}")

    def _train(self, jobs: list[Job]) -> int:
        """Do the jobs that have no result, and return how many there are of all."""
        if not jobs:
            return 0
        waiting = [job for job in jobs if not self._has_result(job)]
        shown = _Shown(len(jobs), len(jobs) - len(waiting))
        with shown.bar:
            shown.begin()
            try:
                while (waiting or self._running) and not self._signal:
                    self._start(waiting, shown)
                    time.sleep(_LOOK_EVERY_S)
                    self._look(waiting, shown)
                    shown.update([one.job.said for one in self._running], self._left_s(waiting))
            finally:
                self._end()
        return len(jobs)

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Tell all runs to save and end; a second time, end them at once."""
        for one in self._running:
            one.tell(signal.SIGKILL if self._signal else signal.SIGTERM)
        self._signal = number

    def _end(self) -> None:
        """Let no run outlive the runner, whatever ended it."""
        for one in self._running:
            if not one.told:  # it began while the signal came, or there was none
                one.tell(signal.SIGTERM)
        for one in self._running:
            assert one.process is not None
            one.process.wait()

    def _has_result(self, job: Job) -> bool:
        data = data_checksum(job.cell.config)
        if job.search is not None:
            return job.tried(data)
        name = identity(job.cell.recipe, data, job.seed)
        return any(self.results.glob(f"*_{name}.json"))

    def _start(self, waiting: list[Job], shown: "_Shown") -> None:
        for job in list(waiting):
            if len(self._running) == self.processes or self._signal:
                return
            if job.busy:  # another runner's
                continue
            waiting.remove(job)
            if self._has_result(job):
                shown.finished(f"{job.said}: another runner's result")
                continue
            one = _Running(job, self.environment)
            one.next()
            self._running.append(one)

    def _look(self, waiting: list[Job], shown: "_Shown") -> None:
        for one in list(self._running):
            assert one.process is not None
            code = one.process.poll()
            if self._signal:  # it was told to end; what it has done is kept next time
                return
            if code is None or (code == 0 and one.next()):
                continue
            self._running.remove(one)
            if code == 0:
                self._finish(one.job, shown)
            elif one.job.busy or _IN_USE in (said := one.last_words()):
                waiting.append(one.job)
            elif one.job.search is not None and NOT_FINITE in said:
                seconds = time.monotonic() - one.start
                one.job.search.keep(one.job.cell.rate, _diverged(one.job, seconds))
                shown.finished(f"{one.job.said}: diverged, which is a result")
            else:
                self._failed[one.job.said] = said
                shown.finished(f"{one.job.said}: failed, see {one.log}")

    def _finish(self, job: Job, shown: "_Shown") -> None:
        try:
            shown.finished(f"{job.said}: {self._keep(job)}")
        except InputError as error:
            self._failed[job.said] = str(error)
            shown.finished(f"{job.said}: failed, {error}")

    def _keep(self, job: Job) -> str:
        """Put a result among the others, in the place of one on other data.

        Raises:
            InputError: the run was trained on data that are gone, or the disk is full
        """
        result = job.result()
        if result["manifest"]["sha256"] != data_checksum(job.cell.config):
            raise InputError(
                f"{job.folder} was trained on other data; remove it and run this again"
            )
        minutes = f"{result['training_wall_time_s'] / 60:.1f} min"
        self._seconds.setdefault(job.cell.recipe, []).append(result["training_wall_time_s"])
        if job.search is not None:
            job.search.keep(job.cell.rate, result)
            return f"{100 * result['val_exact_accuracy']:.1f} % of validation in {minutes}"
        place = self.results / file_name(result)
        with FileLock(self.results / LOCK):  # other runners keep theirs
            write_json(place, result)
            for path in self.results.glob(f"{result['task']}_*.json"):
                other = read_result(path)
                if path != place and (recipe_hash(other["config"]), other["seed"]) == job.key:
                    path.unlink()
        return f"{100 * value(result):.1f} % in {minutes}"

    def _left_s(self, waiting: list[Job]) -> float | None:
        """Estimate the seconds left from those that runs took, of the same recipe if there are."""
        if not self._seconds:
            return None
        overall = mean(mean(seconds) for seconds in self._seconds.values())

        def estimate(job: Job) -> float:
            return mean(self._seconds.get(job.cell.recipe, [overall]))

        now = time.monotonic()
        in_hand = sum(max(0.0, estimate(o.job) - (now - o.start)) for o in self._running)
        return (in_hand + sum(map(estimate, waiting))) / self.processes


def _diverged(job: Job, seconds: float) -> dict[str, Any]:
    """Write the result of a run of a search that ended without one."""
    return {
        "val_exact_accuracy": None,
        "training_wall_time_s": round(seconds, 3),
        "training_cpu_time_s": None,
        "device": None,  # what it was is not told
        "manifest": {"sha256": data_checksum(job.cell.config)},
        "certificate": birth_certificate(torch.device("cpu")),
    }


class _Shown:
    """Progress over all runs: a bar on a terminal, a line after each run everywhere."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done = total, done
        self._left = ""
        console = Console(stderr=True)
        columns = MofNCompleteColumn(), BarColumn(bar_width=30), TextColumn("{task.fields[said]}")
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self.bar.add_task("", total=total, completed=done, said="")

    def begin(self) -> None:
        """Say how much is done."""
        self._say(f"{self.done} of {self.total} runs have results")

    def finished(self, said: str) -> None:
        """Count a run and say what came out."""
        self.done += 1
        self._say(f"{self.done}/{self.total}  {said}{self._left}")

    def update(self, running: list[str], left_s: float | None) -> None:
        """Say what is running and how long all will take."""
        self._left = "" if left_s is None else f"  (about {left_s / 60:.0f} min left)"
        self.bar.update(self._task, completed=self.done, said=" | ".join(running) + self._left)

    def _say(self, line: str) -> None:
        self.bar.console.print(line, highlight=False, soft_wrap=True)
