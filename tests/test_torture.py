"""Kill a training run again and again, and compare it bit by bit with one left alone.

Takes minutes: ``make torture``. A plain ``pytest`` tries how it compares.
"""

import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from tests.conftest import (
    MEASURED,
    TINY,
    assert_equal_runs,
    comparable,
    differences,
    records,
)
from trm.train import run_training

KILLS = 20
SETTINGS = (
    # Each key once: a run that went on keeps the last word on a key, one left alone all of them.
    *(text for text in TINY if not text.startswith("trainer.")),
    "trainer.accelerator=cpu",
    "model.prefix_len=1",
    "model.identifiers=200000",  # 13 MB of rows make a save long enough to be killed in
    "train.halt_exploration=0.3",
    "train.log_every_n_steps=7",
    "checkpoint.every_n_steps=25",
    "trainer.val_check_interval=40",
    "trainer.max_steps=1500",
    "ema.decay=0.9",
)


def start(folder: Path) -> subprocess.Popen:
    """The same command begins the run and continues it."""
    command = [sys.executable, "-m", "trm.train", *SETTINGS, f"run_dir={folder}", "ckpt_path=auto"]
    log = open(folder.with_suffix(".log"), "a")  # noqa: SIM115 - the process writes to it
    return subprocess.Popen(command, stdout=log, stderr=log)


def half_written(folder: Path) -> set[tuple[str, int]]:
    """Files that a save has begun and not finished, and when they grew last."""
    found = set()
    for path in (folder / "checkpoints").glob(".*.part"):
        with suppress(FileNotFoundError):  # finished meanwhile
            found.add((path.name, path.stat().st_mtime_ns))
    return found


def wait_until(true, process: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true() and process.poll() is None:
        assert time.monotonic() < end, "the run hangs"
        time.sleep(0.0005)


def wait_for_a_save(folder: Path, process: subprocess.Popen) -> None:
    last = folder / "checkpoints" / "last.ckpt"

    def saved() -> int:
        return last.stat().st_mtime_ns if last.exists() else 0

    before = saved()
    wait_until(lambda: saved() != before, process)


def kill(folder: Path, moment: str, draw: random.Random) -> str:
    """Start or continue the run, kill it at some moment, and say at which.

    Unless it is killed at its start, it has got on by a few saves: counted, not timed, so that it
    is as far on a machine that is slow or busy.
    """
    left = half_written(folder)  # by earlier kills, until the file's next save
    process = start(folder)
    if moment == "start":
        time.sleep(draw.uniform(0, 4))
    else:
        for _ in range(draw.randint(1, 3)):
            wait_for_a_save(folder, process)
        time.sleep(draw.uniform(0, 0.2))
    if moment == "save":
        wait_until(lambda: half_written(folder) - left, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, folder.with_suffix(".log").read_text()[-2000:]
    return "in a save" if half_written(folder) - left else f"in its {moment}"


@pytest.mark.slow
def test_a_run_killed_twenty_times_equals_one_left_alone(tmp_path):
    draw = random.Random(0)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).wait() == 0, whole.with_suffix(".log").read_text()[-2000:]
    last = killed / "checkpoints" / "last.ckpt"
    in_saves, steps = 0, set()
    for number in range(1, KILLS + 1):
        moment = "save" if number % 2 else draw.choice(("start", "training"))
        said = kill(killed, moment, draw)
        in_saves += said == "in a save"
        step = torch.load(last, weights_only=True)["global_step"] if last.exists() else 0
        steps.add(step)
        print(f"kill {number:2}: {said}; step {step} is on the disk", flush=True)
    assert in_saves >= KILLS // 4, "too few kills hit a save to prove anything"
    assert len(steps) > KILLS // 2, "too few kills after progress to prove anything"
    assert start(killed).wait() == 0, killed.with_suffix(".log").read_text()[-2000:]
    assert_equal_runs(whole, killed)
    print(f"{KILLS} of {KILLS} kills survived; all is equal, in result.json and checkpoints too,")
    print(f"but what was measured: {', '.join(sorted(MEASURED))}")


# ---------------------------------------------------------------- the comparison, in seconds


def test_a_run_trained_twice_differs_in_what_is_measured_alone(trained, tiny_config):
    again = tiny_config()
    run_training(again)
    assert_equal_runs(trained[0], Path(again.run_dir))


def keys(record) -> set:
    if not isinstance(record, dict):
        return set()
    return set(record).union(*map(keys, record.values()))


def test_what_is_called_a_measurement_is_in_the_records(trained):
    found = keys(records(trained[0]))
    assert found >= MEASURED, "a run measures this no longer: take it out of MEASURED"


def test_what_no_one_calls_a_measurement_is_compared():
    one = {"trm": {"cpu_time_s": 1.0, "new_s": 1.0, "config": {"run_dir": "/a/b"}}}
    other = {"trm": {"cpu_time_s": 2.0, "new_s": 2.0, "config": {"run_dir": "/c"}, "more": None}}
    one, other = comparable(one, Path("/a/b")), comparable(other, Path("/c"))
    assert differences(one, other, "last.ckpt") == [
        "last.ckpt.trm.more (in one alone)",
        "last.ckpt.trm.new_s",
    ]
