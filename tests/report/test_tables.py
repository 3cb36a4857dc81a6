import pytest
import torch

from trm.inference.evaluation import Evaluation
from trm.report.tables import accuracies
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
