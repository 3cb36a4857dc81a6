"""The example of docs/own_selector.md, taken from the page and run as it says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import trm
from tests.conftest import tiny_model
from trm import solve
from trm.inference.compute import Compute
from trm.inference.record import record_evaluation
from trm.inference.selectors import SELECTORS, Signals, select_trajectory
from trm.models.recursion import Trained
from trm.report.compute import against_compute, name_of
from trm.support.errors import InputError

pytestmark = pytest.mark.usefixtures("preloaded")

PAGE = (Path(__file__).parents[1] / "docs" / "own_selector.md").read_text()
PUZZLE, ANSWER = "1...34....43...1", "1234341221434321"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module where it can be imported, and forget it afterwards."""

    def write(name: str, code: str) -> Path:
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return tmp_path

    monkeypatch.syspath_prepend(tmp_path)
    return write


def output(arguments: list[str], folder: Path) -> str:
    process = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    return " ".join(process.stdout.split())


def test_the_page_s_example_runs_in_the_commands_and_in_python(module):
    (commands,), (selector, code) = blocks("sh"), blocks("python")
    folder = module("steady", selector)
    solve, evaluate = ([sys.executable, *line.split()[1:]] for line in commands.splitlines())
    assert "valid; 16 steps (64 over all trajectories)" in output(solve, folder)
    assert "by steady.steady" in output(evaluate, folder)
    rows = json.loads((folder / "steady.json").read_text())["against_compute"]
    several = [row for row in rows if row["kind"] == "trajectories"]
    assert {row["select"] for row in several} == {*SELECTORS, "steady.steady"}
    assert output([sys.executable, "-c", code], folder) == f"{ANSWER} True"


def test_the_page_s_selector_takes_the_steadiest_of_the_valid(module):
    module("steady", blocks("python")[0])
    signals = Signals(
        halting=torch.zeros(2, 3),
        residuals=torch.tensor([[0.5, 0.1, 0.3], [0.5, 0.1, 0.3]])[..., None],
        confidence=torch.zeros(2, 3),
        valid=torch.tensor([[True, False, True], [False, False, False]]),
        cost=torch.zeros(2, 3),
        answer=torch.zeros(2, 3, dtype=torch.int64),
    )
    every = torch.ones(2, 3, dtype=torch.bool)
    assert select_trajectory("steady.steady", signals, every).tolist() == [2, 1]


def test_an_evaluation_is_read_by_one_s_own_selector_and_by_all_others(module, puzzles, sudoku):
    module("steady", blocks("python")[0])
    model, split = tiny_model().double().eval(), puzzles.splits["train"]
    compute = Compute(rollouts=4, select="steady.steady")
    rows = against_compute(
        record_evaluation(model, sudoku, split, compute, Trained(N_sup=4)), model.passes
    )
    several = {row["select"] for row in rows if row["kind"] == "trajectories"}
    assert several == {*SELECTORS, "steady.steady"}
    assert name_of(rows[-1]) == "4, step 4, steady"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("signals.residuals", r"select=broken.score returned \(1, 2, 2\); .* shape \(1, 2\)"),
        ("None", "select=broken.score returned NoneType; it must return one score"),
    ],
)
def test_what_is_no_score_is_refused_in_one_line(body, message, module, sudoku):
    module("broken", f"def score(signals, among):\n    return {body}\n")
    compute = Compute(rollouts=2, select="broken.score", max_steps=1)
    with pytest.raises(InputError, match=message):
        trm.Solver(tiny_model(), sudoku, compute).solve(PUZZLE)


def test_a_file_with_a_fault_is_named_in_one_line(module):
    module("faulty", "def score(:\n")
    with pytest.raises(InputError, match=r"select=faulty.score cannot be imported: .*line 1"):
        Compute(select="faulty.score")


def test_the_commands_refuse_what_cannot_be_imported(capsys):
    assert solve.main(["sudoku-4x4", PUZZLE, "--select", "none.such"]) == 2
    assert "error: select=none.such cannot be imported" in capsys.readouterr().err
