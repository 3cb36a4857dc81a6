import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import tiny_model
from trm.inference.frames import trajectory_frames
from trm.report.pictures import Story, draw
from trm.support.errors import InputError
from trm.tasks import Arc, Maze, Sudoku
from trm.tasks.arc import to_canvas


def story(task, x_input, y_true=None, steps=3):
    model = tiny_model(vocab_size=task.vocab_size, seq_len=task.cells, n=1, T=1).eval()
    frames = trajectory_frames(model, torch.from_numpy(x_input)[None], steps)
    return Story.of(task, x_input, frames, y_true=y_true)


def puzzle_of(task, **settings):
    x_input, y_true = task.generator(1, **settings)(1)
    return x_input[0], y_true[0]


@pytest.mark.parametrize(
    "task",
    [Sudoku(2, 2), Maze(6), Arc()],
    ids=lambda task: task.name,
)
def test_every_task_is_drawn_as_png_and_gif(task, tmp_path):
    if isinstance(task, Arc):
        x_input = to_canvas(np.arange(6).reshape(2, 3))
        drawn = story(task, x_input, x_input)
    else:
        settings = {"min_path": 5} if isinstance(task, Maze) else {}
        drawn = story(task, *puzzle_of(task, **settings))
    for kind in ("png", "gif"):
        path = tmp_path / f"solved.{kind}"
        draw(drawn, path)
        with Image.open(path) as image:
            assert image.format == kind.upper()
            assert min(image.size) > 100
            assert getattr(image, "n_frames", 1) == (4 if kind == "gif" else 1)


def test_the_title_counts_wrong_cells_only_where_the_solution_is_known():
    x_input, y_true = puzzle_of(Sudoku(2, 2))
    known, unknown = story(Sudoku(2, 2), x_input, y_true), story(Sudoku(2, 2), x_input)
    wrong = int((known.answers[0] != y_true).sum())
    assert f"step 1: {wrong} wrong" in known.title(0)
    assert unknown.title(0).startswith("step 1\n")


def test_other_kinds_of_files_are_refused(tmp_path):
    drawn = story(Sudoku(2, 2), *puzzle_of(Sudoku(2, 2)))
    with pytest.raises(InputError, match=r"must end in \.png or \.gif"):
        draw(drawn, tmp_path / "solved.jpg")
    assert not list(tmp_path.iterdir())
