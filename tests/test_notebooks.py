"""The notebooks run from top to bottom."""

import re
from pathlib import Path

import nbformat
import pytest
from jupyter_client import launcher
from nbclient import NotebookClient

from tests import processes

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

ABSOLUTE = re.compile(r"(?<![\w./<:])/\w+/")  # how a path begins that is none of this project

# What a reader waits for and the test need not: every cell runs, with fewer steps and puzzles.
FEWER = {
    "2_train_and_watch": {
        "trainer.max_steps=300": "trainer.max_steps=20",
        "trainer.val_check_interval=50": "trainer.val_check_interval=10",
        '"data.test=200"': '"data.test=50", "data.val=50", "data.train=200"',
    },
    "3_test_time_compute": {"(seed=2024)(200)": "(seed=2024)(50)"},
    "4_your_own_task": {
        "trainer.max_steps=300": "trainer.max_steps=20",
        "trainer.val_check_interval=100": "trainer.val_check_interval=10",
    },
}


def test_there_are_four_in_order():
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3", "4"]


def kinds(notebook) -> list[set[str]]:
    """Say of each cell of code in what forms it shows something, warnings apart."""
    return [
        {
            kind
            for output in cell.outputs
            if output.get("name") != "stderr"
            for kind in output.get("data", {"text/plain": ""})
        }
        for cell in notebook.cells
        if cell.cell_type == "code" and "plt.show" not in cell.source  # the tests have no screen
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_keeps_names_no_folder_of_a_machine(path):
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    texts = [cell.source for cell in cells] + [output.get("text", "") for output in outputs]
    for output in outputs:
        texts += [text for kind, text in output.get("data", {}).items() if kind != "image/png"]
    assert not [text for text in texts if ABSOLUTE.search(text)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path, tmp_path, monkeypatch):
    notebook = nbformat.read(path, as_version=4)
    stored = kinds(notebook)
    for many, few in FEWER.get(path.stem, {}).items():
        (cell,) = (cell for cell in notebook.cells if many in cell.source)
        cell.source = cell.source.replace(many, few)
    if path.stem in FEWER:  # the first starts its kernel in earnest
        monkeypatch.setattr(launcher, "Popen", processes.start)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    assert any(cell.get("outputs") for cell in notebook.cells)
    assert kinds(notebook) == stored, f"run docs/run_notebooks.py {path.stem}"
