import io

import pytest
import torch
from rich.console import Console

from trm.inference.evaluation import Evaluation
from trm.report.tables import accuracies, result_table
from trm.results.statistics import wilson

NONE = torch.zeros(3, 0, 4, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("hits", "n", "interval"),
    # Newcombe, Statistics in Medicine 17 (1998), Table I, method 3.
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (29, 29, (0.8830, 1.0)),
    ],
)
def test_wilson_intervals_are_the_published_ones(hits, n, interval):
    assert wilson(hits, n) == pytest.approx(interval, abs=5e-5)


def test_rows_of_a_result():
    evaluation = Evaluation(
        4, {"exact": [1, 2, 4], "valid": [1, 3, 4]}, cell=[2.0, 3.0, 4.0], first_answers=NONE
    )
    rows = accuracies(evaluation)
    assert [row["exact_accuracy"] for row in rows] == [0.25, 0.5, 1.0]
    assert [row["valid_accuracy"] for row in rows] == [0.25, 0.75, 1.0]
    assert [row["cell_accuracy"] for row in rows] == [0.5, 0.75, 1.0]
    assert evaluation.shown_steps == [1, 2, 3]
    assert Evaluation(1, {"exact": [0] * 16}, [0] * 16, NONE).shown_steps == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(("width", "in_a_line"), [(80, 3), (60, 0), (40, 0)])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_result_is_readable_on_any_terminal(width, in_a_line, encoding):
    hits = {name: [10, 100, 300] for name in ("exact", "valid", "optimal")}
    evaluation = Evaluation(300, hits, cell=[100.0, 200.0, 300.0], first_answers=NONE)
    page = io.TextIOWrapper(io.BytesIO(), encoding)  # strict: what it cannot write is an error
    console = Console(file=page, width=width, force_terminal=True, color_system=None)
    console.print(result_table(evaluation, "maze_30x30: 300 test puzzles"))
    page.seek(0)
    lines = page.read().splitlines()
    assert max(map(len, lines)) <= width
    shown = "33.3 (28.2-38.8)"
    assert any(line.count(shown) >= in_a_line for line in lines), lines
    assert " ".join(" ".join(lines).split()).count(shown) == 3, lines
    assert "…" not in "".join(lines)
