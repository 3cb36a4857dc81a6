"""What result files say of the cells of a table: means, spread, intervals and paired tests."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy import stats

from experiments.table import Cell, Column, Row, Table, size_and_depth
from experiments.tuning import TUNING, Outcome, Search
from trm.results.files import from_bits
from trm.support.errors import InputError

_CERTAIN = 0.05  # p-values below it count as a difference

Recorded = Mapping[tuple[str, int], dict[str, Any]]  # by recipe and seed


@dataclass(frozen=True)
class Line:
    """One row of a table in one column, with what was measured.

    Attributes:
        row: of the table
        column: of the table
        results: by seed, in order of seeds
        parameters: of our model; None if quoted
        depth: effective depth of our model; None if quoted
        is_reference: whether the others are compared with it
        tuning: what is known of its learning rate, if that was searched
        paper: the paper's number in %, a word such as OOM, or None
        paper_gain: the paper's difference to its reference, in points
        gain: ours
        p_puzzles: of a paired test over puzzles, None if there is nothing to compare
        p_seeds: of a test over training runs, None with fewer than two seeds
    """

    row: Row
    column: Column
    results: tuple[dict[str, Any], ...]
    parameters: int | None
    depth: int | None
    is_reference: bool
    paper: float | str | None
    paper_gain: float | None = None
    gain: float | None = None
    p_puzzles: float | None = None
    p_seeds: float | None = None
    tuning: Outcome | None = None

    @property
    def values(self) -> list[float]:
        """Accuracy of each run in %."""
        return [100 * value(result) for result in self.results]

    @property
    def intervals(self) -> list[tuple[float, float]]:
        """Wilson's interval of each run in %."""
        return [interval(result) for result in self.results]

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs."""
        return [result["seed"] for result in self.results]

    @property
    def mean(self) -> float | None:
        """Mean over seeds in %."""
        return mean(self.values) if self.results else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds in points."""
        return stdev(self.values) if len(self.results) > 1 else None

    @property
    def n(self) -> int | None:
        """Test puzzles of each run, or tasks."""
        return scored(self.results[0])["n"] if self.results else None

    @property
    def wall_time_min(self) -> float | None:
        """Mean minutes of a training run, on the clock."""
        return self._minutes("training_wall_time_s")

    @property
    def cpu_time_min(self) -> float | None:
        """Mean processor minutes of a training run."""
        return self._minutes("training_cpu_time_s")

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU trained it."""
        return any(result["device"] != "cpu" for result in self.results)

    @property
    def differs(self) -> bool | None:
        """Whether both tests tell it from the reference; None if either is lacking."""
        if self.p_puzzles is None or self.p_seeds is None:
            return None
        return max(self.p_puzzles, self.p_seeds) < _CERTAIN

    def _minutes(self, key: str) -> float | None:
        return mean(result[key] for result in self.results) / 60 if self.results else None


def scored(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a result that a table shows: pass@2 of ARC, else the last step."""
    if "pass_at" in result:
        return dict(next(row for row in result["pass_at"] if row["k"] == 2))
    return dict(result["test"][-1])


def value(result: Mapping[str, Any]) -> float:
    """Return the share that a table shows."""
    row = scored(result)
    return float(row["accuracy"] if "accuracy" in row else row["exact_accuracy"])


def interval(result: Mapping[str, Any]) -> tuple[float, float]:
    """Return its 95 % Wilson interval in %."""
    row = scored(result)
    low, high = row["interval"] if "interval" in row else row["exact_interval"]
    return 100 * low, 100 * high


def lines(table: Table, found: Recorded, tuning: Path = TUNING) -> dict[str, list[Line]]:
    """Return the lines of each column of a table, compared with the column's reference.

    Args:
        table: at one scale
        found: results
        tuning: folder of what searches found
    """
    return {column.name: _column(table, column, found, tuning) for column in table.columns}


def _column(table: Table, column: Column, found: Recorded, tuning: Path) -> list[Line]:
    made = [_line(table, row, column, found, tuning) for row in table.rows_of(column)]
    reference = next((line for line in made if line.is_reference), None)
    return made if reference is None else [_compared(line, reference) for line in made]


def _line(table: Table, row: Row, column: Column, found: Recorded, tuning: Path) -> Line:
    is_reference = table.reference.get(column.name) == row.name
    paper = row.paper.get(column.beside)
    paper = float(paper) if isinstance(paper, int) else paper
    if row.quoted:
        return Line(row, column, (), None, None, is_reference, paper)
    cell = table.cell(row, column)
    size, depth = size_and_depth(cell.config)
    if column.tune is None:
        return Line(row, column, results_of(cell, found), size, depth, is_reference, paper)
    outcome = Search(cell, column.tune, tuning).outcome()
    # At the recipe's own rate it may stand in another table; here it is not run until tuned.
    results = () if outcome.rate is None else results_of(cell.at(outcome.rate), found)
    return Line(row, column, results, size, depth, is_reference, paper, tuning=outcome)


def results_of(cell: Cell, found: Recorded) -> tuple[dict[str, Any], ...]:
    """Return the results of a recipe in the order of their seeds.

    Raises:
        InputError: they were measured on different data
    """
    mine = sorted(
        (seed, result) for (recipe, seed), result in found.items() if recipe == cell.recipe
    )
    if len({result["manifest"]["sha256"] for _, result in mine}) > 1:
        raise InputError(
            f"results of {cell.row.label}, {cell.column.name}, come from different data; remove "
            "those of the old data and run the table again"
        )
    return tuple(result for _, result in mine)


def _compared(line: Line, reference: Line) -> Line:
    if line.is_reference:
        return line
    known = isinstance(line.paper, float) and isinstance(reference.paper, float)
    paper_gain = line.paper - reference.paper if known else None  # type: ignore[operator]
    if line.mean is None or reference.mean is None:
        return replace(line, paper_gain=paper_gain)
    return replace(
        line,
        paper_gain=paper_gain,
        gain=line.mean - reference.mean,
        p_puzzles=p_over_puzzles(line.results, reference.results),
        p_seeds=p_over_seeds(line.values, reference.values),
    )


def p_over_puzzles(
    ours: tuple[dict[str, Any], ...], others: tuple[dict[str, Any], ...]
) -> float | None:
    """Test, puzzle by puzzle, whether two recipes' runs solve equally many of the same puzzles.

    Each puzzle has, for each recipe, a share of seeds that solved it; the paired t-test asks if the
    mean difference over puzzles is zero. It knows how much the choice of puzzles matters, and
    nothing of other training runs.

    Returns:
        the p-value; None if the runs had different puzzles, or kept no record of each
    """
    runs = [*ours, *others]
    same = len({(r["manifest"]["sha256"], scored(r)["n"]) for r in runs}) == 1
    if not same or not all(r.get("test_solved") for r in runs):
        return None
    shares = [
        np.mean([from_bits(r["test_solved"], scored(r)["n"]) for r in some], axis=0)
        for some in (ours, others)
    ]
    if (shares[0] == shares[1]).all():
        return 1.0
    return float(stats.ttest_rel(*shares).pvalue)


def p_over_seeds(ours: list[float], others: list[float]) -> float | None:
    """Test whether two recipes' training runs have equal means (Welch's t-test).

    Returns:
        the p-value; None with fewer than two runs of either
    """
    if min(len(ours), len(others)) < 2:
        return None
    if stdev(ours) == stdev(others) == 0:
        return 1.0 if ours == others else 0.0
    return float(stats.ttest_ind(ours, others, equal_var=False).pvalue)


def expected_band(values: list[float]) -> tuple[float, float]:
    """Return where one more run falls with 95 % (Student's prediction interval), in %.

    Args:
        values: accuracies of earlier runs in %, two or more
    """
    n = len(values)
    reach = stats.t.ppf(0.975, n - 1) * stdev(values) * np.sqrt(1 + 1 / n)
    return max(0.0, mean(values) - float(reach)), min(100.0, mean(values) + float(reach))
