import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tests.conftest import tiny_model
from trm.inference.compute import Compute
from trm.inference.record import record_evaluation
from trm.models.recursion import Trained
from trm.report.compute import against_compute, compute_table, plot_compute
from trm.report.diagnostics import diagnostic_tables, diagnostics
from trm.report.plots import latent_paths
from trm.report.tables import accuracies, percent


@pytest.fixture
def evaluated(puzzles, sudoku):
    def run(**compute):
        model, split = tiny_model().double().eval(), puzzles.splits["train"]
        record = record_evaluation(model, sudoku, split, Compute(**compute), Trained(N_sup=4))
        return record, against_compute(record, model.passes)

    return run


def test_rows_say_what_each_amount_of_compute_costs(evaluated):
    record, rows = evaluated(rollouts=2, views=2)
    steps = [row for row in rows if row["kind"] == "steps"]
    assert [row["passes_per_puzzle"] for row in steps] == [9, 18, 36], "T (n + 1) = 9 a step"
    by_select = [row for row in rows if row["kind"] == "trajectories"]
    assert {row["select"] for row in by_select} == {
        *("halting", "residual", "confidence", "majority", "validity", "cost")
    }
    assert {row["steps_per_puzzle"] for row in by_select} == {8, 16}
    assert rows[-1]["kind"] == "run"
    assert rows[-1]["steps_per_puzzle"] == 16
    assert rows[-1]["seconds_per_puzzle"] == pytest.approx(record.wall_time_s / record.puzzles)


def test_a_run_that_left_early_is_one_row(evaluated):
    _, rows = evaluated(stop="first_valid")
    assert [row["kind"] for row in rows] == ["run"]


def test_diagnostics_count_every_puzzle_once(evaluated, puzzles, sudoku):
    record, _ = evaluated()
    diagnosis = diagnostics(record, sudoku, puzzles.splits["train"])
    n = len(puzzles.splits["train"])
    assert sum(row["n"] for row in diagnosis["calibration"]) == n
    assert sum(diagnosis["says"].values()) == n
    assert sum(row["n"] for row in diagnosis["by_difficulty"]) == n
    assert {row["measure"] for row in diagnosis["by_difficulty"]} == {"clues"}
    first, *others = diagnosis["by_step"]
    assert first["going"] == n
    assert first["settled"] == 0, "there is no step before the first"
    for row in others:
        assert row["settled_on_wrong"] <= row["settled"] <= n
    assert sum(row["halts_first"] for row in diagnosis["by_step"]) <= n


@pytest.mark.parametrize("width", [40, 60, 80])
def test_no_number_is_lost_on_a_narrow_terminal(evaluated, puzzles, sudoku, width):
    record, rows = evaluated(rollouts=2)
    diagnosis = diagnostics(record, sudoku, puzzles.splits["train"])
    console = Console(file=io.StringIO(), width=width)
    console.print(compute_table(rows), *diagnostic_tables(diagnosis))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = text.split()
    for row in rows:
        assert f"({percent(row['exact_interval'])})" in text
        assert f"{1000 * row['seconds_per_puzzle']:.2f}" in text
    for row in diagnosis["by_step"]:
        residuals = [f"{row[name]:.3f}" for name in row if name.startswith("residual_")]
        assert all(any(number in word for word in words) for number in residuals)


def test_all_is_drawn(evaluated, puzzles, sudoku, tmp_path):
    record, rows = evaluated(rollouts=2)
    diagnosis = diagnostics(record, sudoku, puzzles.splits["train"])
    console = Console(file=io.StringIO(), width=100)
    console.print(compute_table(rows), *diagnostic_tables(diagnosis))
    plot_compute(rows, accuracies(record.by_step()), "title", tmp_path / "compute.png")
    states = np.random.default_rng(0).normal(size=(4, 5, 6))
    solved = np.array([True, False, True, True, False])
    latent_paths({"answer y": states, "latent z": states}, solved, tmp_path / "latents.png")
    for path in sorted(tmp_path.iterdir()):
        with Image.open(path) as image:
            assert image.format == "PNG"
