"""Kill a training run again and again, and compare it bit by bit with one left alone.

Takes minutes: ``make torture``, or ``pytest -m slow``.
"""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY, same

KILLS = 20
SETTINGS = (
    *TINY,
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


def being_written(folder: Path) -> bool:
    return any((folder / "checkpoints").glob(".*.part"))


def wait_until(true, process: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true() and process.poll() is None:
        assert time.monotonic() < end, "the run hangs"
        time.sleep(0.0005)


def kill(folder: Path, moment: str, draw: random.Random) -> str:
    """Start or continue the run, kill it at some moment, and say at which."""
    metrics = folder / "csv" / "metrics.csv"
    before = metrics.stat().st_mtime_ns if metrics.exists() else 0
    process = start(folder)
    if moment == "start":
        time.sleep(draw.uniform(0, 4))
    else:
        wait_until(lambda: metrics.exists() and metrics.stat().st_mtime_ns != before, process)
        time.sleep(draw.uniform(0, 1.0))
    if moment == "save":
        wait_until(lambda: being_written(folder), process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, folder.with_suffix(".log").read_text()[-2000:]
    return "in a save" if being_written(folder) else f"in its {moment}"


def contents(run: Path, name: str) -> dict:
    """What must be equal in a checkpoint: all but clocks and the folder's name."""
    saved = torch.load(run / "checkpoints" / name, weights_only=True)
    card = saved["trm"]
    del card["wall_time_s"], card["config"]["run_dir"], card["overrides"]
    for state in saved["callbacks"].values():
        for key in ("dirpath", "best_model_path", "last_model_path", "kth_best_model_path"):
            state.pop(key, None)
        if "best_k_models" in state:
            state["best_k_models"] = list(state["best_k_models"].values())
    return saved


def result(run: Path) -> dict:
    read = json.loads((run / "result.json").read_text())
    del read["config"]["run_dir"], read["saving"]
    return {key: value for key, value in read.items() if not key.endswith("wall_time_s")}


@pytest.mark.slow
def test_a_run_killed_twenty_times_equals_one_left_alone(tmp_path):
    draw = random.Random(0)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).wait() == 0, whole.with_suffix(".log").read_text()[-2000:]
    last = killed / "checkpoints" / "last.ckpt"
    in_saves = 0
    for number in range(1, KILLS + 1):
        moment = "save" if number % 2 else draw.choice(("start", "training"))
        said = kill(killed, moment, draw)
        in_saves += said == "in a save"
        step = torch.load(last, weights_only=True)["global_step"] if last.exists() else 0
        print(f"kill {number:2}: {said}; step {step} is on the disk", flush=True)
    assert in_saves >= KILLS // 4, "too few kills hit a save to prove anything"
    assert start(killed).wait() == 0, killed.with_suffix(".log").read_text()[-2000:]
    for name in ("last.ckpt", "best.ckpt"):
        one, other = contents(whole, name), contents(killed, name)
        assert one.keys() == other.keys()
        for key in one:
            assert same(one[key], other[key]), f"{name}: {key}"
    metrics = [(run / "csv" / "metrics.csv").read_bytes() for run in (whole, killed)]
    assert metrics[0] == metrics[1]
    assert result(whole) == result(killed)
    print(f"{KILLS} of {KILLS} kills survived with identical weights, carry and metrics")
