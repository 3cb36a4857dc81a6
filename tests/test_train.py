"""The commands, from config to result.json, in process and as a user starts them."""

import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY, compose, same
from trm import InputError, load, train
from trm.checkpoints import native
from trm.commands import readable, run_command
from trm.compare import main as compare
from trm.data.loading import load_data
from trm.evaluate import run_evaluation
from trm.multirun import JobFailedError, Multirun
from trm.results.files import read_result, write_json
from trm.train import run_training
from trm.training.assembly import _identified
from trm.training.module import DeepSupervision
from trm.training.saving import AtomicCheckpointIO


def run(*arguments: str, cwd: Path, command: str = "train") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"trm.{command}", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_run_keeps_config_checkpoints_metrics_and_result(trained):
    folder, result = trained
    assert {path.name for path in folder.iterdir()} == {
        "checkpoints",
        "config.yaml",
        "csv",
        "result.json",
        ".lock",
    }
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert json.loads((folder / "result.json").read_text()) == json.loads(json.dumps(result))
    assert result["steps"] == 6
    assert [row["step"] for row in result["test"]] == [1, 2, 3]
    assert result["test"][0]["n"] == 8
    assert result["certificate"]["torch"] == torch.__version__
    metrics = (folder / "csv" / "metrics.csv").read_text()
    assert "val/exact_accuracy" in metrics.splitlines()[0]


def test_evaluate_repeats_the_numbers_of_training(trained, tmp_path):
    folder, result = trained
    output = tmp_path / "numbers.json"
    checkpoint = folder / "checkpoints" / "best.ckpt"
    evaluation = run_evaluation(compose("evaluate", f"checkpoint={checkpoint}", f"output={output}"))
    assert evaluation["evaluation"] == result["test"]
    assert json.loads(output.read_text())["evaluation"] == result["test"]


def test_checkpoints_open_without_running_code_and_load_in_eval_mode(trained):
    folder, result = trained
    for name in ("best.ckpt", "last.ckpt"):
        contents = torch.load(folder / "checkpoints" / name, weights_only=True)
        assert contents["trm"]["format"] == native.FORMAT
        assert contents["trm"]["manifest"] == result["manifest"]
    model = load(folder / "checkpoints" / "last.ckpt")
    assert not model.training
    assert sum(p.numel() for p in model.parameters()) == result["parameters"]


def test_the_weights_validated_are_the_average_and_the_weights_saved(tiny_config, monkeypatch):
    validated = []
    original = DeepSupervision.validation_step

    def remember(self, batch, batch_idx):
        validated.append({k: v.clone() for k, v in self.model.state_dict().items()})
        original(self, batch, batch_idx)

    monkeypatch.setattr(DeepSupervision, "validation_step", remember)
    cfg = tiny_config("ema.decay=0.5")
    run_training(cfg)
    contents = native.read(Path(cfg.run_dir) / "checkpoints" / "last.ckpt").contents
    saved = {k.removeprefix("model."): v for k, v in contents["state_dict"].items()}
    stepped = {k.removeprefix("model."): v for k, v in contents["current_model_state"].items()}
    assert len(validated) == 2, "every val_check_interval steps, the last step included"
    assert same(saved, validated[-1])
    assert not same(stepped, validated[-1])


def test_the_last_step_is_validated_even_if_the_interval_does_not_meet_it(tiny_config):
    cfg = tiny_config("trainer.max_steps=2", "trainer.val_check_interval=100")
    assert run_training(cfg)["val_exact_accuracy"] is not None


def test_init_from_starts_a_new_run_from_validated_weights(trained, tiny_config):
    checkpoint = trained[0] / "checkpoints" / "last.ckpt"
    cfg = tiny_config(f"init_from={checkpoint}", "optimizer.lr=0", "optimizer.weight_decay=0")
    run_training(cfg)
    start = native.read(checkpoint).contents["state_dict"]
    assert same(
        native.read(Path(cfg.run_dir) / "checkpoints/last.ckpt").contents["state_dict"], start
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.dim=17", "model.dim=17 .* model.heads=4"),
        ("train.batch_size=0", "train.batch_size=0 must be at least 1"),
        ("train.batch_size=ten", "train.batch_size='ten' must be of type int"),
        ("model.n=2.5", "model.n=2.5 must be of type int"),
        ("train.loss=mse", "train.loss=mse must be one of"),
        ("data.test=0", "data.test=0 must be at least 1"),
        ("trainer.max_steps=0", "trainer.max_steps=0 must be at least 1"),
        ("ema.decay=1", "ema.decay=1 must lie in"),
        ("ckpt_path=nowhere.ckpt", "nowhere.ckpt does not exist"),
        ("init_from=nowhere.ckpt", "nowhere.ckpt does not exist"),
        ("trainer.accelerator=gpu", "gpu"),
        ("+model.colour=3", "model.colour is not an argument of TinyRecursiveModel"),
        ("+train.nsup=3", "train.nsup is not an argument .* did you mean N_sup"),
        ("task._target_=os.system", "task._target_=os.system is no Task"),
        ("data._target_=os.system", "data._target_=os.system is no function that returns a Puzz"),
        ("task._target_=trm.tasks.base.Task", "trm.tasks.base.Task lacks .*is_valid"),
        ("data=sudoku_extreme", "data.path=null"),
        ("optimizer.lr=-1", "optimizer: .*-1"),
        ("+optimizer.colour=1", "optimizer: .*colour"),
        (
            "callbacks=early_stopping callbacks.early_stopping.monitor=val/x",
            "monitor=val/x must be",
        ),
        ("checkpoint.monitor=val/x", "checkpoint.monitor=val/x must be one of val/exact"),
        ("trainer.limit_val_batches=0", "leaves nothing to choose"),
        ("trainer.devices=3", "batch_size=8 cannot be split evenly over 3 processes"),
        ("seed=-1", "seed=-1 must lie between"),
        ("seed=1.5", "seed=1.5 must be of type int"),
        ("run_dir=2024", "run_dir=2024 must be of type"),
        ("ema.decay=abc", "ema.decay='abc' must be of type float"),
        ("ema=5", "ema=5 must be of type"),
        ("test.limit=-2", "test.limit=-2 must be 0 or more"),
        ("test.limit=ten", "test.limit='ten' must be of type"),
        ("train.gradient_clip=-1", "train.gradient_clip=-1 must be positive"),
        ("train.warmup_steps=-3", "train.warmup_steps=-3 must be at least 0"),
        ("model.identifier_dim=-3", "model.identifier_dim=-3 must be at least 1"),
        ("train=null", "train=None must be of type dict"),
        ("recursion.n=0", "model.n=0 never shows the puzzle"),
        ("train.gradient_clip=1 trainer.precision=16-mixed", "would clip gradients that"),
        ("trainer.precision=bf16-true", "too coarsely for the small steps of an average"),
    ],
)
def test_a_run_refused_at_start_leaves_no_folder(tmp_path, monkeypatch, override, said):
    monkeypatch.chdir(tmp_path)
    tiny = [text for text in TINY if not text.startswith("data.") or "data=" not in override]
    if override.startswith("model.dim"):
        tiny += ["model=trm_att", "model.heads=4"]
    with pytest.raises(Exception, match=said):
        run_training(compose("train", *tiny, *override.split()))
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_in_use_is_refused(trained, tiny_config):
    with pytest.raises(InputError, match="is not empty; name a new folder, or continue"):
        run_training(tiny_config(f"run_dir={trained[0]}"))


def test_continuing_with_other_settings_is_refused_with_the_difference(trained, tiny_config):
    checkpoint = trained[0] / "checkpoints" / "last.ckpt"
    for override, said in (
        ("recursion.n=2", "model.n=1, recursion.n=1, not model.n=2, recursion.n=2"),
        ("trainer.max_steps=6", "has its 6 steps behind it"),
        ("task.box_cols=3", "task.box_cols=2, not task.box_cols=3"),
        ("data.seed=5", "data.seed=0, not data.seed=5"),
        ("train.lr_min_ratio=0.1", "train.lr_min_ratio=1.0.* not .*train.lr_min_ratio=0.1"),
    ):
        with pytest.raises(InputError, match=said):
            run_training(tiny_config(f"ckpt_path={checkpoint}", "trainer.max_steps=9", override))


def test_weights_and_data_of_another_task_are_refused(trained, tiny_config, tmp_path):
    checkpoint = trained[0] / "checkpoints" / "last.ckpt"
    with pytest.raises(
        InputError, match=r"does not fit the model: .* in the file and .* in the model"
    ):
        run_training(tiny_config(f"init_from={checkpoint}", "task.box_cols=3"))
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train.csv", "test.csv"):
        (folder / name).write_text(f"source,question,answer,rating\nx,{36 * '.'},{36 * '1'},0\n")
    with pytest.raises(InputError, match="has 36 cells, sudoku_4x4 needs 16"):
        run_evaluation(
            compose(
                "evaluate", f"checkpoint={checkpoint}", "data=sudoku_extreme", f"data.path={folder}"
            )
        )


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_truncated_checkpoint_is_refused(trained, tmp_path, keep):
    path = tmp_path / "cut.ckpt"
    path.write_bytes((trained[0] / "checkpoints" / "best.ckpt").read_bytes()[:keep])
    with pytest.raises(InputError, match="cannot be opened: it is truncated"):
        native.read(path)


@pytest.mark.parametrize("contents", [{"state_dict": {}}, [1, 2]])
def test_a_torch_file_that_is_no_checkpoint_is_refused(tmp_path, contents):
    torch.save(contents, tmp_path / "file.ckpt")
    with pytest.raises(InputError, match="no checkpoint of this library"):
        native.read(tmp_path / "file.ckpt")


def test_a_checkpoint_that_wants_to_run_code_is_refused(tmp_path):
    torch.save({"trm": Path("x")}, tmp_path / "file.ckpt")
    with pytest.raises(InputError, match="wants to run code"):
        native.read(tmp_path / "file.ckpt")


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("model.dimm=3", "'model.dimm' does not exist; did you mean model.dim?"),
        ("experiment=sudoku_5x5", "experiment=sudoku_5x5 does not exist; did you mean sudoku_"),
        ("model=trm-mpl", "model=trm-mpl does not exist; did you mean trm_mlp?"),
        ("trainer.max_steps=many", "max_steps"),
        ("train.N_sup=0", "train.N_sup=0 must be at least 1"),
        ("footprint.watts=-3", "footprint.watts=-3 must be positive"),
        ("~ema", "config key ema is gone; set ema=null"),
        ("logger=null", "must be a string or a list. Got NoneType"),
        ("trainer=[1,2]", "name an option as in --help"),
        ("data.path=a(b).csv", """quote it twice: 'data.path="a(b).csv"'"""),
        ("run_dir=a=b", """run_dir=a=b cannot be read: = , : ( ) [ ] { } $ and quotes"""),
        ("+foo=1", "config key foo does not exist, and no value refers to it"),
    ],
)
def test_the_command_line_explains_in_one_line(tmp_path, monkeypatch, capsys, argument, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # which the command sets, and nothing takes back
    monkeypatch.setattr(sys, "argv", ["trm.train", argument])
    with pytest.raises(SystemExit) as ended:
        run_command(train._main, "train")
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: "), printed
    assert printed.count("\n") == 1, printed
    assert said in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("experiment=sudoku-4x4", "experiment=sudoku_4x4"),
        ("ablation=[no-ema,four_layers]", "ablation=[no_ema,four_layers]"),
        ("model=trm-mlp,hrm", "model=trm_mlp,hrm"),
        ("experiment=my-own", "experiment=my-own"),
        ("data.path=/tmp/Rätsel", "data.path='/tmp/Rätsel'"),
        ("data.path=a-b", "data.path=a-b"),
        ("--config-dir=é", "--config-dir=é"),
    ],
)
def test_options_and_places_are_read_as_people_write_them(typed, read):
    assert readable(typed) == read


def test_a_mistake_ends_the_command_as_a_user_starts_it(tmp_path):
    process = run("train.N_sup=0", cwd=tmp_path)
    assert process.returncode == 2
    assert process.stderr == "error: train.N_sup=0 must be at least 1\n"
    assert list(tmp_path.iterdir()) == []


def test_train_then_evaluate_from_any_folder(tmp_path):
    process = run(*TINY, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "95 % interval" in process.stdout
    assert "step 1" in process.stdout, "the drawn puzzle"
    checkpoint = next(tmp_path.glob("logs/sudoku_4x4/runs/*/checkpoints/best.ckpt"))
    process = run(f"checkpoint={checkpoint}", "limit=4", cwd=tmp_path, command="evaluate")
    assert process.returncode == 0, process.stderr
    assert "sudoku_4x4: 4 test puzzles" in process.stdout


def test_runs_can_be_compared(trained, tmp_path, capsys):
    assert compare([str(trained[0]), str(trained[0] / "result.json")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("9,442") == 2, "parameters"
    (tmp_path / "result.json").write_text("{}")
    for path in (tmp_path, tmp_path / "nothing.json"):
        assert compare([str(path)]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    assert compare([str(tmp_path), str(trained[0])]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("9,442") == 1
    assert shown.err.startswith(f"left out {tmp_path}: ")


@pytest.mark.parametrize("model", ["hrm", "direct"])
def test_baselines_train_through_the_same_command(tiny_config, model):
    result = run_training(tiny_config(f"model={model}", "model.heads=2", "model.layers=1"))
    assert [row["step"] for row in result["test"]] == ([1] if model == "direct" else [1, 2, 3])
    loaded = load(Path(result["config"]["run_dir"]) / result["checkpoint"])
    assert type(loaded).__name__ in ("HierarchicalReasoningModel", "DirectPrediction")


@pytest.mark.parametrize(
    "override",
    [
        "compute.max_steps=abc",
        "compute.max_steps=0",
        "limit=abc",
        "batch_size=null",
        "device=meta",
        "output=/nowhere/x.json",
        "split=nothing",
        "checkpoint=5",
    ],
)
def test_evaluate_refuses_bad_values_before_it_works(trained, override):
    checkpoint = f"checkpoint={trained[0] / 'checkpoints' / 'best.ckpt'}"
    with pytest.raises(InputError, match=override.partition("=")[0]):
        run_evaluation(compose("evaluate", checkpoint, override))


def test_the_best_checkpoint_is_chosen_by_validation_puzzles(tiny_config, monkeypatch):
    scores, seen = iter([0.2, 0.9, 0.4]), []

    def scripted(self):
        self.log("val/exact_accuracy", next(scores))

    original = DeepSupervision.validation_step

    def remember(self, batch, batch_idx):
        seen.append(batch.x_input)
        original(self, batch, batch_idx)

    monkeypatch.setattr(DeepSupervision, "on_validation_epoch_end", scripted)
    monkeypatch.setattr(DeepSupervision, "validation_step", remember)
    cfg = tiny_config("trainer.val_check_interval=2")
    result = run_training(cfg)
    best = native.read(Path(cfg.run_dir) / "checkpoints" / "best.ckpt")
    assert best.step == 4
    assert result["val_exact_accuracy"] == pytest.approx(0.9)
    val = load_data(result["config"]["data"], best.task()).splits["val"].x_input
    assert seen[0].equal(torch.from_numpy(val).long())


def test_a_save_that_fails_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": torch.ones(3)}, path)
    before = path.read_bytes()

    def half(checkpoint, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(InputError, match="disk full; the one before is whole"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(3)}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_results_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": 2, "b": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "broken",
    [
        {"trm": 5},
        {"trm": {"format": 1}},
        {"trm": {"format": 7}},
        {"trm": {"format": 1, "config": {}, "manifest": {}}},
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path, broken):
    torch.save(broken, tmp_path / "file.ckpt")
    with pytest.raises(InputError, match=r"damaged|no checkpoint of|has format 7"):
        native.read(tmp_path / "file.ckpt")


def test_a_checkpoint_moved_elsewhere_needs_a_folder_to_continue_in(trained, tiny_config, tmp_path):
    moved = tmp_path / "mine.ckpt"
    shutil.copy(trained[0] / "checkpoints" / "last.ckpt", moved)
    with pytest.raises(InputError, match="name the folder of the continued run with run_dir"):
        run_training(tiny_config(f"ckpt_path={moved}", "trainer.max_steps=7"))
    overrides = (f"ckpt_path={moved}", f"run_dir={tmp_path / 'on'}", "trainer.max_steps=7")
    result = run_training(tiny_config(*overrides))
    assert (tmp_path / "on" / "checkpoints" / "last.ckpt").is_file()
    before = trained[1]["training_wall_time_s"]
    assert result["training_wall_time_s"] > 0.5 * before, "the clock goes on where it stopped"


def test_the_result_is_kept_although_nobody_reads_what_is_printed(tiny_config, monkeypatch):
    def closed(*arguments, **settings):
        raise BrokenPipeError

    cfg = tiny_config()
    monkeypatch.setattr("trm.train.result_table", closed)
    with pytest.raises(BrokenPipeError):
        run_training(cfg)
    assert read_result(Path(cfg.run_dir))["test"][-1]["n"] == 8


def test_the_folder_of_a_run_stands_for_its_best_checkpoint(trained):
    best = load(trained[0] / "checkpoints" / "best.ckpt")
    assert same(load(trained[0]).state_dict(), best.state_dict())


def test_learning_rate_warms_up(tiny_config):
    cfg = tiny_config("train.warmup_steps=4", "train.log_every_n_steps=1", "optimizer.lr=1")
    run_training(cfg)
    text = (Path(cfg.run_dir) / "csv" / "metrics.csv").read_text()
    metrics = list(csv.DictReader(text.splitlines()))
    assert [float(row["train/lr"]) for row in metrics if row["train/lr"]] == [
        0.25,
        0.5,
        0.75,
        1,
        1,
        1,
    ]


@pytest.mark.parametrize("debug", ["fdr", "limit", "profiler"])
def test_debug_options_run(tiny_config, debug):
    cfg = tiny_config(f"debug={debug}", "trainer.max_steps=3")
    run_training(cfg)
    assert Path(cfg.run_dir).exists() == (debug != "fdr"), "fdr keeps nothing"


def test_double_precision_trains(tiny_config):
    assert run_training(tiny_config("trainer.precision=64-true"))["precision"] == "64-true"


@pytest.mark.usefixtures("preloaded")
def test_a_job_that_fails_does_not_end_the_others_of_a_multirun(tmp_path):
    few = ("trainer.max_steps=1", "test.limit=2", "logger=none")
    seeds = "seed=0,-1,1"
    jobs = run("-m", seeds, *TINY, *few, f"hydra.sweep.dir={tmp_path / 'sweep'}", cwd=tmp_path)
    assert jobs.returncode == 2, jobs.stderr
    assert "seed=-1" in jobs.stderr
    assert "Traceback" not in jobs.stderr
    assert jobs.stdout.count("checkpoint  ") == 2
    assert "1 of 3 jobs failed:" in jobs.stdout
    assert "Over seeds" in jobs.stdout
    assert "±" in jobs.stdout


def test_jobs_that_differ_in_seed_alone_are_averaged(capsys):
    multirun = Multirun()
    for seed, score in ((0, 0.5), (1, 0.7)):
        multirun.job(["n=1", f"seed={seed}"], lambda score=score: score, print)
    multirun.job(["n=2", "seed=0"], lambda: 0.25, print)

    def fails():
        raise JobFailedError("no such thing")

    assert math.isnan(multirun.job(["n=3"], fails, print))
    multirun.report()
    said = capsys.readouterr().out
    assert "60.0 ± 14.1 %" in said
    assert "25.0 %" in said
    assert "n=3: no such thing" in said


def test_a_continued_run_keeps_its_identity_with_weights_and_biases(tmp_path):
    logger = {"_target_": "lightning.pytorch.loggers.WandbLogger", "offline": False}
    one, other = _identified(logger, tmp_path), _identified(logger, tmp_path / ".")
    assert one == other
    assert one["resume"] == "allow"
    assert _identified(logger, tmp_path / "b")["id"] != one["id"]
    csv_logger = {"_target_": "lightning.pytorch.loggers.CSVLogger"}
    assert _identified(csv_logger, tmp_path) == csv_logger
