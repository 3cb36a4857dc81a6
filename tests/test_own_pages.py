"""The examples of docs/own_*.md, taken from the pages and run as they say."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trm.data import generated
from trm.tasks import Sudoku

pytestmark = pytest.mark.usefixtures("preloaded")

DOCS = Path(__file__).parents[1] / "docs"


def written(page: str, folder: Path) -> list[list[str]]:
    """Write the files of a page, whose first comment names them; return its commands."""
    text = (DOCS / f"own_{page}.md").read_text()
    assert len(text.splitlines()) <= 85
    for block in re.findall(r"```(?:python|yaml)\n(.*?)```", text, re.DOTALL):
        (name, *_) = re.findall(r"^# (\S+\.(?:py|yaml))$", block, re.MULTILINE)
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block)
    commands = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line.split() for command in commands for line in command.splitlines()]


FEWER = ("data.val=50", "data.test=50")  # where what comes out of them does not matter


def run(command: list[str], folder: Path, *fewer: str) -> dict:
    """Run a training command of a page, and return its result."""
    assert command[:3] == ["python", "-m", "trm.train"]
    arguments = [sys.executable, *command[1:], *fewer, "run_dir=run"]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "run" / "result.json").read_text())


def test_a_network_of_one_s_own_learns_and_opens_again(tmp_path):
    (command,) = written("network", tmp_path)
    result = run(command, tmp_path)
    assert result["test"][-1]["exact_accuracy"] > 0.9
    solve = [sys.executable, "-m", "trm.solve", "run", "1..4..1.3..2.43."]
    done = subprocess.run(solve, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert "valid; " in done.stdout, done.stderr


def test_an_optimizer_of_one_s_own_steps_every_parameter(tmp_path):
    (command,) = written("optimizer", tmp_path)
    assert run(command, tmp_path, *FEWER)["steps"] == 30


def test_an_objective_of_one_s_own_is_logged_by_the_names_of_its_losses(tmp_path):
    (command,) = written("objective", tmp_path)
    assert run(command, tmp_path, *FEWER)["config"]["objective"]["_target_"] == "noisy.Noisy"
    heading = (tmp_path / "run" / "csv" / "metrics.csv").read_text().partition("\n")[0]
    assert "train/entropy_loss" in heading


def test_a_data_source_of_one_s_own_is_read(tmp_path):
    (command,) = written("data", tmp_path)
    task = Sudoku(2, 2)
    puzzles = generated(task, train=40, val=12, test=8).splits["train"]
    pairs = zip(puzzles.x_input, puzzles.y_true, strict=True)
    text = "\n".join(" ".join(map(task.decode, pair)) for pair in pairs)
    (tmp_path / "puzzles.txt").write_text(text)
    result = run(command, tmp_path)
    assert result["manifest"]["counts"] == {"train": 24, "val": 8, "test": 8}


@pytest.mark.parametrize("page", ["network", "optimizer", "objective", "data"])
def test_what_a_page_imports_is_public(page):
    code = "".join(
        re.findall(r"```python\n(.*?)```", (DOCS / f"own_{page}.md").read_text(), re.DOTALL)
    )
    assert "from trm" not in code
