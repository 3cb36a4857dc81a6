"""Grids as HTML, for notebooks: tables with a style of their own, on white in light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from trm.support.colours import BLACK, BLUE
from trm.tasks.base import Task
from trm.tasks.looks import THIN, WRONG, Look, lines, looks, window, wrong_cells

_MOST_PANELS = 12  # side by side; of more, some
_MOST_CELLS = 6000  # of all panels, of some 80 bytes each
_ANSWER = BLUE  # of symbols that were not given
_SIDE_PX = 270  # of a grid, about
_CELL_PX = (9, 26)  # of a cell, at least and at most
_CORNER = f"linear-gradient(225deg, {WRONG} 28%, transparent 28%)"


@dataclass(frozen=True, eq=False)
class Grid:
    """A puzzle, or an answer, that draws itself in a notebook, and as text elsewhere.

    Attributes:
        task: whose puzzle it is
        x_input: the puzzle, (cells,) uint8 tokens
        y: an answer, likewise, or None for the puzzle itself
        y_true: the solution, by which wrong cells are marked, or None
    """

    task: Task
    x_input: np.ndarray
    y: np.ndarray | None = None
    y_true: np.ndarray | None = None

    def __repr__(self) -> str:
        return self.task.render(self.x_input, self.y, self.y_true).plain

    def _repr_html_(self) -> str:
        shown = [grid for grid in (self.x_input, self.y, self.y_true) if grid is not None]
        wrong = None if self.y is None else wrong_cells(self.y, self.y_true)
        each = looks(self.task, self.x_input, self.y, wrong=wrong)
        return table(self.task, each, window(self.task, *shown))


def most_panels(task: Task) -> int:
    """Return how many grids of a task may stand beside each other."""
    return max(3, min(_MOST_PANELS, _MOST_CELLS // task.cells))


def panels(drawn: Sequence[tuple[str, str]], note: str = "") -> str:
    """Put tables beside each other, a title over each, and a line under all of them.

    Args:
        drawn: titles, plain text of one line or several, and tables
        note: plain text
    """
    figures = "".join(
        '<div style="margin:0 18px 10px 0"><div style="font-size:90%;white-space:pre-line;'
        f'margin-bottom:4px">{escape(title)}</div>{picture}</div>'
        for title, picture in drawn
    )
    below = f'<div style="font-size:90%;margin-bottom:10px">{escape(note)}</div>' if note else ""
    row = f'<div style="display:flex;flex-wrap:wrap;align-items:flex-end">{figures}</div>'
    return f"<div>{row}{below}</div>"


def table(task: Task, each: Sequence[Look], size: tuple[int, int]) -> str:
    """Draw the top left corner of a grid.

    Args:
        task: knows its shape and boxes
        each: how every cell of the grid looks
        size: rows and columns of the corner
    """
    rows, columns = size
    least, most = _CELL_PX
    side = max(least, min(most, _SIDE_PX // max(rows, columns)))
    tall, wide = task.boxes or (None, None)
    # A cell draws the lines above it and on its left, and the last ones those behind it.
    across, down = list(lines(rows, tall)), list(lines(columns, wide))
    body = ""
    for row in range(rows):
        cells = each[row * task.grid_shape[1] :][:columns]
        drawn = (
            _cell(look, across[row : row + 2], down[column : column + 2], 0 if row else side)
            for column, look in enumerate(cells)
        )
        body += f'<tr style="height:{side}px">{"".join(drawn)}</tr>'
    style = (
        f"border-collapse:collapse;margin:0;background:#FFFFFF;color:{BLACK};"
        f"font:{round(0.6 * side)}px sans-serif;line-height:1"
    )
    return f'<table style="{style}">{body}</table>'


def _cell(look: Look, across: Sequence[bool], down: Sequence[bool], width: int) -> str:
    """Draw a cell.

    Args:
        look: how it looks
        across: whether the lines above and under it are thick
        down: whether those on its left and right are
        width: of a column, in the first of its cells; 0 in the others
    """
    square = 100 * look.side
    layers = [_CORNER] * look.wrong
    if look.colour is not None and square < 100:
        plain = f"linear-gradient({look.colour},{look.colour})"
        layers.append(f"{plain} center/{square:.0f}% {square:.0f}% no-repeat")
    ground = look.colour if look.colour is not None and square >= 100 else look.ground
    style = f"padding:0;background:{','.join([*layers, ground])};border:1px solid {THIN};"
    edges = zip(("top", "bottom", "left", "right"), (*across, *down), strict=True)
    style += "".join(f"border-{edge}:2px solid {BLACK};" for edge, thick in edges if thick)
    if width:
        style += f"min-width:{width - 1}px;"
    if look.symbol:
        style += "text-align:center;"
        style += "font-weight:bold;" if look.clue else f"color:{_ANSWER};"
    if look.wrong:
        style += f"box-shadow:inset 0 0 0 2px {WRONG};"
    return f'<td style="{style}">{escape(look.symbol)}</td>'
