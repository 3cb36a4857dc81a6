"""Replies as a result: the task's own judgement of them, with intervals."""

from typing import Any

import numpy as np
import torch
from rich.table import Table

from trm.baselines.prompts import read_reply
from trm.baselines.store import Record, Store
from trm.report.tables import percent
from trm.results.files import FORMAT
from trm.results.statistics import wilson
from trm.support.build import build
from trm.support.errors import InputError
from trm.tasks.base import PAD, Task


def task_of(store: Store) -> Task:
    """Make the task that a store's puzzles are of.

    Raises:
        InputError: a header without it
    """
    settings = store.header.get("task_settings")
    if not isinstance(settings, dict):
        raise InputError(f"{store.path} does not say what its task is")
    return build(settings, Task, "task")


def score(store: Store, limit: int | None = None) -> dict[str, Any]:
    """Judge the stored replies; nothing else is needed.

    Puzzles whose request failed are counted as ``errors`` and are no part of ``n``; a reply
    without a grid is part of ``n``, and wrong.

    Args:
        store: replies with their puzzles and labels
        limit: only puzzles before this one

    Raises:
        InputError: a store whose puzzles are not of its task
    """
    task = task_of(store)
    records = [r for i, r in sorted(store.records.items()) if limit is None or i < limit]
    replies = [record for record in records if "reply" in record]
    judged, no_grid = _judge(task, replies, str(store.path))
    n = len(replies)
    result: dict[str, Any] = {
        "format": FORMAT,
        "task": store.header["task"],
        "model": store.header["model"],
        "backend": store.header["backend"],
        "split": store.header["split"],
        "n": n,
    }
    for name, right in judged.items():
        hits = int(right.sum())
        result[f"{name}_accuracy"] = hits / n if n else None
        result[f"{name}_interval"] = list(wilson(hits, n)) if n else None
    seconds = [record["seconds"] for record in replies] or [float("nan")]
    return result | {
        "no_grid": no_grid,
        "errors": len(records) - n,
        "prompt_tokens": sum(record["prompt_tokens"] for record in replies),
        "completion_tokens": sum(record["completion_tokens"] for record in replies),
        "seconds_median": round(float(np.median(seconds)), 3) if n else None,
        "seconds_p95": round(float(np.quantile(seconds, 0.95)), 3) if n else None,
        "usd": sum(record["usd"] for record in records),
        "data_sha256": store.header["data_sha256"],
        "settings": store.header,
    }


def _judge(task: Task, replies: list[Record], where: str) -> tuple[dict[str, np.ndarray], int]:
    """Judge replies: (replies,) bool for each measure, and how many hold no grid."""
    right = {name: np.zeros(len(replies), dtype=bool) for name in task.measures}
    read = [read_reply(task, record["reply"]) for record in replies]
    found = [index for index, y in enumerate(read) if y is not None]
    if found:
        x_input, y_true = (
            torch.stack([_tokens(task, replies[index][name], where) for index in found])
            for name in ("puzzle", "y_true")
        )
        y = torch.from_numpy(np.stack([y for y in read if y is not None])).long()
        for name, answers in task.judge(x_input, y, y_true).items():
            right[name][found] = answers.numpy()
    return right, len(replies) - len(found)


def _tokens(task: Task, text: str, where: str) -> torch.Tensor:
    """Read what ``Task.decode`` wrote; ``?`` is a cell of a label that is not scored."""
    if len(text) != task.cells:
        raise InputError(f"{where} holds a grid of {len(text)} cells; {task.name} has {task.cells}")
    return torch.tensor([task.symbols.get(symbol, PAD) for symbol in text])


def score_table(result: dict[str, Any]) -> Table:
    """Draw a result."""
    table = Table()
    for heading in ("measure", "%", "95 % interval"):
        table.add_column(heading, justify="left" if heading == "measure" else "right")
    for key, share in result.items():
        if key.endswith("_accuracy") and share is not None:
            name = key.removesuffix("_accuracy")
            table.add_row(name, f"{100 * share:.1f}", percent(result[f"{name}_interval"]))
    return table


def summary(result: dict[str, Any]) -> str:
    """Say in a line what else is known."""
    said = (
        f"no grid {result['no_grid']}, errors {result['errors']}; {result['prompt_tokens']:,} "
        f"prompt and {result['completion_tokens']:,} completion tokens, {result['usd']:.4f} USD"
    )
    if not result["n"]:
        return said
    return (
        f"{said}; {result['seconds_median']:.1f} s per reply (95 % within "
        f"{result['seconds_p95']:.1f} s)"
    )
