"""The example of docs/own_layout.md, taken from the page and run as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import trm
from tests.conftest import tiny_model
from trm.checkpoints.layouts import Folder
from trm.checkpoints.opening import open_model
from trm.tasks import Sudoku

PAGE = (Path(__file__).parents[1] / "docs" / "own_layout.md").read_text()
LAYOUT, USE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NAME = "npz_layout.NpzFile"


@pytest.fixture(autouse=True)
def in_its_folder(tmp_path, monkeypatch):
    (tmp_path / "npz_layout.py").write_text(LAYOUT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)


def test_the_page_s_example_writes_and_loads_the_same_model():
    made = {"trm": trm}
    exec(USE, made)
    x_input, puzzle_id = torch.arange(32).view(2, 16) % 5, torch.zeros(2, dtype=torch.int64)
    for one, other in zip(
        *(trm.trajectory(made[name], x_input, puzzle_id, 2) for name in ("model", "again")),
        strict=True,
    ):
        assert one.y_hat.equal(other.y_hat)


def test_what_it_reads_another_layout_writes():
    trm.save(tiny_model(), "model.npz", Sudoku(2, 2), layout=NAME)
    Folder().write(open_model("model.npz", {}, layout=NAME), Path("folder"))
    assert open_model("folder", {}).task.name == "sudoku_4x4"


def test_identifier_rows_travel_along():
    model = tiny_model(prefix_len=2, identifiers=7)
    model.identifiers.weights.normal_()
    trm.save(model, "rows.npz", layout=NAME)
    assert trm.load("rows.npz", layout=NAME).identifiers.weights.equal(model.identifiers.weights)


def test_foreign_and_broken_files_are_told_apart(tmp_path):
    np.savez("other.npz", x=np.zeros(3))
    with pytest.raises(trm.InputError, match=r"other.npz is of no known layout \(tried: npz file,"):
        trm.load("other.npz", layout=NAME)
    np.savez("bad.npz", about="{}")
    with pytest.raises(trm.InputError, match="bad.npz is damaged.*KeyError"):
        trm.load("bad.npz", layout=NAME)
    assert trm.load("sudoku-4x4", layout=NAME).seq_len == 16, "the built-in ones are tried, too"
