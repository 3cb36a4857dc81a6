"""A closer look at the plain trajectories: when they halt, what they know, where they get stuck."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from trm.data.puzzles import Puzzles
from trm.inference.evaluation import doubling
from trm.inference.record import EvaluationRecord
from trm.report.fitting import Fitting
from trm.report.tables import numbers_table, percent
from trm.results.statistics import wilson
from trm.tasks.base import Task

_BINS = 5  # of halting probability
_QUANTILES = 4  # of difficulty
_MOST_ROWS = 20  # of steps, above which 1, 2, 4, ... and the last are shown


def diagnostics(record: EvaluationRecord, task: Task, puzzles: Puzzles) -> dict[str, Any]:
    """Look at the first trajectory of every puzzle.

    Returns:
        plain types: ``by_step`` (halted for the first time here, exact, settled, settled on
        a wrong answer, median residuals of the parts of the state), ``calibration`` (halting
        probability after the last step against the share solved), ``expected_calibration_error``,
        ``says`` (says solved against is solved) and ``by_difficulty``
    """
    exact, halting = record.hits["exact"][..., 0], record.signals.halting[..., 0]
    probability, solved = halting[-1].sigmoid(), exact[-1]
    calibration = _calibration(probability, solved)
    gap = sum(row["n"] * abs(row["says"] - row["solved"]) for row in calibration)
    says = probability > record.compute.sure
    return {
        "by_step": _by_step(record, exact, halting),
        "calibration": calibration,
        "expected_calibration_error": gap / record.puzzles,
        "says": {
            "solved, is solved": int((says & solved).sum()),
            "solved, is not": int((says & ~solved).sum()),
            "unsolved, is solved": int((~says & solved).sum()),
            "unsolved, is not": int((~says & ~solved).sum()),
        },
        "by_difficulty": _by_difficulty(task, puzzles, solved),
    }


def _by_step(record: EvaluationRecord, exact: Tensor, halting: Tensor) -> list[dict[str, Any]]:
    answer, residuals = record.signals.answer[..., 0], record.signals.residuals[..., 0, :]
    says = halting.sigmoid() > record.compute.sure
    rows = []
    for k in range(record.steps):
        going = record.end > k
        first = says[k] & going & ~says[:k].any(0)
        settled = (answer[k] == answer[k - 1]) & going if k else torch.zeros_like(going)
        medians = (residuals[k][going] if going.any() else 0 * residuals[k]).nanmedian(0).values
        rows.append(
            {
                "step": k + 1,
                "going": int(going.sum()),
                "halts_first": int(first.sum()),
                "exact": int((exact[k] & going).sum()),
                "settled": int(settled.sum()),
                "settled_on_wrong": int((settled & ~exact[k]).sum()),
                **{
                    f"residual_{name}": float(median)
                    for name, median in zip(record.parts, medians, strict=True)
                },
            }
        )
    return rows


def _calibration(probability: Tensor, solved: Tensor) -> list[dict[str, Any]]:
    which = (probability * _BINS).long().clamp(max=_BINS - 1)
    rows = []
    for k in range(_BINS):
        here = which == k
        if n := int(here.sum()):
            row = {"from": k / _BINS, "to": (k + 1) / _BINS, "n": n}
            means = {"says": probability[here], "solved": solved[here].float()}
            rows.append(row | {name: values.mean().item() for name, values in means.items()})
    return rows


def _by_difficulty(task: Task, puzzles: Puzzles, solved: Tensor) -> list[dict[str, Any]]:
    """Split by quantiles of the source's rating and of what the task counts."""
    measures = []
    rating = getattr(puzzles, "rating", None)
    if rating is not None:
        measures.append(("rating", rating))
    if (counted := task.difficulty(puzzles.x_input)) is not None:
        measures.append(counted)
    rows = []
    for name, values in measures:
        bounds = np.quantile(values, np.linspace(0, 1, _QUANTILES + 1)[1:])
        if name == "rating":  # 0, "needs no guess", is a kind of its own
            bounds = np.append(bounds, 0)
        bounds = np.unique(bounds)
        below = -np.inf
        for bound in bounds:
            here = torch.from_numpy((values > below) & (values <= bound))
            below = bound
            if n := int(here.sum()):
                hits, inside = int(solved[here].sum()), values[here.numpy()]
                row = {"measure": name, "from": int(inside.min()), "to": int(inside.max()), "n": n}
                rows.append(row | {"exact_accuracy": hits / n, "interval": list(wilson(hits, n))})
    return rows


def diagnostic_tables(diagnosis: dict[str, Any]) -> list[Fitting]:
    """Draw the diagnostics."""
    parts = [name for name in diagnosis["by_step"][0] if name.startswith("residual_")]
    changes = [f"‖Δ{name.removeprefix('residual_')}‖" for name in parts]
    steps = numbers_table(
        "Step by step (settled: the answer is that of the step before)",
        ("step", "going", "says solved first", "settled", "settled, wrong", *changes),
    )
    by_step = diagnosis["by_step"]
    shown = doubling(len(by_step)) if len(by_step) > _MOST_ROWS else range(1, len(by_step) + 1)
    for row in (by_step[k - 1] for k in shown):
        counts = ("step", "going", "halts_first", "settled", "settled_on_wrong")
        residuals = [f"{row[name]:.3f}" for name in parts]
        steps.add_row(*(str(row[name]) for name in counts), *residuals)
    error = diagnosis["expected_calibration_error"]
    sure = numbers_table(
        f"What it says after the last step (calibration error {100 * error:.1f} %)",
        ("says %", "mean %", "is solved %", "puzzles"),
    )
    for row in diagnosis["calibration"]:
        bounds = f"{100 * row['from']:.0f}-{100 * row['to']:.0f}"
        shares = (f"{100 * row[name]:.1f}" for name in ("says", "solved"))
        sure.add_row(bounds, *shares, str(row["n"]))
    hard = numbers_table(
        "By difficulty", ("measure", "from", "to", "exact %", "95 % interval", "puzzles")
    )
    for row in diagnosis["by_difficulty"]:
        share, interval = f"{100 * row['exact_accuracy']:.1f}", percent(row["interval"])
        hard.add_row(
            row["measure"], str(row["from"]), str(row["to"]), share, interval, str(row["n"])
        )
    return [Fitting(table) for table in (steps, sure, hard) if table.rows]
