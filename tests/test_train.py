"""The commands, from config to result.json, in process and as a user starts them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY, compose
from trm import InputError, load
from trm.checkpoints import native
from trm.compare import main as compare
from trm.evaluate import run_evaluation
from trm.train import run_training


def run(*arguments: str, cwd: Path, command: str = "train") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"trm.{command}", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def same(a, b) -> bool:
    """Equal to the last bit, through nested containers."""
    if isinstance(a, torch.Tensor):
        return a.equal(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("trained") / "run"
    result = run_training(compose("train", *TINY, f"run_dir={folder}"))
    return folder, result


def test_a_run_keeps_config_checkpoints_metrics_and_result(trained):
    folder, result = trained
    assert {path.name for path in folder.iterdir()} == {
        "checkpoints",
        "config.yaml",
        "csv",
        "result.json",
    }
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert json.loads((folder / "result.json").read_text()) == json.loads(json.dumps(result))
    assert result["steps"] == 6
    assert [row["step"] for row in result["test"]] == [1, 2, 3]
    assert result["test"][0]["n"] == 8
    assert result["certificate"]["torch"] == torch.__version__
    metrics = (folder / "csv" / "version_0" / "metrics.csv").read_text()
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
    from trm.training.module import DeepSupervision

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


@pytest.mark.parametrize("prefix", [0, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(tiny_config, tmp_path, prefix):
    model = f"model.prefix_len={prefix}"
    whole = tiny_config(model, f"run_dir={tmp_path / 'whole'}")
    run_training(whole)
    run_training(tiny_config(model, f"run_dir={tmp_path / 'part'}", "trainer.max_steps=3"))
    checkpoint = tmp_path / "part" / "checkpoints" / "last.ckpt"
    run_training(tiny_config(model, f"ckpt_path={checkpoint}"))
    kept = ("state_dict", "current_model_state", "optimizer_states", "carry", "identifiers")
    one, other = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("whole", "part")
    )
    assert one["global_step"] == other["global_step"] == 6
    for key in kept:
        assert same(one.get(key), other.get(key)), key


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
        ("train.loss=mse", "train.loss='mse' must be one of"),
        ("data.test=0", "data.test=0 must be at least 1"),
        ("trainer.max_steps=0", "trainer.max_steps=0 must be a number of steps"),
        ("ema.decay=1", "ema.decay=1 must lie in"),
        ("ckpt_path=nowhere.ckpt", "nowhere.ckpt does not exist"),
        ("init_from=nowhere.ckpt", "nowhere.ckpt does not exist"),
        ("trainer.accelerator=gpu", "gpu"),
        ("+model.colour=3", "model.colour is not an argument of TinyRecursiveModel"),
        ("+train.nsup=3", "train.nsup is not an argument .* did you mean N_sup"),
        ("task._target_=os.system", "task._target_=os.system is no Task"),
        ("data=sudoku_extreme", "data.path=null"),
    ],
)
def test_a_run_refused_at_start_leaves_no_folder(tmp_path, monkeypatch, override, said):
    monkeypatch.chdir(tmp_path)
    tiny = [text for text in TINY if not text.startswith("data.") or "data=" not in override]
    if override.startswith("model.dim"):
        tiny += ["model=trm_att", "model.heads=4"]
    with pytest.raises(Exception, match=said):
        run_training(compose("train", *tiny, override))
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_in_use_is_refused(trained, tiny_config):
    with pytest.raises(InputError, match="is not empty; name a new folder, or continue"):
        run_training(tiny_config(f"run_dir={trained[0]}"))


def test_continuing_with_other_settings_is_refused_with_the_difference(trained, tiny_config):
    checkpoint = trained[0] / "checkpoints" / "last.ckpt"
    for override, said in (
        ("model.n=2", "model.n=1, not 2"),
        ("task.box_cols=3", "task.box_cols=2, not 3"),
        ("data.seed=5", "data.seed=0, not 5"),
    ):
        with pytest.raises(InputError, match=said):
            run_training(tiny_config(f"ckpt_path={checkpoint}", override))


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


def test_the_command_line_explains_in_one_line(tmp_path):
    for arguments, said in (
        (["model.dimm=3"], "'model.dimm' does not exist; did you mean model.dim?"),
        (["experiment=sudoku_5x5"], "Could not find 'experiment/sudoku_5x5'"),
        (["trainer.max_steps=many"], "max_steps"),
        (["train.N_sup=0"], "train.N_sup=0 must be at least 1"),
    ):
        process = run(*arguments, cwd=tmp_path)
        assert process.returncode == 2, process.stderr
        assert process.stderr.startswith("error: "), process.stderr
        assert process.stderr.count("\n") == 1, process.stderr
        assert said in process.stderr
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


@pytest.mark.parametrize("model", ["hrm", "direct"])
def test_baselines_train_through_the_same_command(tiny_config, model):
    result = run_training(tiny_config(f"model={model}", "model.heads=2", "model.layers=1"))
    assert [row["step"] for row in result["test"]] == ([1] if model == "direct" else [1, 2, 3])
    loaded = load(Path(result["config"]["run_dir"]) / result["checkpoint"])
    assert type(loaded).__name__ in ("HierarchicalReasoningModel", "DirectPrediction")
