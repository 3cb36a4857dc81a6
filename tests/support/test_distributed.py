"""Two processes on one machine, talking by gloo, against one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY, compose, tiny_model
from trm.data import generated
from trm.inference.evaluation import evaluate
from trm.support import distributed
from trm.tasks import Sudoku
from trm.train import run_training

pytestmark = pytest.mark.usefixtures("preloaded")

SETTINGS = (
    *TINY,
    "trainer.precision=64-true",
    "train.halt_exploration=0.5",
    "train.log_every_n_steps=4",
    "train.gradient_clip=1",
    "data.val=13",  # and 9 test puzzles: no two equal halves
    "data.test=9",
    "train.eval_batch_size=4",
)
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


def two(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "trm.train", *SETTINGS, *arguments, *TWO]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


def error(one, other) -> float:
    """Largest difference, relative to the largest entry, through nested containers."""
    if isinstance(one, torch.Tensor):
        scale = one.double().abs().max().clamp(min=1e-12) if one.numel() else 1
        return float((one.double() - other.double()).abs().max() / scale) if one.numel() else 0
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return max((error(one[key], other[key]) for key in one), default=0)
    if isinstance(one, list):
        assert len(one) == len(other)
        return max(map(error, one, other), default=0)
    return 0 if one == other else abs(one - other)


def metrics(run: Path) -> list[list[float]]:
    lines = (run / "csv" / "metrics.csv").read_text().splitlines()[1:]
    return [[float(cell or "nan") for cell in line.split(",")] for line in lines]


@pytest.mark.parametrize(
    "settings",
    [
        ("model.prefix_len=1", "train.micro_batch=3"),
        ("model=hrm", "model.heads=2", "model.layers=1"),
    ],
    ids=["trm with identifiers in micro-batches", "hrm with the continue loss"],
)
def test_two_processes_equal_one_and_hand_over_to_one(tmp_path, settings):
    both, alone, handed = tmp_path / "both", tmp_path / "alone", ("trainer.max_steps=8",)
    process = two(*settings, f"run_dir={both}", "trainer.max_steps=6")
    result = run_training(compose("train", *SETTINGS, *settings, f"run_dir={alone}"))
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert printed.count("9 test puzzles") == 2, "the heading and the table, once each"
    # Training, validation and test saw every puzzle once.
    torch.testing.assert_close(metrics(alone), metrics(both), rtol=1e-9, atol=1e-9, equal_nan=True)
    table = [row.strip() for row in printed.splitlines() if row.startswith("│")]
    assert len(table) == len(result["test"])
    # The same weights, puzzles in hand and rows; then one process goes on from two.
    for steps in ((), handed):
        if steps:
            for run in (both, alone):
                run_training(compose("train", *SETTINGS, *settings, *steps, f"ckpt_path={run}"))
        a, b = (torch.load(run / "checkpoints" / "last.ckpt") for run in (alone, both))
        for key in ("state_dict", "current_model_state", "optimizer_states", "carry"):
            assert error(a[key], b[key]) < 1e-9, key
        if "identifiers" in a:
            assert error(a["identifiers"], b["identifiers"]) < 1e-9


@pytest.mark.parametrize("whom", ["first", "second"])
def test_a_process_that_dies_ends_the_others_with_an_error(tmp_path, whom):
    process = two(f"run_dir={tmp_path / 'run'}", "trainer.max_steps=1000000")
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    second = int(Path(children).read_text().split()[0])
    os.kill(process.pid if whom == "first" else second, signal.SIGKILL)
    _, said = process.communicate(timeout=60)  # the pipe closes when both have ended
    assert process.returncode != 0
    lost = 1 if whom == "first" else 0
    assert f"error: process {lost} of 2 lost contact" in said
    assert "Traceback" not in said
    assert f"ckpt_path={checkpoint}" in said
    assert torch.load(checkpoint)["global_step"] > 0


def test_a_signal_to_the_first_process_stops_both(tmp_path):
    run = tmp_path / "run"
    process = two(f"run_dir={run}", "trainer.max_steps=1000000")
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    step = torch.load(run / "checkpoints" / "last.ckpt")["global_step"]
    assert process.returncode == 128 + signal.SIGTERM
    assert said.count("stopped by SIGTERM") == 1
    assert f"step {step} of 1000000 is saved" in said


def test_shares_are_equal_runs_that_leave_nothing_out(monkeypatch):
    for total in range(1, 12):
        for count in range(1, 5):
            monkeypatch.setattr(distributed, "count", lambda count=count: count)
            seen = []
            for rank in range(count):
                monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
                seen.append(list(range(total))[distributed.share(total)])
            assert [item for part in seen for item in part] == list(range(total))
            assert max(map(len, seen)) - min(map(len, seen)) <= 1
            assert seen[0], "the first has the puzzles that are drawn"


def test_a_share_without_puzzles_is_no_error(monkeypatch):
    task = Sudoku(2, 2)
    puzzles = generated(task, train=8, val=2, test=1).splits["test"]
    monkeypatch.setattr(distributed, "share", lambda total: slice(total, total))
    evaluation = evaluate(tiny_model(), task, puzzles, steps=2)
    assert evaluation.hits["exact"] == [0, 0]
