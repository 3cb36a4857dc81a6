"""Results as numbers with intervals, and as a table for the terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from trm.inference.evaluation import Evaluation
from trm.report.fitting import Fitting
from trm.results.statistics import accuracy, wilson


def accuracies(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return one plain row per supervision step, for ``result.json``.

    Cells of one puzzle depend on each other, so ``cell_accuracy`` has no interval.
    """
    n = evaluation.n
    rows: list[dict[str, Any]] = []
    for index, cell in enumerate(evaluation.cell):
        row: dict[str, Any] = {"step": index + 1, "n": n}
        for name, hits in evaluation.hits.items():
            row |= accuracy(name, hits[index], n)
        rows.append(row | {"cell_accuracy": cell / n})
    return rows


def result_table(evaluation: Evaluation, title: str) -> Fitting:
    """Draw the accuracies after 1, 2, 4, ... supervision steps, with intervals."""
    names, rows = list(evaluation.hits), accuracies(evaluation)
    shares = (f"{name} % (95 % interval)" for name in names)
    table = numbers_table(title, ("steps", *shares, "cell %"))
    for row in (rows[step - 1] for step in evaluation.shown_steps):
        cells = (
            f"{100 * row[f'{name}_accuracy']:.1f} ({percent(row[f'{name}_interval'])})"
            for name in names
        )
        table.add_row(str(row["step"]), *cells, f"{100 * row['cell_accuracy']:.1f}")
    return Fitting(table)


def pass_rows(pass_at: Mapping[int, float], tasks: int) -> list[dict[str, Any]]:
    """Return one plain row per K: ARC's mean over tasks of the share of test inputs solved."""
    return [
        {"k": k, "n": tasks, "accuracy": share, "interval": list(wilson(share * tasks, tasks))}
        for k, share in pass_at.items()
    ]


def pass_table(rows: list[dict[str, Any]], title: str) -> Fitting:
    """Draw pass@K."""
    table = numbers_table(title, ("answers", "solved %", "95 % interval", "tasks"))
    for row in rows:
        cells = (f"{100 * row['accuracy']:.1f}", percent(row["interval"]), str(row["n"]))
        table.add_row(f"pass@{row['k']}", *cells)
    return Fitting(table)


def numbers_table(title: str, headings: Iterable[str]) -> Table:
    """Return an empty table whose columns are flush right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def percent(interval: list[float]) -> str:
    """Write an interval of shares in percent."""
    return "{:.1f}-{:.1f}".format(*(100 * bound for bound in interval))
