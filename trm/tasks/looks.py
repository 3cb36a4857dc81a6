"""How the cells of a grid look, wherever it is drawn."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trm.support.colours import VERMILION
from trm.tasks.base import PAD, Task

WRONG = VERMILION  # a corner says it again without colour
CLUE = "#E6E6E6"
THIN = "#AAAAAA"  # lines between cells; those around boxes are black
_UNSURE = np.array([0.94, 0.78, 0.20])  # yellow, told from white by all eyes


@dataclass(frozen=True)
class Look:
    """How one cell looks.

    Attributes:
        symbol: on top of everything, or nothing
        ground: colour of the cell
        colour: of a square upon it, or None
        side: of that square, 0 to 1: the less sure, the smaller
        clue: whether it was given, so that its symbol is bold
        wrong: whether it is to be marked
    """

    symbol: str
    ground: str
    colour: str | None
    side: float
    clue: bool
    wrong: bool


def looks(
    task: Task,
    x_input: np.ndarray,
    y: np.ndarray | None = None,
    certainty: np.ndarray | None = None,
    wrong: np.ndarray | None = None,
) -> list[Look]:
    """Return how every cell of an answer looks, or of the puzzle if there is none.

    Args:
        task: whose puzzle it is
        x_input: (cells,) uint8 tokens
        y: its answer, likewise
        certainty: probability of each token, (cells,); the less, the yellower
        wrong: cells to be marked, (cells,) bool
    """
    tokens = x_input if y is None else y
    clues = task.given(x_input) & (tokens == x_input)
    sure = np.ones(len(tokens)) if certainty is None else np.where(clues, 1.0, certainty)
    marked = np.zeros_like(clues) if wrong is None else wrong
    return [
        _look(task, *each)
        for each in zip(
            tokens.tolist(), sure.tolist(), clues.tolist(), marked.tolist(), strict=True
        )
    ]


def _look(task: Task, token: int, sure: float, clue: bool, wrong: bool) -> Look:
    symbol, colour = task.face(token)
    ground = CLUE if clue and colour is None else _ground(sure)
    return Look(symbol, ground, colour, max(sure, 0.0) ** 0.5, clue, wrong)


def _ground(sure: float) -> str:
    rgb = 1 - (1 - sure) * (1 - _UNSURE)
    return "#" + "".join(f"{round(255 * part):02X}" for part in rgb.clip(0, 1).tolist())


def wrong_cells(y: np.ndarray, y_true: np.ndarray | None) -> np.ndarray:
    """Mark, as (cells,) bool, the cells that are not as in the solution; none if it is unknown."""
    if y_true is None:
        return np.zeros(len(y), dtype=bool)
    return (y != y_true) & (y_true != PAD)


def window(task: Task, *grids: np.ndarray) -> tuple[int, int]:
    """Return how many rows and columns of some grids are worth showing."""
    sizes = [task.extent(tokens) for tokens in grids]
    return max(rows for rows, _ in sizes), max(columns for _, columns in sizes)


def lines(count: int, every: int | None) -> Iterator[bool]:
    """Say of each line across ``count`` cells, both ends included, whether it is thick."""
    every = count if every is None else every
    return (k % every == 0 or k == count for k in range(count + 1))
