"""Replies as a result: the task's own judgement of them, with intervals."""

from typing import Any

import numpy as np
import torch
from rich.table import Table

from trm.baselines.prompts import read_reply
from trm.baselines.store import Entry, Store
from trm.report.tables import percent
from trm.results.files import FORMAT
from trm.results.statistics import accuracy
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
    """Judge the stored replies, of the puzzles before ``limit``; nothing else is needed.

    Puzzles whose request failed are counted as ``errors`` and are no part of ``n``; a reply
    without a grid is part of ``n``, and wrong.

    Raises:
        InputError: a store whose puzzles are not of its task
    """
    task = task_of(store)
    entries = [r for i, r in sorted(store.entries.items()) if limit is None or i < limit]
    replies = [entry for entry in entries if "reply" in entry]
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
        result |= accuracy(name, int(right.sum()), n)
    seconds = [entry["seconds"] for entry in replies] or [float("nan")]
    return result | {
        "no_grid": no_grid,
        "errors": len(entries) - n,
        "prompt_tokens": sum(entry["prompt_tokens"] for entry in replies),
        "completion_tokens": sum(entry["completion_tokens"] for entry in replies),
        "seconds_median": round(float(np.median(seconds)), 3) if n else None,
        "seconds_p95": round(float(np.quantile(seconds, 0.95)), 3) if n else None,
        "usd": sum(entry["usd"] for entry in entries),
        "data_sha256": store.header["data_sha256"],
        "settings": store.header,
    }


def _judge(task: Task, replies: list[Entry], where: str) -> tuple[dict[str, np.ndarray], int]:
    """Judge replies: (replies,) bool for each measure, and how many hold no grid."""
    right = {name: np.zeros(len(replies), dtype=bool) for name in task.measures}
    read = [read_reply(task, entry["reply"]) for entry in replies]
    with_grid = [index for index, y in enumerate(read) if y is not None]
    if with_grid:
        x_input, y_true = (
            torch.stack([_tokens(task, replies[index][name], where) for index in with_grid])
            for name in ("puzzle", "y_true")
        )
        y = torch.from_numpy(np.stack([y for y in read if y is not None])).long()
        for name, answers in task.judge(x_input, y, y_true).items():
            right[name][with_grid] = answers.numpy()
    return right, len(replies) - len(with_grid)


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
    line = (
        f"no grid {result['no_grid']}, errors {result['errors']}; {result['prompt_tokens']:,} "
        f"prompt and {result['completion_tokens']:,} completion tokens, {result['usd']:.4f} USD"
    )
    if not result["n"]:
        return line
    return (
        f"{line}; {result['seconds_median']:.1f} s per reply (95 % within "
        f"{result['seconds_p95']:.1f} s)"
    )
