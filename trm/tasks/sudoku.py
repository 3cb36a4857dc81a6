"""Sudoku of any box shape: 4x4, 6x6, 9x9, 16x16 ..."""

import re
import string
from functools import cached_property
from math import isqrt

import numpy as np
import torch
from rich.text import Text
from torch import Tensor

from trm.support.counter_rng import draws, mix
from trm.support.errors import InputError
from trm.tasks.base import MakePuzzles, Symmetry, Task
from trm.tasks.sudoku_generator import BLANK, SudokuGenerator

_DIGITS = string.digits[1:] + string.ascii_uppercase  # 1 ... 9 A ... Z
_OTHER_BLANKS = "*-xX?·□ "
_FROM_ZERO = 16  # side from which on grids are also written from 0 on
_HASHED_AT_ONCE = 8192  # puzzles; all of a large file would fill the memory
_COLOUR_ROUNDS = 4  # refinement rounds of the class key; more did not separate more puzzles


class Sudoku(Task):
    """Fill the grid so that every row, column and box holds each digit once.

    Text is row-major: ``.``, ``0`` or ``_`` for an empty cell, then ``1`` ... ``9``, ``A`` ... for
    the digits. The vocabulary is the released one: PAD 0, blank 1, digit d is d + 1.

    Args:
        box_rows: rows of a box
        box_cols: columns of a box; the grid has ``box_rows * box_cols`` rows and columns

    Raises:
        InputError: a box smaller than 1x2 or a grid larger than 35x35
    """

    blank = BLANK

    def __init__(self, box_rows: int = 3, box_cols: int = 3) -> None:
        size = box_rows * box_cols
        if min(box_rows, box_cols) < 1 or not 2 <= size <= len(_DIGITS):
            raise InputError(
                f"task.box_rows={box_rows}, task.box_cols={box_cols} give a grid of side {size}; "
                f"sides from 2 to {len(_DIGITS)} have a symbol for every digit"
            )
        self.box_rows, self.box_cols, self.size = box_rows, box_cols, size
        self.name = f"sudoku_{size}x{size}"
        self.grid_shape = (size, size)
        self.boxes = (box_rows, box_cols)
        self.vocab_size = size + 2
        digits = {symbol: d + 2 for d, symbol in enumerate(_DIGITS[:size])}
        lower = {symbol.lower(): token for symbol, token in digits.items()}
        self.symbols = dict.fromkeys(".0_", BLANK) | digits | lower

    @cached_property
    def box_of_cell(self) -> np.ndarray:
        """Box of every cell, (cells,) int64."""
        row, col = np.divmod(np.arange(self.cells), self.size)
        return (row // self.box_rows) * self.box_rows + col // self.box_cols

    @property
    def groups(self) -> dict[str, list[list[int]]]:
        """Return the cells of every row, column and box."""
        boxes = np.argsort(self.box_of_cell, kind="stable").reshape(self.size, self.size)
        return super().groups | {"boxes": boxes.tolist()}

    @cached_property
    def units(self) -> np.ndarray:
        """Cells of every row, column and box, in this order: (3 * size, size) int64."""
        return np.concatenate([*self.groups.values()])

    @cached_property
    def units_of_cell(self) -> np.ndarray:
        """Row, column and box of every cell, as numbers of ``units``: (cells, 3) int64."""
        row, column = np.divmod(np.arange(self.cells), self.size)
        return np.stack([row, self.size + column, 2 * self.size + self.box_of_cell], 1)

    def symmetries(self, keys: Tensor) -> Symmetry:
        """Permute digits, rows in bands, bands, columns in stacks, stacks; transpose squares.

        One sort does it all: a row sorts by its band's draw first and its own draw second.
        """
        s, device = self.size, keys.device
        is_identity = (keys == 0)[:, None]
        random = draws(keys, 5 * s + 1)
        row = torch.arange(s, device=device)
        band, stack = row // self.box_rows, row // self.box_cols
        # The low bits of a group's draw are its number: two groups never tie, so none is torn.
        bands = (random[:, :s] >> 40 << 6 | row)[:, band]
        stacks = (random[:, s : 2 * s] >> 40 << 6 | row)[:, stack]
        within = random[:, 2 * s : 5 * s].view(-1, 3, s) >> 31
        group = torch.stack([bands, stacks, torch.zeros_like(bands)], dim=1)
        order = torch.where(is_identity[:, None], row, (group << 32 | within).argsort(dim=2))
        rows, cols, digits = order.unbind(1)
        cells = rows[:, :, None] * s + cols[:, None, :]
        if self.box_rows == self.box_cols:
            transpose = (random[:, -1:] >> 62 == 1) & ~is_identity
            cells = torch.where(transpose[:, :, None], cells.transpose(1, 2), cells)
        fixed = torch.arange(BLANK + 1, device=device).expand(len(keys), -1)  # PAD and blank
        return Symmetry(cells.flatten(1), torch.cat([fixed, digits + 2], dim=1))

    def symmetry_class(self, x_input: np.ndarray) -> np.ndarray:
        """Hash what no symmetry changes, by colour refinement of the puzzle's own graph.

        Cells, digits, rows, columns and boxes start alike and repeatedly take on a hash of the
        multiset of their neighbours. Different keys prove that two puzzles are not equivalent;
        inequivalent puzzles may share a key (rare), which only makes a class coarser.
        """
        parts = [x_input[i : i + _HASHED_AT_ONCE] for i in range(0, len(x_input), _HASHED_AT_ONCE)]
        hashed = [self._symmetry_class(torch.tensor(part).long()) for part in parts]
        return torch.cat(hashed).numpy().view(np.uint64)

    def _symmetry_class(self, grids: Tensor) -> Tensor:
        clue = (grids > BLANK).long()
        unit = torch.from_numpy(self.units).view(3, self.size, self.size)
        cell = mix(clue)
        for _ in range(_COLOUR_ROUNDS):
            by_digit = torch.zeros(len(grids), self.vocab_size, dtype=torch.int64)
            by_digit.scatter_add_(1, grids, mix(cell))
            digit = mix(by_digit).gather(1, grids) * clue
            # Sums of mixed neighbours: the order within a unit does not count.
            rows, cols, boxes = (mix(mix(cell)[:, cells].sum(-1)) for cells in unit)
            row, col = rows.repeat_interleave(self.size, 1), cols.repeat(1, self.size)
            box = boxes[:, torch.from_numpy(self.box_of_cell)]
            lines = mix(row) + mix(col) if self.box_rows == self.box_cols else mix(row) - col
            cell = mix(mix(mix(mix(cell) + digit) + lines) + box)
        return mix(mix(cell).sum(1))

    def is_valid(self, x_input: Tensor, y: Tensor) -> Tensor:
        """Mark answers with every digit once in every unit that keep all clues."""
        # s powers of two add up to s ones only if all differ.
        bits = torch.ones_like(y, dtype=torch.int64) << y.long()
        units = torch.from_numpy(self.units).to(y.device)
        full = 2**self.vocab_size - 4
        keeps_clues = ((x_input == BLANK) | (x_input == y)).all(dim=1)
        return (bits[:, units].sum(-1) == full).all(dim=1) & keeps_clues

    @property
    def aliases(self) -> dict[str, int]:
        """Take what no digit of this size can be for a blank."""
        return {symbol: BLANK for symbol in _OTHER_BLANKS if symbol not in self.symbols}

    def spell(self, cell: str) -> str | None:
        """Take nothing for a blank, and numbers such as 16 for the digits beyond 9."""
        if re.fullmatch(r"[1-9][0-9]", cell) and int(cell) <= self.size:
            return _DIGITS[int(cell) - 1]
        return super().spell(cell or ".")

    def respelled(self, text: str) -> str:
        """Take letters from A on for the digits from 1 on, where they can be nothing else."""
        letters, used = self._letters(text)
        if not used - self.symbols.keys() - {"X"}:  # which may be a blank
            return text
        return text.upper().translate(dict(zip(map(ord, letters), _DIGITS, strict=False)))

    def _letters(self, text: str) -> tuple[str, set[str]]:
        """Return the letters from A on that may be digits, and those of a text with no others."""
        letters = string.ascii_uppercase[: self.size]
        blanks = {*".0_", *_OTHER_BLANKS} - {*letters}
        used = {*text.upper()} - blanks
        fits = 9 < self.size <= len(string.ascii_uppercase) and used <= {*letters}
        return letters, used if fits else set()

    def from_numbers(self, grid: np.ndarray) -> np.ndarray:
        """Take digits with 0 for a blank, or tokens; see ``Task``.

        Where nothing is blank as digits, and something is as tokens, it is tokens unless the digits
        make a whole Sudoku.
        """
        if (grid == 0).any() and ((grid >= 0) & (grid <= self.size)).all():
            return grid + BLANK
        tokens = super().from_numbers(grid)
        as_digits = torch.from_numpy(grid + BLANK)[None].long()
        if grid.max() <= self.size and self.is_valid(as_digits, as_digits).item():
            raise InputError(
                f"this grid may hold the digits of a whole {self.name} or tokens, of which 1 is a "
                f"blank; give text, or digits with 0 for a blank"
            )
        return tokens

    def check_ambiguous(self, text: str) -> None:
        """Refuse grids that may be written from 0 on, as 16x16 ones are from 0 to F, or from A."""
        last = _DIGITS[self.size - 1]
        if used := self._letters(text)[1]:
            if used - self.symbols.keys() - {"X"}:
                return
            raise InputError(
                f"{min(used)} may be the digit {ord(min(used)) - ord('A') + 1} or "
                f"{self.symbols[min(used)] - BLANK} here, since only letters up to {max(used)} "
                f"stand in this {self.size}x{self.size} grid; write the digits as 1 to {last}"
            )
        if self.size < _FROM_ZERO or "0" not in text or last in text.upper():
            return
        raise InputError(
            f"0 may be a blank or a digit here, since no {last} stands in this {self.size}x"
            f"{self.size} grid; write the digits as 1 to {last} and blanks as ."
        )

    def contradicts(self, x_input: Tensor) -> Tensor:
        """Mark grids with a digit twice in a unit, or with a cell or digit that nothing is left to.

        What is left is what no filled cell forbids at once; nothing is concluded further.
        """
        digits = torch.arange(self.size, device=x_input.device) + BLANK + 1
        here = x_input[:, :, None] == digits  # (batch, cells, digits)
        units = torch.from_numpy(self.units).to(x_input.device)
        held = here[:, units]  # (batch, units, cells of it, digits)
        count = held.sum(2)
        of_cell = torch.from_numpy(self.units_of_cell).to(x_input.device)
        seen = (count > 0)[:, of_cell].any(2)
        left = here | (~seen & (x_input == BLANK)[:, :, None])
        homeless = (left[:, units].any(2) == 0).any(-1).any(-1)
        return (count > 1).any(-1).any(-1) | (~left.any(-1)).any(-1) | homeless

    def of_size(self, cells: int) -> "Sudoku | None":
        """Return the Sudoku with so many cells, its boxes as square as can be, wider than tall."""
        if cells == self.cells:
            return self
        side = isqrt(cells)
        rows = max((r for r in range(2, isqrt(side) + 1) if side % r == 0), default=0)
        fits = side * side == cells and rows > 0 and side <= len(_DIGITS)
        return Sudoku(rows, side // rows) if fits else None

    def explain(self, x_input: np.ndarray, y: np.ndarray | None = None) -> str | None:
        """Say which rule is broken first; an answer must also be complete and keep the clues."""
        grid = x_input if y is None else y
        for cell in np.flatnonzero((x_input != BLANK) & (x_input != grid)).tolist():
            clue, here = self.decode(x_input[[cell]]), self.decode(grid[[cell]])
            return f"{self.cell_name(cell)} is {clue} in the puzzle but {here} in the answer"
        for number, cells in enumerate(self.units):
            tokens, counts = np.unique(grid[cells][grid[cells] > BLANK], return_counts=True)
            if (counts > 1).any():
                digit = self.decode(tokens[counts > 1][:1])
                unit = ("row", "column", "box")[number // self.size]
                of = "" if y is None else " of the answer"
                return f"{unit} {number % self.size + 1}{of} holds the digit {digit} twice"
        for cell in np.flatnonzero(grid <= BLANK).tolist() if y is not None else ():
            return f"{self.cell_name(cell)} is empty in the answer"
        return None

    def has_answer(self, x_input: np.ndarray) -> bool | None:
        """Search all grids; None if that takes too many branches, some 0.1 s at 9x9."""
        return SudokuGenerator(self.box_rows, self.box_cols, 0).has_solution(x_input)

    def given(self, x_input: np.ndarray) -> np.ndarray:
        """Mark the clues."""
        return x_input != BLANK

    def face(self, token: int) -> tuple[str, str | None]:
        """Return the digit; empty cells stay empty."""
        return ("" if token <= BLANK else super().face(token)[0]), None

    def difficulty(self, x_input: np.ndarray) -> tuple[str, np.ndarray]:
        """Count the clues."""
        return "clues", (x_input > BLANK).sum(1)

    def generator(self, seed: int, clues: int | None = None) -> MakePuzzles:
        """Return a function that makes puzzles with one solution each.

        Args:
            seed: the puzzles are a function of it and the settings
            clues: per puzzle; None for as few as each grid allows
        """
        generator = SudokuGenerator(self.box_rows, self.box_cols, seed)

        def make(number: int) -> tuple[np.ndarray, np.ndarray]:
            x_input, y_true = zip(*(generator.puzzle(clues) for _ in range(number)), strict=True)
            return np.stack(x_input), np.stack(y_true)

        return make

    def render(
        self, x_input: np.ndarray, y: np.ndarray | None = None, y_true: np.ndarray | None = None
    ) -> Text:
        """Draw the grid: clues bold, wrong cells red and followed by ``!``."""
        answer = x_input if y is None else y
        text = Text()
        for row in range(self.size):
            if row and row % self.box_rows == 0:
                line = "─" * (2 * self.box_cols)
                text.append("┼".join([line] * self.box_rows) + "\n", "dim")
            for col in range(self.size):
                if col and col % self.box_cols == 0:
                    text.append("│", "dim")
                cell = row * self.size + col
                wrong = y_true is not None and answer[cell] != y_true[cell]
                style = "bold red" if wrong else "bold" if x_input[cell] != BLANK else "cyan"
                text.append(self.decode(answer[cell : cell + 1]), style)
                text.append("!" if wrong else " ", style)
            text.append("\n")
        text.rstrip()
        return text
