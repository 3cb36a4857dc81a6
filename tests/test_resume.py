"""A run that ends too early loses nothing: resume, signals, damaged files, full disks."""

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conftest import TINY, compose, same
from trm import InputError
from trm.checkpoints import continuing, native
from trm.checkpoints.continuing import merged_overrides
from trm.models import TinyRecursiveModel
from trm.train import run_training
from trm.training.module import DeepSupervision

pytestmark = pytest.mark.usefixtures("preloaded")

SETTINGS = (
    "train.halt_exploration=0.5",
    "train.warmup_steps=6",
    "train.log_every_n_steps=4",
    "optimizer.lr=1e-2",
    "trainer.max_steps=10",
    "trainer.val_check_interval=5",
    "test.limit=2",
)


class Killed(BaseException):
    """Nothing catches it."""


@pytest.fixture
def die_at(monkeypatch):
    """Let the next runs die when they begin a step."""
    original = DeepSupervision.training_step

    def arrange(step):
        def training_step(self, batch, batch_idx):
            if self.global_step == step:
                raise Killed
            original(self, batch, batch_idx)

        monkeypatch.setattr(DeepSupervision, "training_step", training_step)

    return arrange


def saved(run: Path, name: str = "last.ckpt") -> dict:
    return torch.load(run / "checkpoints" / name, weights_only=True)


# Several sizes in a run, with everything that networks of any size are trained with.
SIZES = (
    "model=trm_symmetric",
    "~model.hidden_multiple",
    "objective=unroll",
    "objective.unroll=3",
    "objective.start=random",
    "objective.contradiction_weight=0.1",
    "recursion.T=1",
    "train.filling={untouched: 0.2, wrong: 0.3}",
    "train.small_first=true",
    "sizes=[{task: {box_cols: 3}, data: {train: 20, val: 1, test: 1}}]",
)
SMALL_HEADS = ("model.heads=2",)
STATE = ("state_dict", "current_model_state", "optimizer_states", "carry", "identifiers", "tally")


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        a, b = saved(one, name), saved(other, name)
        assert a["global_step"] == b["global_step"]
        for key in (*STATE, "lr_schedulers", "loops", "rng_states"):
            assert same(a.get(key), b.get(key)), f"{name}: {key}"
    metrics = [(run / "csv" / "metrics.csv").read_text() for run in (one, other)]
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("model.prefix_len=2",),
        ("model=hrm", "model.heads=2", "model.layers=1"),
        ("ema=null", "train.micro_batch=3"),
        ("train.lr_min_ratio=0.1", "optimizer=adam_atan2"),
        SIZES,
        # What came since the paper, a few at a time.
        ("ablation=[random_start,path_noise,position_tables,short_convolution]",),
        ("ablation=[self_attention,qk_norm,muon,feedback_repair,consistency_loss]", *SMALL_HEADS),
        ("ablation=[winner_takes_all,depth_curriculum]", "recursion.n=3"),
        ("ablation=[denoising_targets,unroll]", "recursion.T=1", "objective.unroll=3"),
    ],
    ids=" ".join,
)
def test_a_run_that_died_and_went_on_equals_one_that_did_not(
    tiny_config, tmp_path, die_at, settings
):
    settings = (*SETTINGS, *settings, "checkpoint.every_n_steps=3")
    die_at(None)
    run_training(tiny_config(*settings, f"run_dir={tmp_path / 'whole'}"))
    for step in (5, 7, 9):  # before a save of its own, in mid-trajectory, and off the log
        die_at(step)
        with pytest.raises(Killed):
            run_training(tiny_config(*settings, f"run_dir={tmp_path / 'part'}", "ckpt_path=auto"))
    assert saved(tmp_path / "part")["carry"]["steps"].min() > 0
    die_at(None)
    run_training(tiny_config(*settings, f"ckpt_path={tmp_path / 'part'}"))
    assert_same_run(tmp_path / "whole", tmp_path / "part")


class WithDropout(TinyRecursiveModel):
    """A user's model that draws from the global generator."""

    def latent_recursion(self, x, y, z):
        y, z = super().latent_recursion(x, y, z)
        return nn.functional.dropout(y, 0.3, self.training), z


def test_a_model_that_draws_from_the_global_generator_resumes_alike(tiny_config, tmp_path, die_at):
    settings = (*SETTINGS, "model._target_=tests.test_resume.WithDropout")
    settings += ("checkpoint.every_n_steps=3",)
    run_training(tiny_config(*settings, f"run_dir={tmp_path / 'whole'}"))
    die_at(8)
    with pytest.raises(Killed):
        run_training(tiny_config(*settings, f"run_dir={tmp_path / 'part'}"))
    die_at(None)
    run_training(tiny_config(*settings, f"ckpt_path={tmp_path / 'part'}"))
    assert_same_run(tmp_path / "whole", tmp_path / "part")


def test_a_model_whose_code_has_changed_is_refused_in_one_line(tiny_config, tmp_path, monkeypatch):
    settings = (*SETTINGS, "model._target_=tests.test_resume.WithDropout")
    run_training(tiny_config(*settings, f"run_dir={tmp_path}"))

    original = TinyRecursiveModel.__init__

    @wraps(original)
    def with_more(self, *arguments, **options):
        original(self, *arguments, **options)
        self.further = nn.Linear(2, 2)

    monkeypatch.setattr("tests.test_resume.WithDropout.__init__", with_more)
    with pytest.raises(InputError, match=r"last\.ckpt does not fit the model: further\.bias"):
        run_training(tiny_config(*settings, f"ckpt_path={tmp_path}", "trainer.max_steps=12"))


def test_metrics_are_logged_under_the_steps_taken(tiny_config, tmp_path):
    run_training(tiny_config(*SETTINGS, f"run_dir={tmp_path / 'run'}"))
    with open(tmp_path / "run" / "csv" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["step"]), bool(row["train/loss"])) for row in rows] == [
        (4, True),
        (5, False),
        (8, True),
        (10, False),
    ]


def test_a_longer_run_goes_on_where_a_finished_one_ended(tiny_config, tmp_path):
    run_training(tiny_config(*SETTINGS, f"run_dir={tmp_path / 'whole'}", "trainer.max_steps=15"))
    run_training(tiny_config(*SETTINGS, f"run_dir={tmp_path / 'part'}"))
    part = f"ckpt_path={tmp_path / 'part'}"
    with pytest.raises(InputError, match="has its 10 steps behind it"):
        run_training(tiny_config(*SETTINGS, part))
    run_training(tiny_config(*SETTINGS, part, "trainer.max_steps=15"))
    one, other = (saved(tmp_path / name) for name in ("whole", "part"))
    for key in STATE:
        assert same(one.get(key), other.get(key)), key


def test_a_run_that_ended_before_its_test_is_tested(tiny_config, tmp_path):
    run = tmp_path / "run"
    result = run_training(tiny_config(*SETTINGS, f"run_dir={run}"))
    before = saved(run)
    (run / "result.json").unlink()
    again = run_training(tiny_config(*SETTINGS, f"ckpt_path={run}"))
    assert again["test"] == result["test"]
    assert again["val_exact_accuracy"] == result["val_exact_accuracy"]
    assert same(saved(run)["state_dict"], before["state_dict"])


def test_a_test_told_into_a_new_folder_keeps_it(tiny_config, tmp_path):
    run, new = tmp_path / "run", tmp_path / "new"
    run_training(tiny_config(*SETTINGS, f"run_dir={run}"))
    (run / "result.json").unlink()  # killed after training
    run_training(
        tiny_config(*SETTINGS, f"ckpt_path={run / 'checkpoints/last.ckpt'}", f"run_dir={new}")
    )
    assert (new / "result.json").is_file(), "no step was left to take, but there is a result"


def test_a_run_stopped_early_is_finished_too(tiny_config, tmp_path):
    run = tmp_path / "run"
    early = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1")
    settings = (*SETTINGS, *early, "trainer.max_steps=100", f"run_dir={run}")
    assert run_training(tiny_config(*settings))["steps"] < 100
    checkpoint = continuing.find("auto", str(run))
    assert continuing.is_finished(checkpoint, 100)
    assert not continuing.is_finished(checkpoint, 200), "asked for more"


def test_a_run_that_was_moved_keeps_its_best_checkpoint(tiny_config, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run_training(tiny_config(*SETTINGS, f"run_dir={run}"))
    run.rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    scores = iter([-1.0])  # no later validation is better

    def scripted(self):
        self._log({"val/exact_accuracy": next(scores)})

    monkeypatch.setattr(DeepSupervision, "on_validation_epoch_end", scripted)
    result = run_training(tiny_config(*SETTINGS, f"ckpt_path={moved}", "trainer.max_steps=15"))
    assert not run.exists()
    assert result["checkpoint"] == "checkpoints/best.ckpt"
    assert saved(moved, "best.ckpt")["global_step"] <= 10


def test_a_damaged_last_checkpoint_gives_way_to_one_that_is_whole(tiny_config, tmp_path, caplog):
    run = tmp_path / "run"
    run_training(tiny_config(*SETTINGS, f"run_dir={run}"))
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    found = continuing.find(str(run), None)
    assert found.path.name == "best.ckpt"
    assert "continuing from best.ckpt instead" in caplog.text
    (run / "checkpoints" / "best.ckpt").write_bytes(b"")
    with pytest.raises(InputError, match=r"last.ckpt cannot be opened: it is truncated"):
        continuing.find(str(run), None)


def test_the_run_to_continue_is_found(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert continuing.find(None, None) is None
    assert continuing.find("auto", "new") is None
    for ckpt_path, said in (
        ("last", "no checkpoints/.* under logs"),
        ("auto", "name it with run_"),
    ):
        with pytest.raises(InputError, match=said):
            continuing.find(ckpt_path, None)
    for name in ("a", "b"):
        run_training(tiny_config(*SETTINGS, f"run_dir=logs/{name}"))
    assert continuing.find("last", None).path == tmp_path / "logs/b/checkpoints/last.ckpt"
    assert continuing.find("last", "logs/a").path == tmp_path / "logs/a/checkpoints/last.ckpt"
    assert continuing.find("auto", "logs/a").step == 10
    with pytest.raises(InputError, match="is no run"):
        continuing.find(".", None)


def test_overrides_of_the_run_come_before_those_of_the_command():
    earlier = ["experiment=a", "model.dim=3", "run_dir=x", "+model.new=1", "trainer.max_steps=5"]
    now = ["ckpt_path=x", "trainer.max_steps=9", "++model.new=2"]
    assert merged_overrides(earlier, now) == ["experiment=a", "model.dim=3", *now]


def test_light_checkpoints_leave_out_what_they_say(tiny_config, tmp_path, capsys):
    sizes = {}
    for name, light in (
        ("full", ()),
        ("light", ("checkpoint.light=true",)),
        ("lightest", ("checkpoint.light=true", "checkpoint.moments=false")),
    ):
        run = tmp_path / name
        settings = (*SETTINGS, *light, "model.prefix_len=1", "train.batch_size=32")
        result = run_training(tiny_config(*settings, f"run_dir={run}"))
        assert result["saving"]["saves"] >= 2
        assert result["saving"]["light"] == bool(light)
        sizes[name] = result["saving"]["size_bytes"]
        run_training(tiny_config(*settings, f"ckpt_path={run}", "trainer.max_steps=15"))
        assert saved(run)["global_step"] == 15
        assert ("light: fresh puzzles" in capsys.readouterr().out) == bool(light)
    assert sizes["full"] > sizes["light"] > sizes["lightest"]
    moments = saved(tmp_path / "lightest")["optimizer_states"][0]["parts"][0]
    assert moments["state"] == {}
    assert moments["param_groups"][0]["lr"] > 0, "the schedule's, not the first step's"


# ---------------------------------------------------------------- as a user starts it


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "trm.train", *arguments]


def tell(process: subprocess.Popen, run: Path, *signals: int) -> tuple[str, int]:
    """Signal a run once it has saved; return what it said and its exit status."""
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "it never saves"
        time.sleep(0.01)
    for number in signals:
        process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    return said, process.returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_saves_and_says_how_to_go_on(tiny_config, tmp_path, number):
    run, whole = tmp_path / "run", tmp_path / "whole"
    start = command(*TINY, *SETTINGS, f"run_dir={run}", "trainer.max_steps=100000")
    process = subprocess.Popen(start, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    said, status = tell(process, run, number)
    step = saved(run)["global_step"]
    assert status == 128 + number
    assert f"stopped by {number.name}: step {step} of 100000 is saved" in said
    assert f"continue with ckpt_path={run}/checkpoints/last.ckpt" in said
    assert "Traceback" not in said
    # Continuing needs nothing of the first command line.
    steps = f"trainer.max_steps={step + 7}"
    go_on = subprocess.run(command(f"ckpt_path={run}", steps), capture_output=True, text=True)
    assert go_on.returncode == 0, go_on.stderr
    run_training(tiny_config(*SETTINGS, f"run_dir={whole}", steps))
    for key in STATE:
        assert same(saved(whole).get(key), saved(run).get(key)), key


def test_a_folder_in_use_is_refused(tiny_config, tmp_path):
    run = tmp_path / "run"
    start = command(*TINY, *SETTINGS, f"run_dir={run}", "trainer.max_steps=100000")
    process = subprocess.Popen(start, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    with pytest.raises(InputError, match="is in use by another process"):
        run_training(tiny_config(*SETTINGS, f"ckpt_path={run}", "trainer.max_steps=200000"))
    assert process.poll() is None, "the first run goes on"
    process.kill()
    process.communicate()
    run_training(
        tiny_config(
            *SETTINGS, f"ckpt_path={run}", f"trainer.max_steps={saved(run)['global_step'] + 1}"
        )
    )


# ---------------------------------------------------------------- disks


@contextmanager
def largest_file(size: int):
    """No file may grow beyond ``size``, as on a full disk; binds root as well."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_last_checkpoint_whole(tiny_config, tmp_path):
    run = tmp_path / "run"
    run_training(tiny_config(*SETTINGS, f"run_dir={run}"))
    before = (run / "checkpoints" / "last.ckpt").read_bytes()
    with (
        largest_file(len(before) // 2),
        pytest.raises(
            InputError, match="cannot be written: .*File too large.*; the one before is whole"
        ),
    ):
        run_training(tiny_config(*SETTINGS, f"ckpt_path={run}", "trainer.max_steps=15"))
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == before
    assert not list((run / "checkpoints").glob(".*")), "nothing half-written stays"
    run_training(tiny_config(*SETTINGS, f"ckpt_path={run}", "trainer.max_steps=15"))
    assert saved(run)["global_step"] == 15


def test_metrics_that_do_not_fit_on_the_disk_end_the_run_in_one_line(tiny_config, tmp_path):
    settings = (*SETTINGS, "train.log_every_n_steps=1", "trainer.val_check_interval=100")
    settings += ("trainer.max_steps=100",)
    said = "metrics.csv cannot be written: File too large"
    with largest_file(4000), pytest.raises(InputError, match=said):
        run_training(tiny_config(*settings, f"run_dir={tmp_path / 'run'}"))


@contextmanager
def ordinary_user():
    """Root may write anywhere: be nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_cannot_be_written_is_refused(tiny_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written to: Not a directory"):
        run_training(tiny_config(f"run_dir={tmp_path / 'file' / 'run'}"))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for folder in tmp_path.parents:  # nobody must come as far as the folder
        if folder.stat().st_uid == os.getuid() and len(folder.parts) > 2:
            folder.chmod(0o755)
    cfg = tiny_config(f"run_dir={closed / 'run'}")
    with ordinary_user():
        with pytest.raises(PermissionError):
            (closed / "x").touch()
        with pytest.raises(InputError, match="cannot be written to: Permission denied"):
            run_training(cfg)
    assert list(closed.iterdir()) == []


def test_what_a_run_was_called_with_is_kept(tmp_path):
    cfg = compose("train", *TINY, f"run_dir={tmp_path / 'run'}")
    run_training(cfg, overrides=["experiment=sudoku_4x4", "seed=0"])
    checkpoint = native.read(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert checkpoint.overrides == ["experiment=sudoku_4x4", "seed=0"]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["saving"]["saves"] > 0
    shutil.rmtree(tmp_path / "run")
