import io

import numpy as np
import torch
from rich.console import Console

from trm.data import PuzzleSet
from trm.inference.evaluation import Evaluation
from trm.report.thinking import thinking
from trm.tasks import Sudoku


def drawn(answers):
    task = Sudoku(2, 2)
    y_true = np.stack([task.encode("1234341221434321"), task.encode("2134341212434321")])
    puzzles = PuzzleSet.of(np.ones_like(y_true), y_true)
    evaluation = Evaluation(
        2, {"exact": [0]}, [0.0], torch.tensor(answers(y_true), dtype=torch.uint8)
    )
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(thinking(task, puzzles, evaluation))
    return console.export_text()


def test_the_puzzle_solved_last_is_drawn_until_it_is_solved():
    def answers(y_true):
        late, soon = y_true.copy(), y_true.copy()
        late[1, :3] = 1
        soon[0, :2] = 1
        return [np.stack([soon[0], late[1]]), np.stack([y_true[0], late[1]]), y_true, y_true]

    text = drawn(answers)
    assert "step 1: 3 wrong" in text
    assert "step 3: solved" in text
    assert "step 4" not in text
    assert text.count("!") == 3 + 3 + 1, "marks of two steps and the one in the title"


def test_if_none_is_solved_the_closest_is_drawn():
    def answers(y_true):
        y = y_true.copy()
        y[0, :5] = 1
        y[1, :2] = 1
        return [y, y]

    assert "step 2: 2 wrong" in drawn(answers)
