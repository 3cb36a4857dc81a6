"""Results as numbers with intervals, and as a table for the terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from torch import Tensor

from trm.inference.evaluation import Evaluation
from trm.results.statistics import accuracy, wilson

_ANY_WIDTH = 1000  # columns, more than any terminal has


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


def bits(which: Tensor | None) -> str | None:
    """Write a (puzzles,) bool as hexadecimal digits, eight puzzles for two of them."""
    return None if which is None else np.packbits(which.numpy()).tobytes().hex()


def from_bits(digits: str, n: int) -> np.ndarray:
    """Read what ``bits`` wrote: (n,) bool."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8), count=n).astype(bool)


def result_table(evaluation: Evaluation, title: str) -> RenderableType:
    """Draw the accuracies after 1, 2, 4, ... supervision steps, with intervals if they fit."""
    names, rows = list(evaluation.hits), accuracies(evaluation)
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("steps", justify="right")
    for name in names:  # headings may wrap, numbers must not
        table.add_column(f"{name} % (95 % interval)", justify="right", min_width=16)
    table.add_column("cell %", justify="right")
    narrow = Table(box=None, title=title, title_justify="left", title_style="bold")
    for heading in ("steps", *(f"{name} %" for name in names), "cell %"):
        narrow.add_column(heading, justify="right", min_width=max(map(len, heading.split())))
    for row in (rows[step - 1] for step in evaluation.shown_steps):
        shares = [f"{100 * row[f'{name}_accuracy']:.1f}" for name in names]
        intervals = [f"({percent(row[f'{name}_interval'])})" for name in names]
        step, cell = str(row["step"]), f"{100 * row['cell_accuracy']:.1f}"
        table.add_row(step, *map(" ".join, zip(shares, intervals, strict=True)), cell)
        narrow.add_row(step, *shares, cell)
    return WideOrNarrow(table, narrow)


class WideOrNarrow:
    """Draws the first of two tables where a terminal has room for it, and else the second."""

    def __init__(self, table: Table, narrow: Table) -> None:
        self.table, self.narrow = table, narrow

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needed = Measurement.get(console, options.update(max_width=_ANY_WIDTH), self.table).minimum
        yield self.table if needed <= options.max_width else self.narrow


def pass_rows(pass_at: Mapping[int, float], tasks: int) -> list[dict[str, Any]]:
    """Return one plain row per K: ARC's mean over tasks of the share of test inputs solved."""
    return [
        {"k": k, "n": tasks, "accuracy": share, "interval": list(wilson(share * tasks, tasks))}
        for k, share in pass_at.items()
    ]


def pass_table(rows: list[dict[str, Any]], title: str) -> Table:
    """Draw pass@K."""
    table = numbers_table(title, ("answers", "solved %", "95 % interval", "tasks"))
    for row in rows:
        cells = (f"{100 * row['accuracy']:.1f}", percent(row["interval"]), str(row["n"]))
        table.add_row(f"pass@{row['k']}", *cells)
    return table


def numbers_table(title: str, headings: Iterable[str]) -> Table:
    """Return an empty table whose columns are flush right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def percent(interval: list[float]) -> str:
    """Write an interval of shares in percent."""
    return "{:.1f}-{:.1f}".format(*(100 * bound for bound in interval))
