"""ARC-AGI: grids of colours on a canvas of 30 by 30, and their augmentations."""

import json
from types import NoneType
from typing import Any

import numpy as np
from rich.text import Text
from torch import Tensor

from trm.support.errors import InputError
from trm.tasks.base import PAD, Task

END = 1  # token of the row under a grid and the column right of it, where they fit
FIRST_COLOUR = 2  # token of colour 0, black
SIDE = 30
COLOURS = 10
NAME_SEPARATOR = "|||"  # between a task, a turn and the colours, in the name of an augmentation

# The dihedral group in the released order: identity, rot90 by 1, 2, 3, flip left-right, flip
# up-down, transpose, flip left-right of rot90. Output cell (i, j) shows the original cell that has
# row (j if SWAP else i) and column (i if SWAP else j), counted from the other end if flipped.
DIHEDRAL = 8
SWAP = (False, True, False, True, False, False, True, True)
FLIP_ROWS = (False, False, True, True, False, True, False, True)
FLIP_COLUMNS = (False, True, True, False, True, False, False, True)
_UNDOING = (0, 3, 2, 1, 4, 5, 6, 7)

_MEND = "so mend the grid or leave it out"

_STYLES = (
    *("white on black", "on blue", "on red", "on green", "on yellow"),
    *("on bright_black", "on magenta", "on dark_orange", "on cyan", "on dark_red"),
)
# Black, blue, red, green, yellow, grey, pink, orange, light blue, maroon.
_PALETTE = (
    *("#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00"),
    *("#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25"),
)


class Arc(Task):
    """Find the rule behind a few pairs of grids, given by a puzzle identifier, and apply it.

    A canvas of 30 x 30 tokens holds the grid with its top left corner at row 1, column 1 (or moved,
    in training). Tokens as released: PAD 0, end 1, colours 2 ... 11. As text, ``.`` is PAD, ``|``
    an end marker, ``0`` ... ``9`` a colour; a grid may also be given as JSON.

    Only the identifier tells the network which rule to apply, so a puzzle is meaningless without
    its row, and augmented tasks have rows of their own. Hence ``symmetries`` is the identity
    alone: see ``trm.data.arc``. There are no rules by which an answer could be checked without its
    label; ``exact`` is the only measure.
    """

    measures = ("exact",)

    def __init__(self) -> None:
        self.name = "arc"
        self.grid_shape = (SIDE, SIDE)
        self.vocab_size = FIRST_COLOUR + COLOURS
        digits = {str(colour): FIRST_COLOUR + colour for colour in range(COLOURS)}
        self.symbols = {".": PAD, "|": END, **digits}

    def encode(self, text: str) -> np.ndarray:
        """Turn a canvas as text, or a grid as JSON such as ``[[0, 7], [7, 7]]``, into tokens."""
        if not text.lstrip().startswith("["):
            return super().encode(text)
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"arc puzzle is no JSON grid ({error})") from None
        return to_canvas(checked_grid(rows, "arc puzzle"))

    def judge(self, x_input: Tensor, y: Tensor, y_true: Tensor) -> dict[str, Tensor]:
        """Compare with the label; an answer without one is never right."""
        labelled = (y_true != PAD).any(1)
        return {"exact": self.is_solution(x_input, y, y_true) & labelled}

    def is_valid(self, x_input: Tensor, y: Tensor) -> Tensor:
        """Mark answers that begin with a colour, and so hold some grid."""
        return y[:, 0] >= FIRST_COLOUR

    def explain(self, x_input: np.ndarray, y: np.ndarray | None = None) -> str | None:
        """Say if there is no grid."""
        grid = x_input if y is None else y
        return None if grid[0] >= FIRST_COLOUR else "there is no grid in the top left corner"

    def face(self, token: int) -> tuple[str, str | None]:
        """Return the colour, in the usual palette of ARC; PAD and end markers are plain."""
        return "", _PALETTE[token - FIRST_COLOUR] if token >= FIRST_COLOUR else None

    def extent(self, tokens: np.ndarray) -> tuple[int, int]:
        """Return the rows and columns that hold any colour."""
        grid = tokens.reshape(SIDE, SIDE) >= FIRST_COLOUR
        rows, columns = (np.flatnonzero(grid.any(axis)) for axis in (1, 0))
        return (int(rows[-1]) + 1, int(columns[-1]) + 1) if rows.size else (1, 1)

    def render(
        self, x_input: np.ndarray, y: np.ndarray | None = None, y_true: np.ndarray | None = None
    ) -> Text:
        """Draw the grid in colours; ``!`` marks cells that differ from the label."""
        tokens = (x_input if y is None else y).reshape(SIDE, SIDE)
        true = tokens if y_true is None else y_true.reshape(SIDE, SIDE)
        rows, columns = (crop(tokens.ravel()) if y_true is None else crop(y_true)).shape
        text = Text()
        for i in range(rows):
            for j in range(columns):
                token, wrong = int(tokens[i, j]), tokens[i, j] != true[i, j]
                colour = token - FIRST_COLOUR
                style = _STYLES[colour] if colour >= 0 else "dim"
                text.append(str(colour) if colour >= 0 else ".", style)
                text.append("!" if wrong else " ", "bold red" if wrong else style)
            text.append("\n")
        text.rstrip()
        return text


def checked_grid(rows: Any, where: str) -> np.ndarray:
    """Turn rows of colours, as JSON has them, into (rows, columns) uint8.

    Raises:
        InputError: no such grid, naming ``where``
    """
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        raise InputError(
            f"{where}: {shown(rows)} is no grid; a grid is a list of rows of colours, such as "
            f"[[0, 7], [7, 7]]"
        )
    if len(rows) > SIDE or any(len(row) > SIDE for row in rows):
        widest = max(len(row) for row in rows)
        raise InputError(
            f"{where}: {len(rows)} x {widest} cells; a side has at most {SIDE}, {_MEND}"
        )
    if not rows[0] or any(len(row) != len(rows[0]) for row in rows):
        lengths = sorted({len(row) for row in rows})
        raise InputError(
            f"{where}: rows have {lengths} cells; all need the same number, 1 or more, {_MEND}"
        )
    for row in rows:
        for colour in row:
            if type(colour) is not int or not 0 <= colour <= 9:
                raise InputError(f"{where}: colour {shown(colour)} must be 0 ... 9, {_MEND}")
    return np.array(rows, dtype=np.uint8)


def shown(value: Any) -> str:
    """Name what JSON has, on a part of a line; what is nested may be endless."""
    kinds = {list: "a list", dict: "an object", NoneType: "null"}
    text = kinds.get(type(value)) or str(value)
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def to_canvas(grid: np.ndarray) -> np.ndarray:
    """Put a (rows, columns) grid of colours into the corner of a canvas: (900,) uint8 tokens."""
    if not (grid.ndim == 2 and min(grid.shape) >= 1 and max(grid.shape) <= SIDE):
        raise InputError(f"a grid of shape {grid.shape} does not fit a canvas of {SIDE} x {SIDE}")
    canvas = np.zeros((SIDE, SIDE), dtype=np.uint8)
    rows, columns = grid.shape
    canvas[:rows, :columns] = grid + FIRST_COLOUR
    canvas[rows : rows + 1, :columns] = END
    canvas[:rows, columns : columns + 1] = END
    return canvas.ravel()


def crop(tokens: np.ndarray) -> np.ndarray:
    """Return the largest rectangle of colours in the top left corner, as (rows, columns) uint8.

    Of equally large ones the first by height, as released; empty where the corner has no colour.
    """
    grid = tokens.reshape(SIDE, SIDE)
    coloured = (grid >= FIRST_COLOUR) & (grid < FIRST_COLOUR + COLOURS)
    # Columns that are coloured from the left in each row, at most as many as in the rows above.
    widths = np.minimum.accumulate(np.logical_and.accumulate(coloured, axis=1).sum(1))
    rows = int((widths * np.arange(1, SIDE + 1)).argmax()) + 1
    columns = int(widths[rows - 1])
    return grid[: rows if columns else 0, :columns] - np.uint8(FIRST_COLOUR)


def turned(grid: np.ndarray, which: int) -> np.ndarray:
    """Apply an element of the dihedral group, numbered as released, to (rows, columns)."""
    image = grid.T if SWAP[which] else grid
    # Rows of the original lie along the columns of the image where the two are swapped.
    flip_first, flip_second = FLIP_ROWS[which], FLIP_COLUMNS[which]
    if SWAP[which]:
        flip_first, flip_second = flip_second, flip_first
    return image[:: -1 if flip_first else 1, :: -1 if flip_second else 1]


def augmented(grid: np.ndarray, which: int, colours: np.ndarray) -> np.ndarray:
    """Permute colours, then turn: colour ``c`` becomes ``colours[c]``."""
    return turned(colours.astype(np.uint8)[grid], which)


def undone(grid: np.ndarray, which: int, colours: np.ndarray) -> np.ndarray:
    """Undo ``augmented``."""
    return np.argsort(colours).astype(np.uint8)[turned(grid, _UNDOING[which])]


def augmented_name(name: str, which: int, colours: np.ndarray) -> str:
    """Name an augmented task as released: ``task|||tK|||permutation``; the task itself is bare."""
    digits = "".join(str(int(colour)) for colour in colours)
    plain = which == 0 and digits == "0123456789"
    return name if plain else NAME_SEPARATOR.join((name, f"t{which}", digits))


def parsed_name(name: str) -> tuple[str, int, np.ndarray]:
    """Split what ``augmented_name`` returned.

    Raises:
        InputError: no such name
    """
    task, *parts = name.split(NAME_SEPARATOR)
    if not parts:
        return task, 0, np.arange(COLOURS)
    turn, digits = parts if len(parts) == 2 else ("", "")
    if turn not in [f"t{k}" for k in range(DIHEDRAL)] or sorted(digits) != list("0123456789"):
        raise InputError(f"{name!r} is no augmented task; such names are task|||tK|||permutation")
    return task, int(turn[1:]), np.array([int(digit) for digit in digits])
