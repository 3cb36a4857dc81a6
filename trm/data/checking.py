"""What every reader of files asks of the puzzles it finds."""

import numpy as np
import torch

from trm.support.errors import InputError
from trm.tasks.base import Task

FOREIGN = 255  # stands for a symbol that a task does not know


def bad_rows(x_input: np.ndarray, y_true: np.ndarray, task: Task) -> list[int]:
    """Return the numbers of the rows with a foreign symbol or an answer that breaks the rules.

    Args:
        x_input: questions, (puzzles, cells) uint8 tokens or FOREIGN
        y_true: answers, likewise
        task: whose puzzles they are
    """
    foreign = ((x_input == FOREIGN) | (y_true == FOREIGN)).any(axis=1)
    # Foreign symbols are bad already; as tokens they would be out of range.
    x, y = (torch.from_numpy(np.where(a == FOREIGN, 0, a)) for a in (x_input, y_true))
    return np.flatnonzero(foreign | ~task.is_valid(x, y).numpy()).tolist()


def why_bad(x_input: np.ndarray, y: np.ndarray, task: Task) -> str:
    """Say, for (cells,) tokens, which rule an answer breaks."""
    problem = task.explain(x_input) or task.explain(x_input, y) or "the answer breaks the rules"
    return f"answer {short(task.decode(y))} to {short(task.decode(x_input))}: {problem}"


def tell(where: str, bad: list[tuple[int, str]], most: int) -> InputError:
    """Make the error that names the first of the bad rows, and how many follow.

    Args:
        where: file, and what its rows are, such as ``train.csv, line``
        bad: number and problem of each
        most: bad rows after which reading stopped
    """
    number, problem = min(bad)
    least = "at least " if len(bad) >= most else ""
    more = f"; {least}{len(bad) - 1} more bad rows follow" if len(bad) > 1 else ""
    return InputError(f"{where} {number}: {problem}{more}")


def short(text: str) -> str:
    """Quote a value for an error, cut where it would not fit a line."""
    return repr(text if len(text) <= 90 else text[:87] + "...")
