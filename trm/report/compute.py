"""Accuracy against compute: what more steps, trajectories and early exit buy."""

from pathlib import Path
from typing import Any

from rich.table import Table

from trm.inference.evaluation import doubling
from trm.inference.record import EvaluationRecord
from trm.inference.selectors import BY_RULES, SELECTORS, Stop
from trm.report.fitting import Fitting
from trm.report.plots import banded
from trm.report.tables import percent
from trm.results.statistics import accuracy

_EARLY: tuple[Stop, ...] = ("first_halted", "first_valid")  # what a run to the end can tell of


def against_compute(record: EvaluationRecord, passes: int) -> list[dict[str, Any]]:
    """Return one plain row for every smaller or other amount of compute that a record holds.

    The last row, of kind ``run``, was timed as it is; the seconds of the others are their steps
    times the seconds that a step took in that run. ``passes`` is the number of network passes of a
    supervision step.
    """
    run, rows = record.compute, []

    def add(
        kind: str,
        steps: int,
        trajectories: int,
        select: str = run.select,
        stop: Stop = run.stop,
    ) -> None:
        outcome = record.outcome(steps, trajectories, select, stop)
        n, mean_steps = record.puzzles, outcome.steps.double().mean().item()
        row: dict[str, Any] = {"kind": kind, "select": select, "stop": stop}
        row |= {"max_steps": steps, "trajectories": trajectories, "n": n}
        row |= {"steps_per_puzzle": mean_steps, "passes_per_puzzle": mean_steps * passes}
        row["seconds_per_puzzle"] = mean_steps * record.seconds_per_step
        for name, hit in outcome.hits.items():
            row |= accuracy(name, int(hit.sum()), n)
        rows.append(row)

    R, S = run.trajectories, record.steps
    if run.stop == "all":
        for steps in doubling(S):
            add("steps", steps, 1)
        has_rules = "valid" in record.hits
        selectors = dict.fromkeys([*SELECTORS, run.select])  # one's own among them, each once
        for select in BY_RULES if not has_rules else ():
            del selectors[select]
        for select in selectors if R > 1 else ():
            for count in doubling(R)[1:]:
                add("trajectories", S, count, select=select)
        for stop in _EARLY:
            for count in doubling(R) if stop != "first_valid" or has_rules else ():
                add("early exit", S, count, stop=stop)
    add("run", S, R)
    return rows


def compute_table(rows: list[dict[str, Any]]) -> Fitting:
    """Draw accuracy beside steps, network passes and seconds per puzzle."""
    title = "Accuracy against compute per puzzle (≈: read off the run in the last row)"
    table = Table(title=title, title_justify="left", title_style="bold", padding=(0, 0, 0, 1))
    table.add_column("trajectories, until, by", no_wrap=True)
    for heading in ("steps", "passes", "ms", "exact % (95 %)", "valid %"):
        table.add_column(heading, justify="right")
    for row in rows:
        valid = row.get("valid_accuracy")
        table.add_row(
            name_of(row),
            f"{row['steps_per_puzzle']:.1f}",
            f"{row['passes_per_puzzle']:.1f}",
            ("" if row["kind"] == "run" else "≈ ") + f"{1000 * row['seconds_per_puzzle']:.2f}",
            f"{100 * row['exact_accuracy']:.1f} ({percent(row['exact_interval'])})",
            "" if valid is None else f"{100 * valid:.1f}",
        )
    return Fitting(table)


def name_of(row: dict[str, Any]) -> str:
    """Say how many trajectories ran until when, and by what one of them was chosen."""
    last = {
        "all": f"step {row['max_steps']}",
        "first_halted": "halted",
        "first_valid": "valid",
        "all_valid": "all valid",
    }
    name = f"{row['trajectories']}, {last[row['stop']]}"
    return name + (f", {_selector_name(row)}" if row["trajectories"] > 1 else "")


def _selector_name(row: dict[str, Any]) -> str:
    """Shorten the path of a selector of one's own to its last word."""
    return str(row["select"]).rpartition(".")[2]


def plot_compute(
    rows: list[dict[str, Any]], by_step: list[dict[str, Any]], title: str, path: Path
) -> None:
    """Draw accuracy after each step, and exact accuracy against network passes per puzzle.

    ``rows`` are of ``against_compute``, ``by_step`` of ``trm.report.tables.accuracies`` for the
    compute that was run; ``path`` is a PNG.
    """
    measures = [key.removesuffix("_interval") for key in by_step[0] if key.endswith("_interval")]
    steps: dict[str, list[tuple[float, float, float, float]]] = {}
    for name in measures:
        points = [point(row["step"], row, name) for row in by_step]
        # Where puzzles have one solution what is valid is exact, and a curve would hide the other.
        for other in [other for other, drawn in steps.items() if drawn == points]:
            del steps[other]
            name = f"{other}, {name}"
        steps[name] = points
    curves: dict[str, list[tuple[float, float, float, float]]] = {}
    for row in rows:
        if row["kind"] == "run" and len(rows) > 1:
            continue  # it is one of the others
        name = {
            "steps": "more steps",
            "trajectories": f"more trajectories, by {_selector_name(row)}",
            "early exit": f"early exit, {row['stop'].replace('_', ' ')}",
            "run": "as run",
        }[row["kind"]]
        curves.setdefault(name, []).append(point(row["passes_per_puzzle"], row, "exact"))
    panels = {"supervision steps, as run": steps, "network passes per puzzle (exact)": curves}
    banded(panels, "accuracy %", path, title)


def point(x: float, row: dict[str, Any], measure: str) -> tuple[float, float, float, float]:
    """Return x, an accuracy and the ends of its interval in %, as ``plots.banded`` draws them."""
    low, high = row[f"{measure}_interval"]
    return x, 100 * row[f"{measure}_accuracy"], 100 * low, 100 * high
