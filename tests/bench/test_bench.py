"""The command that measures: what it counts, what it prints, what it refuses."""

import json
import time

import pytest
import torch

import trm
from tests.conftest import tiny_model
from trm.bench import ceiling
from trm.bench import command as bench
from trm.bench.ceiling import square_ceiling
from trm.bench.command import shipped
from trm.bench.evaluating import batch_that_fits
from trm.data import Sampler
from trm.data.stand_in import stand_in
from trm.support.files import CONF
from trm.support.operations import Products, flops
from trm.tasks import Arc, Sudoku

TINY = ["model.dim=16", "model.hidden_multiple=8", "recursion.n=1", "recursion.T=2"]
BRIEF = ["--device", "cpu", "--rounds", "2", "--seconds", "0.02", "--batch", "4"]
SIDES = ceiling._SIDES


@pytest.fixture(autouse=True)
def low_ceiling(monkeypatch):
    """A product of the real sides takes seconds, and tells nothing of what is printed."""
    monkeypatch.setattr(ceiling, "_SIDES", {"cpu": (64, 128)})


def run(capsys, *arguments):
    code = bench.main([*arguments, *BRIEF])
    return code, capsys.readouterr()


def test_it_measures_real_runs_and_their_parts_add_up(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(ceiling, "_SIDES", SIDES)
    file = tmp_path / "bench.json"
    code, said = run(capsys, "sudoku_4x4", *TINY, "--json", str(file))
    assert code == 0
    assert "% of ceiling" in said.out
    (found,) = json.loads(file.read_text())["measured"]
    assert len(found["step_s"]) == 2
    assert found["batch_size"] == 4
    assert found["flops"] > 0
    assert found["share_of_ceiling"] > 0
    assert found["peak_bytes"] > 1e6
    assert sum(found["parts"].values()) == pytest.approx(1)
    assert found["parts"].keys() >= {"no-gradient cycles", "backward", "EMA", "data", "framework"}
    assert all(share > -0.01 for share in found["parts"].values())


def test_no_table_loses_anything_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setattr(bench, "_FILE_WIDTH", 40)
    code, said = run(capsys, "sudoku_4x4", "sudoku-4x4", *TINY)
    assert code == 0, said.err
    assert max(map(len, said.out.splitlines())) <= 40
    assert "…" not in said.out
    text = " ".join(said.out.split())
    for heading in ("parameters", "% of ceiling", "puzzles/s", "peak MB", "backward"):
        assert f"{heading} " in text


@pytest.mark.parametrize(
    "words",
    [
        ["sudoku_6x6+no_ema", *TINY],
        ["sudoku_4x4", "model=hrm", "model.layers=1", "model.heads=2", *TINY],
        ["arc_tiny", "model.heads=2", *TINY],
    ],
)
def test_it_takes_ablations_baselines_and_identifiers(capsys, words):
    code, said = run(capsys, *words)
    assert code == 0, said.err
    assert words[0] in said.out


def test_a_trained_model_is_measured_in_evaluation(capsys, tmp_path):
    file = tmp_path / "bench.json"
    code, said = run(capsys, "sudoku-4x4", "--json", str(file))
    assert code == 0, said.err
    assert "evaluated" in said.out
    assert "% of a step" not in said.out, "no training, no parts of it"
    (found,) = json.loads(file.read_text())["measured"]
    assert (found["name"], found["batch_size"], found["N_sup"]) == ("sudoku-4x4", 4, 8)
    model = trm.load("sudoku-4x4")
    with Products() as products, torch.no_grad():
        model(torch.ones(4, 16).long(), torch.zeros(4).long(), model.initial_state(4))
    assert found["evaluation_flops"] == flops(products.counts) > 0
    assert found["evaluation_share_of_ceiling"] > 0
    assert found["evaluated_puzzles_per_s"] == pytest.approx(4 / (8 * found["evaluation_s"]))
    assert found["peak_bytes"] > 1e6
    assert "step_s" not in found


def test_models_and_experiments_share_a_table(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trm.save(tiny_model(prefix_len=1, identifiers=2), tmp_path / "seed=1", Sudoku(2, 2))
    code, said = run(capsys, "sudoku_4x4", *TINY, "seed=1", "sudoku")
    assert code == 0, said.err
    assert all(name in said.out for name in ("sudoku_4x4", "seed=1", " sudoku "))


def test_a_published_file_is_measured_with_what_is_said_of_it(capsys, tmp_path):
    settings = {"mixing": "attention", "positions": "rotary", "heads": 2, "hidden_multiple": 256}
    model = tiny_model(
        vocab_size=12, seq_len=900, prefix_len=1, identifiers=3, n=1, T=1, **settings
    )
    trm.save(model, tmp_path / "file", layout="trm.checkpoints.layouts.Published")
    (tmp_path / "all_config.yaml").unlink()
    assert run(capsys, str(tmp_path / "file"))[0] == 2, "it does not say its task"
    words = [str(tmp_path / "file"), "--task", "arc", "--heads", "2", "--n", "1", "--T", "1"]
    code, said = run(capsys, *words)
    assert code == 0, said.err


def test_a_config_is_counted_in_evaluation_as_its_model_is(capsys, tmp_path):
    file = tmp_path / "bench.json"
    code, said = run(capsys, "sudoku_4x4", "sudoku-4x4", "--json", str(file))
    assert code == 0, said.err
    config, model = json.loads(file.read_text())["measured"]
    assert config["evaluation_flops"] == model["evaluation_flops"]
    assert config["flops"] > 1.5 * config["evaluation_flops"]


def test_on_a_cpu_a_batch_takes_seconds():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert batch_that_fits(64, 10**6, cpu) == 64
    assert batch_that_fits(64, 10**11, cpu) == 4
    assert batch_that_fits(64, 10**13, cpu) == 1
    assert batch_that_fits(64, 10**13, gpu) == 64


def test_two_configs_are_measured_in_turns(capsys):
    small, large = TINY, ["model.dim=64", *TINY[1:]]
    code, said = run(
        capsys, "sudoku_4x4", *small, "--against", " ".join(["sudoku_4x4", *large, "recursion.T=6"])
    )
    assert code == 0, said.err
    ratio = float(said.out.partition(" trains ")[2].partition(" times")[0])
    assert ratio > 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "nope is no experiment, nor a model file or folder; experiments: arc1, arc2"),
        (["nope"], "sudoku_laptop; models: maze, maze-10x10, maze-laptop, sudoku"),
        (["sudoku_5x5"], "did you mean sudoku_"),
        (["sudoku-4x4", "model.dim=3"], "sudoku-4x4 is a trained model"),
        (["sudoku-4x4", "--task", "maze"], "the model has seq_len=16"),
        (["sudoku_4x4", "--task", "maze"], "describe a model file; name one"),
        (["sudoku-4x4", "--against", "sudoku_4x4"], "compares two configs"),
        (["sudoku_4x4", "model.dmi=3"], "did you mean model.dim?"),
        (["sudoku_4x4", "model.dim=0"], "model.dim=0 must be at least 1"),
        (["sudoku_4x4", "maze_10x10", "--against", "arc_tiny"], "name one experiment before it"),
        (["sudoku_4x4", "--against", "model.dim=3"], "must name one experiment"),
        (["sudoku_4x4", "--rounds", "0"], "must be positive"),
        (["arc1", "data.path=nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(capsys, arguments, said):
    assert bench.main([*BRIEF, *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_experiments_are_whole():
    assert {"sudoku_4x4", "maze_hard", "arc2"} <= set(shipped())
    assert all((CONF / "experiment" / f"{name}.yaml").is_file() for name in shipped())


def test_products_are_counted_forward_and_backward():
    a, b = torch.randn(5, 3, requires_grad=True), torch.randn(3, 7, requires_grad=True)
    with Products() as products:
        (a @ b).sum().backward()
    assert products.counts == {(1, 5, 3, 7): 1, (1, 3, 5, 7): 1, (1, 5, 7, 3): 1}
    assert flops(products.counts) == 3 * 2 * 5 * 3 * 7


def test_a_ceiling_is_the_best_speed_of_large_products(monkeypatch):
    monkeypatch.setattr(ceiling, "_SIDES", SIDES)
    speeds = iter([1e9, 4e9])

    def at_known_speed(work, device):
        with Products() as products:
            work()
        ((_, rows, inner, columns),) = products.counts
        assert rows == inner == columns >= 1024
        return flops(products.counts) / next(speeds)

    monkeypatch.setattr(ceiling, "seconds", at_known_speed)
    assert square_ceiling(torch.device("cpu"), torch.float32) == pytest.approx(4e9)
    assert next(speeds, None) is None, "more than one size was tried"


def test_work_is_timed_by_the_clock():
    assert 0.02 < ceiling.seconds(lambda: time.sleep(0.02), torch.device("cpu")) < 0.2


@pytest.mark.parametrize("task", [Sudoku(2, 2), Arc()])
def test_stand_ins_have_the_shape_of_the_task(task):
    data = stand_in(task, {"augmentations": 30})
    batch = Sampler(data.splits["train"], task, 6, 0, data.augmentations).batch(0)
    assert batch.x_input.shape == (6, task.cells)
    assert batch.x_input.max() < task.vocab_size
    assert batch.puzzle_id.max() < data.identifiers
