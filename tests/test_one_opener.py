"""Whatever ``trm.load`` opens, every command takes."""

import json

import pytest
import torch

import trm
from tests.conftest import compose, tiny_model
from trm import describe, solve
from trm.checkpoints.opening import load_into, open_for
from trm.evaluate import run_evaluation
from trm.export.command import export
from trm.inference.compute import Compute
from trm.models import SymmetricModel
from trm.support.errors import InputError
from trm.tasks import Sudoku, task_named
from trm.train import run_training

TASK = Sudoku(2, 2)
PUZZLE = "1...34....43...1"
KINDS = ["run", "checkpoint", "folder", "folder that says nothing", "published"]


@pytest.fixture(params=KINDS)
def opened(request, trained, tmp_path):
    """Return a path of a kind, the model behind it, and what a config must say to be like it."""
    run, _ = trained
    model = trm.load(run)
    if request.param == "run":
        return str(run), model, []
    if request.param == "checkpoint":
        return str(run / "checkpoints" / "best.ckpt"), model, []
    path = tmp_path / "model"
    if request.param == "published":  # whose shapes hold no other width
        model = tiny_model(hidden_multiple=256).eval()
        path.mkdir()
        trm.save_published(model, path / "step_10")
        return str(path / "step_10"), model, ["model.hidden_multiple=256"]
    trm.save(model, path, TASK if request.param == "folder" else None)
    return str(path), model, []


def test_every_command_takes_it(opened, tiny_config, capsys):
    path, model, like = opened
    n_and_T = ["--n", str(model.n), "--T", str(model.T)]
    flags = ["--task", "sudoku_4x4", "--json", "--no-search", "--max-steps", "4"]
    assert solve.main([path, PUZZLE, *flags, *n_and_T]) in (0, 1)
    answer = json.loads(capsys.readouterr().out)["answer"]
    compute = Compute(max_steps=4, stop="first_valid")
    (expected,) = trm.Solver(model, TASK, compute).solve(PUZZLE)
    assert answer == expected.answer

    assert describe.main([path, *n_and_T]) == 0
    assert f"{model.size:,}" in capsys.readouterr().out

    data = ["task=sudoku_4x4", "data=generated", "data.train=16", "data.val=8", "data.test=8"]
    cfg = compose("evaluate", f"checkpoint={path}", f"n={model.n}", f"T={model.T}", *data)
    assert run_evaluation(cfg)["evaluation"][-1]["n"] == 8

    begun = run_training(tiny_config(f"init_from={path}", "trainer.max_steps=1", *like))
    assert begun["steps"] == 1


def test_weights_are_those_of_the_file(opened):
    path, model, _ = opened
    settings = {name: value for name, value in model.settings().items() if name != "_target_"}
    other = type(model)(**settings)
    load_into(other, path, TASK)
    for name, tensor in model.state_dict().items():
        assert other.state_dict()[name].equal(tensor), name


def test_an_export_of_a_folder_that_says_nothing(tmp_path):
    trm.save(tiny_model(), tmp_path / "bare")
    with pytest.raises(
        InputError, match="does not say what its puzzles are; give the task, sudoku_9x9"
    ):
        export(tmp_path / "bare", "torch_export", tmp_path / "none", puzzles=0)
    with pytest.raises(InputError, match=r"--data=FOLDER names some, --puzzles=0"):
        export(tmp_path / "bare", "torch_export", tmp_path / "none", task="sudoku_4x4")
    out = tmp_path / "out"
    about = export(tmp_path / "bare", "torch_export", out, puzzles=0, task="sudoku_4x4")
    assert about["task"]["box_rows"] == 2


def test_other_weights_are_refused_before_training(tmp_path):
    trm.save(tiny_model(), tmp_path / "model", TASK)
    with pytest.raises(InputError, match="does not fit the model"):
        load_into(tiny_model(dim=32), tmp_path / "model", TASK)


def test_a_model_of_any_size_is_opened_for_one(tmp_path):
    structure = {
        name: Sudoku(3, 3).structure[name] for name in ("vocab_size", "grid_shape", "boxes")
    }
    model = SymmetricModel(**structure, dim=8, hidden=8)
    trm.save(model, tmp_path / "any", Sudoku(3, 3))
    for task, side in ((None, 9), ("sudoku_6x6", 6), ({"box_rows": 2, "box_cols": 4}, 8)):
        opened = open_for(tmp_path / "any", task)
        assert opened.task.size == side
        state = opened.model.initial_state(1)
        grid = torch.ones(1, side * side, dtype=torch.int64)
        assert opened.model(grid, grid[:, 0], state).y_hat.shape == (1, side**2, side + 2)
    with pytest.raises(InputError, match="needs boxes"):
        open_for(tmp_path / "any", "maze_10x10")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("sudoku", (9, 9)),
        ("sudoku-4x4", (4, 4)),
        ("Sudoku_6x6", (6, 6)),
        ("maze_12x12", (12, 12)),
        ("maze", (30, 30)),
        ("arc", (30, 30)),
    ],
)
def test_names_of_tasks(name, shape):
    assert task_named(name).grid_shape == shape


@pytest.mark.parametrize("name", ["", "chess", "sudoku_5x5", "sudoku_4x9", "maze_3x4", "arc_3x3"])
def test_what_is_no_task(name):
    with pytest.raises(InputError, match="is none of sudoku_9x9"):
        task_named(name)


def test_a_file_that_says_nothing_of_its_data_is_told_so(tmp_path):
    trm.save(tiny_model(), tmp_path / "model", TASK)
    with pytest.raises(InputError, match=r"name a folder with data\.path"):
        run_evaluation(compose("evaluate", f"checkpoint={tmp_path / 'model'}"))
