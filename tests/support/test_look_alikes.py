"""Streams that lack letters."""

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import trm
from trm.support.files import show_anything
from trm.tasks import Maze, Sudoku
from trm.tasks.base import Task
from trm.tasks.reading import Reader

# Signs in docstrings and comments alone, or that nothing prints.
_UNSEEN = set("Σβᵗ√")


def shown(text: str, encoding: str, monkeypatch) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    show_anything()
    Console(file=stream, width=80).print(text, end="")
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("──┼──│", "--+--|"),
        ("██· ", "##. "),
        ("≈ 1.5, +0.3 − 1, –, ×", "~ 1.5, +0.3 - 1, -, x"),
        ("g CO₂…", "g CO2..."),
        ("日本", "??"),
    ],
)
def test_what_a_stream_lacks_is_shown_as_what_looks_like_it(text, expected, monkeypatch):
    assert shown(text, "ascii", monkeypatch) == expected
    assert shown(text, "utf-8", monkeypatch) == text


def test_a_stream_keeps_what_it_has(monkeypatch):
    assert shown("3 × 2 · 1 ≈ 6", "latin-1", monkeypatch) == "3 × 2 · 1 ~ 6"


def test_every_sign_of_ours_looks_like_something(monkeypatch):
    files = Path(trm.__file__).parent.rglob("*.py")
    ours = {sign for file in files for sign in re.findall(r"[^\x00-\x7f]", file.read_text("utf-8"))}
    lost = [sign for sign in sorted(ours - _UNSEEN) if "?" in shown(sign, "ascii", monkeypatch)]
    assert not lost, f"add to trm.support.files what looks like {' '.join(lost)}"


@pytest.mark.parametrize("task", [Sudoku(2, 3), Sudoku(3, 3)], ids=lambda task: task.name)
def test_a_drawing_without_lines_is_read_again(task: Task, monkeypatch):
    x_input, _ = (part[0] for part in task.generator(1)(1))
    drawing = shown(task.render(x_input), "ascii", monkeypatch)
    (reading,) = Reader(task, task.of_size).read(drawing.splitlines())
    assert reading.tokens is not None
    assert np.array_equal(reading.tokens, x_input)


def test_walls_and_path_of_a_maze_differ(monkeypatch):
    task = Maze(9)
    x_input, y_true = (part[0] for part in task.generator(1)(1))
    drawing = shown(task.render(x_input, y_true), "ascii", monkeypatch)
    cells = "".join(line.ljust(18)[::2] for line in drawing.splitlines())
    assert cells.replace(".", "o") == task.decode(y_true)
