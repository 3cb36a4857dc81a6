"""An export answers as its model does, or is not written."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import trm
from tests.conftest import tiny_model
from trm.data import generated
from trm.data.sampler import Batch
from trm.export import command as export
from trm.export import formats
from trm.export import solve as exported
from trm.export.agreement import Agreement, compare
from trm.export.formats import KINDS
from trm.export.runner import Exported
from trm.inference.evaluation import answers
from trm.models import DirectPrediction, HierarchicalReasoningModel, SymmetricModel
from trm.models.recursion import trajectory
from trm.support.errors import InputError
from trm.tasks import Sudoku

DATA = {"_target_": "trm.data.generated", "train": 32, "val": 12, "test": 8}
SMALL = {"dim": 16, "heads": 2, "hidden_multiple": 8, "layers": 1}
CLOSE = {"torch_export": 1e-5, "onnx": 1e-3}  # of y_hat; the recursion lets rounding grow


def saved(folder, model, **run):
    train = {"N_sup": 3, "loss": "stablemax", "halting": None}
    run = {"config": {"data": DATA, "train": train}, "manifest": {}, "step": 6} | run
    trm.save(model, folder, Sudoku(2, 2), run)
    return folder


def attention(**changes):
    grid = {"mixing": "attention", "positions": "rotary_2d", "convolution": 3, "columns": 4}
    return tiny_model(**grid | {"layers": 1, "n": 0, "T": 1} | changes)


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """One small model of each mixing, exported in every format once."""
    models = {"mlp": tiny_model(layers=1, n=1, T=2).eval(), "attention": attention().eval()}
    found = {}
    for name, model in models.items():
        folder = tmp_path_factory.mktemp(name)
        checkpoint = saved(folder / "model", model)
        for kind in KINDS:
            export.export(checkpoint, kind, folder / kind, puzzles=8, tolerance=1.0)
            found[name, kind] = model, folder / kind
    return found


@pytest.fixture
def questions():
    return Batch.of(generated(Sudoku(2, 2), train=32, val=12, test=8).splits["test"])


@pytest.mark.parametrize("mixing", ["mlp", "attention"])
@pytest.mark.parametrize("kind", ["torch_export", "onnx"])
def test_answers_and_states_are_the_models_at_any_batch_size(exports, questions, mixing, kind):
    model, folder = exports[mixing, kind]
    runner = Exported.load(folder, threads=1)
    for size in (1, 3, 7):
        batch = questions[:size]
        x_input = batch.x_input.numpy()
        assert np.array_equal(runner.answers(x_input, 4), answers(model, batch, 4).numpy())
        y, z = runner.start(size)
        with torch.inference_mode():
            for step in trajectory(model, batch.x_input, batch.puzzle_id, 4):
                taken = runner.step(x_input, y, z)
                y, z = taken.y, taken.z
                for mine, theirs in (
                    (y, step.state.y),
                    (z, step.state.z),
                    (taken.y_hat, step.y_hat),
                    (taken.q_hat, step.q_hat),
                ):
                    np.testing.assert_allclose(mine, theirs.numpy(), atol=CLOSE[kind], rtol=0)


@pytest.mark.parametrize("mixing", ["mlp", "attention"])
def test_int8_rounds_each_linear_weight_to_a_255th_of_its_range(exports, questions, mixing):
    _, folder = exports[mixing, "int8"]
    rounded = trm.load(folder.parent / "model")
    for layer in rounded.modules():
        if isinstance(layer, torch.nn.Linear):
            scale = layer.weight.data.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
            layer.weight.data = (layer.weight.data / scale).round() * scale
    runner = Exported.load(folder)
    for size in (1, 3, 7):
        batch = questions[:size]
        expected = answers(rounded, batch, 3).numpy()
        assert np.array_equal(runner.answers(batch.x_input.numpy()), expected)


def test_int8_weights_take_a_quarter(tmp_path):
    checkpoint = saved(tmp_path / "model", tiny_model(dim=256, layers=1, n=0, T=1))
    about = export.export(checkpoint, "int8", tmp_path / "out", puzzles=0)
    assert about["sizes"]["step"] < 0.3 * about["sizes"]["float_weights"]


@pytest.mark.parametrize("kind", ["torch_export", "int8"])
@pytest.mark.parametrize("model", [HierarchicalReasoningModel, DirectPrediction])
def test_the_baselines_are_exported_too(tmp_path, questions, kind, model):
    torch.manual_seed(0)
    few = {"n": 1, "T": 1} if model is HierarchicalReasoningModel else {}
    checkpoint = saved(tmp_path / "model", model(6, 16, **SMALL, **few).eval())
    about = export.export(checkpoint, kind, tmp_path / "out", puzzles=8, tolerance=1.0)
    assert about["N_sup"] == (1 if model is DirectPrediction else 3)
    step = next(iter(trajectory(trm.load(checkpoint), questions.x_input, questions.puzzle_id, 1)))
    runner = Exported.load(tmp_path / "out")
    taken = runner.step(questions.x_input.numpy(), *runner.start(8))
    stops = step.q_hat - step.q_continue if model is HierarchicalReasoningModel else step.q_hat
    np.testing.assert_allclose(taken.q_hat, stops.detach().numpy(), atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_says_contradiction_says_so_in_its_export(tmp_path, questions, kind):
    options = {"dim": 8, "hidden": 8}
    model = SymmetricModel(6, (4, 4), (2, 2), **options).eval()
    checkpoint = saved(tmp_path / "model", model)
    about = export.export(checkpoint, kind, tmp_path / "out", puzzles=0)
    assert about["outputs"] == ["y", "z", "y_hat", "q_hat", "contradiction"]
    step = next(iter(trajectory(trm.load(checkpoint), questions.x_input, questions.puzzle_id, 1)))
    runner = Exported.load(tmp_path / "out")
    taken = runner.step(questions.x_input.numpy(), *runner.start(8))
    np.testing.assert_allclose(taken.contradiction, step.contradiction.detach(), atol=0.1)


def test_identifiers_are_an_input_and_their_rows_part_of_the_file(tmp_path, questions):
    model = attention(prefix_len=2, identifiers=5).eval()
    model.identifiers.weights.normal_()
    checkpoint = saved(tmp_path / "model", model)
    export.export(checkpoint, "torch_export", tmp_path / "out", puzzles=0)
    runner = Exported.load(tmp_path / "out")
    assert runner.about["inputs"] == ["x_input", "puzzle_id", "y", "z"]
    ids = torch.arange(8) % 5
    batch = Batch(questions.x_input, questions.y_true, ids)
    expected = answers(model, batch, 3).numpy()
    assert np.array_equal(runner.answers(batch.x_input.numpy(), 3, ids.numpy()), expected)
    with pytest.raises(InputError, match=r"0 \.\.\. 4"):
        runner.answers(batch.x_input.numpy(), 3, 5)


def test_more_identifier_rows_than_a_file_holds_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("trm.export.step._MOST_ROWS_BYTES", 100)
    checkpoint = saved(tmp_path / "model", attention(prefix_len=2, identifiers=5))
    said = refused(tmp_path, capsys, checkpoint, "--format", "int8", "--puzzles", "0")
    assert "5 identifier rows" in said


def refused(tmp_path, capsys, *arguments):
    """Run the command, see that it writes nothing, and return its one line."""
    before = sorted(tmp_path.rglob("*"))
    output = () if "--output" in arguments else ("--output", tmp_path / "deep" / "out")
    assert export.main([str(word) for word in (*arguments, *output)]) == 2
    assert sorted(tmp_path.rglob("*")) == before
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize("kind", ["torch_export", "int8"])
def test_an_export_that_has_lost_is_not_written(tmp_path, monkeypatch, capsys, kind):
    checkpoint = saved(tmp_path / "model", tiny_model(layers=1, n=0, T=1))
    lost = Agreement(100, 3, [1.0, 1.0, 0.9], 0.95, 0.93, 0.1, 0.1)
    monkeypatch.setattr(export, "compare", lambda *_: lost)
    said = refused(tmp_path, capsys, checkpoint, "--format", kind)
    assert "accuracy falls from 0.9500 to 0.9300 on 100 puzzles, more than --tolerance=" in said


def test_tolerance_is_a_share_of_the_puzzles():
    lost = Agreement(100, 3, [1.0, 1.0, 0.9], 0.95, 0.93, 0.1, 0.1)
    lost.check(0.02, same_answers=False)
    with pytest.raises(InputError, match="accuracy falls"):
        lost.check(0.019, same_answers=False)
    with pytest.raises(InputError, match="10 of 100 final answers are others"):
        lost.check(0.02, same_answers=True)
    lost.check(0.1, same_answers=True)


def test_comparing_sees_a_damaged_export(exports, sudoku):
    model, folder = exports["mlp", "torch_export"]
    runner = Exported.load(folder)
    puzzles = generated(sudoku, train=32, val=12, test=8).splits["test"]
    whole = compare(model, runner, sudoku, puzzles, 3)
    assert whole.equal_by_step == [1.0] * 3
    assert whole.largest_difference < 1e-5

    def damaged(inputs):
        y, z, y_hat, q_hat = runner.run(inputs)
        return [y, z, -y_hat, q_hat]

    broken = compare(model, Exported(runner.about, runner.initial, damaged), sudoku, puzzles, 3)
    assert broken.equal_by_step[-1] == 0.0
    assert broken.first_difference > 0.01


def test_export_json_says_what_was_checked(exports):
    for (_, kind), (model, folder) in exports.items():
        about = json.loads((folder / "export.json").read_text())
        assert about["kind"] == kind
        assert about["agreement"]["puzzles"] == 8
        assert len(about["agreement"]["equal_by_step"]) == about["N_sup"] == 3
        assert about["sizes"]["float_weights"] == 4 * model.size
        assert about["sizes"]["step"] == (folder / about["file"]).stat().st_size
        times = about["latency"]["ms_per_puzzle_and_step"]
        assert {name: list(found) for name, found in times.items()} == {
            "float": ["1", "64"],
            "exported": ["1", "64"],
        }
        assert about["certificate"]["torch"] == torch.__version__
        assert sorted(path.name for path in folder.iterdir()) == sorted(
            ["export.json", "initial.safetensors", about["file"]]
        )
        assert str(folder.parent.parent).encode() not in (folder / about["file"]).read_bytes()


def test_the_command_prints_a_table_and_the_folder(tmp_path, capsys):
    checkpoint = saved(tmp_path / "model", tiny_model(layers=1, n=0, T=1))
    words = [str(checkpoint), "--format", "torch_export", "--output", str(tmp_path / "out")]
    assert export.main([*words, "--puzzles", "8"]) == 0
    printed = capsys.readouterr()
    assert "final answers equal" in printed.out
    assert "a puzzle of 64" in printed.out
    assert printed.out.rstrip().endswith("out")
    assert not printed.err.strip()


def test_an_output_that_is_taken_is_refused(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    output = "--output", tmp_path / "out"
    said = refused(tmp_path, capsys, "sudoku-4x4", "--format", "int8", *output)
    assert "is not empty" in said


def test_a_missing_extra_is_one_line(tmp_path, monkeypatch, capsys):
    def found(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(formats.importlib, "import_module", found)
    said = refused(tmp_path, capsys, "sudoku-4x4", "--format", "onnx")
    assert "needs the extra: pip install '.[export]'" in said


def test_other_mistakes_are_one_line(tmp_path, capsys):
    for words, said in (
        (("nowhere", "--format", "int8"), "does not exist"),
        (("sudoku-4x4", "--format", "int8", "--puzzles", "-1"), "must be at least 0"),
        (("sudoku-4x4", "--format", "int8", "--data", "there"), "no folder and no file"),
    ):
        assert said in refused(tmp_path, capsys, *words)
    silent = saved(tmp_path / "model", tiny_model(), config={})
    assert "--puzzles=0" in refused(tmp_path, capsys, silent, "--format", "int8")
    trm.save(tiny_model(), tmp_path / "no_task")
    assert "give the task, " in refused(tmp_path, capsys, tmp_path / "no_task", "--format", "int8")
    with pytest.raises(SystemExit) as stopped:
        export.main(["sudoku-4x4", "--format", "tflite"])
    assert stopped.value.code == 2


def test_the_second_command_solves_and_checks(exports, capsys, questions, sudoku):
    _, folder = exports["mlp", "onnx"]
    text = sudoku.decode(questions.x_input[0])
    assert exported.main([str(folder), text]) in (0, 1)
    answer, verdict = capsys.readouterr().out.split("\t")
    assert len(answer) == 16
    assert "valid" in verdict
    assert exported.main([str(folder), "12"]) == 2
    assert exported.main([str(folder.parent), text]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_damage_is_one_line(exports, tmp_path):
    _, folder = exports["mlp", "torch_export"]
    for name in ("export.json", "initial.safetensors", "step.pt2"):
        copy = tmp_path / name
        copy.mkdir()
        for path in folder.iterdir():
            (copy / path.name).write_bytes(path.read_bytes()[: -100 if path.name == name else None])
        with pytest.raises(InputError):
            Exported.load(copy)


def test_an_onnx_export_runs_without_torch(exports):
    _, folder = exports["mlp", "onnx"]
    code = (
        "import sys, numpy as np; from trm.export.runner import Exported; "
        f"Exported.load({str(folder)!r}, 1).answers(np.ones((2, 16), int)); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
