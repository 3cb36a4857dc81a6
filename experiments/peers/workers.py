"""Processes that take turns: of all that are alive, one computes and the others wait."""

import json
import math
import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.peers.turns import GO, Setting
from experiments.table import HERE

_ROOT = HERE.parent
_ALONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
_ALONE |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class Job:
    """What one process is to do.

    Attributes:
        python: interpreter of its environment
        driver: module that it runs
        setting: told to it
    """

    python: Path
    driver: str
    setting: Setting


class PeerError(Exception):
    """A process ended without its report; the message is the last that it said."""


class _Worker:
    def __init__(self, job: Job, folder: Path, log: Path) -> None:
        self.log = log
        # It runs in a folder of its own: a peer may write where it stands.
        environment = os.environ | _ALONE | {"PYTHONPATH": str(_ROOT)}
        with log.open("wb") as file:
            try:
                self._process = subprocess.Popen(
                    [job.python, "-m", job.driver, json.dumps(asdict(job.setting))],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=file,
                    cwd=folder,
                    env=environment,
                    text=True,
                    encoding="utf-8",
                )
            except OSError as error:
                raise PeerError(f"{job.python.name} cannot be run: {error.strerror}") from None

    def report(self) -> dict[str, Any]:
        """Wait for the next report."""
        assert self._process.stdout is not None, "a pipe"
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(self._last_words())
        report: dict[str, Any] = json.loads(line)
        return report

    def turn(self) -> dict[str, Any]:
        """Let it train until its next report."""
        assert self._process.stdin is not None, "a pipe"
        with suppress(OSError):  # it has ended; there will be no report
            self._process.stdin.write(GO + "\n")
            self._process.stdin.flush()
        return self.report()

    def end(self) -> None:
        """End it, if it has not ended by itself."""
        self._process.kill()
        with suppress(OSError):
            self._process.communicate()

    def _last_words(self) -> str:
        status = self._process.wait()
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        words = said[-1] if said else f"it ended with status {status} and said nothing"
        for path, short in ((str(_ROOT), "."), (str(Path.home()), "~")):
            words = words.replace(path, short)
        return words


def in_turns(
    jobs: Mapping[str, Job], folder: Path, seconds: float = math.inf
) -> dict[str, dict[str, Any]]:
    """Run jobs side by side, one turn of each after the other.

    Args:
        jobs: by name, all with the same number of turns
        folder: for logs, and to run in
        seconds: no round begins that would, at the pace so far, end later; the first always does

    Returns:
        for each name what it said at its start, and its ``turns``; or ``failed``, in words
    """
    found: dict[str, dict[str, Any]] = {}
    workers: dict[str, _Worker] = {}

    def fail(name: str, error: PeerError) -> None:
        found[name] = {"failed": str(error)}
        if name in workers:
            workers.pop(name).end()

    try:
        for name, job in jobs.items():
            try:
                workers[name] = _Worker(job, folder, folder / f"{name}.log")
                found[name] = workers[name].report() | {"turns": []}
            except PeerError as error:
                fail(name, error)
        start = time.monotonic()
        for done in range(max(job.setting.turns for job in jobs.values())):
            if done and (time.monotonic() - start) * (done + 1) / done > seconds:
                break
            for name, worker in list(workers.items()):
                try:
                    found[name]["turns"].append(worker.turn())
                except PeerError as error:
                    fail(name, error)
    finally:
        for worker in workers.values():
            worker.end()
    return found
