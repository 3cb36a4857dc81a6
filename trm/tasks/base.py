"""The protocol a task follows, and the symmetries it offers."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.text import Text
from torch import Tensor

from trm.support import counter_rng
from trm.support.errors import InputError

if TYPE_CHECKING:
    from trm.tasks.html import Grid

# Makes so many puzzles: questions and answers, (puzzles, cells) uint8 each.
MakePuzzles = Callable[[int], tuple[np.ndarray, np.ndarray]]

PAD = 0  # token of cells outside the grid; as a label: not scored


@dataclass(frozen=True)
class Symmetry:
    """A batch of symmetries, each a permutation of cells and a permutation of tokens.

    Attributes:
        cells: (batch, cells) int64; cell ``i`` of the image shows cell ``cells[i]`` of the original
        tokens: (batch, vocab) int64; token ``t`` of the original becomes ``tokens[t]``
    """

    cells: Tensor
    tokens: Tensor

    def __call__(self, grids: Tensor) -> Tensor:
        """Apply to (batch, cells) tokens of any integer dtype; the image is int64."""
        return self.tokens.gather(1, grids.long().gather(1, self.cells))

    def to(self, device: torch.device) -> "Symmetry":
        """Move to a device."""
        return Symmetry(self.cells.to(device), self.tokens.to(device))

    def inverse(self) -> "Symmetry":
        """Return the symmetries that undo these."""
        return Symmetry(self.cells.argsort(dim=1), self.tokens.argsort(dim=1))


class Task(ABC):
    """What a puzzle is. A new puzzle is one subclass and one YAML file.

    Grids are rows of tokens, row-major, ``uint8`` in memory. A subclass sets the first four
    attributes and says which answers are valid; the other methods have defaults that it may
    replace by better ones.

    Attributes:
        name: short name, used for folders and tables
        grid_shape: (rows, columns)
        vocab_size: number of tokens; token 0 is PAD
        symbols: text symbol to token; several symbols may share a token, the first one is printed
        measures: what ``judge`` finds out about an answer, the most important first
        boxes: rows and columns of the boxes that thick lines divide the grid into, if it has any
        blank: token of an open cell that any later token may fill, if puzzles have such cells
    """

    name: str
    grid_shape: tuple[int, int]
    vocab_size: int
    symbols: Mapping[str, int]
    measures: tuple[str, ...] = ("exact", "valid")
    boxes: tuple[int, int] | None = None
    blank: int | None = None

    def settings(self) -> dict[str, Any]:
        """Return the arguments this task was made with, and its class as ``_target_``.

        Every argument of a task is kept as an attribute of the same name.
        """
        target = f"{type(self).__module__}.{type(self).__qualname__}"
        arguments = inspect.signature(type(self)).parameters
        return {"_target_": target, **{name: getattr(self, name) for name in arguments}}

    def __repr__(self) -> str:
        settings = self.settings()
        del settings["_target_"]
        given = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        return f"{type(self).__name__}({given})"

    @property
    def cells(self) -> int:
        """Number of cells of a grid, the length of its sequence."""
        return prod(self.grid_shape)

    @property
    def groups(self) -> dict[str, list[list[int]]]:
        """Name the groups of cells that belong together, each a list of lists of cells.

        Rows and columns unless a task has more, as Sudoku has boxes.
        """
        rows, columns = self.grid_shape
        grid = np.arange(rows * columns).reshape(rows, columns)
        return {"rows": grid.tolist(), "columns": grid.T.tolist()}

    @property
    def structure(self) -> dict[str, Any]:
        """Return what a model may know of the grid, by the names of its arguments."""
        return {
            "vocab_size": self.vocab_size,
            "seq_len": self.cells,
            "grid_shape": self.grid_shape,
            "columns": self.grid_shape[1],
            "boxes": self.boxes,
            "blank": self.blank,
            "groups": self.groups,
        }

    @property
    def has_rules(self) -> bool:
        """Whether an answer can be checked without its label."""
        return "valid" in self.measures

    @property
    def is_searchable(self) -> bool:
        """Whether there are open cells to write into, and rules that tell when to stop."""
        return self.blank is not None and self.has_rules

    def encode(self, text: str) -> np.ndarray:
        """Turn text into (cells,) uint8 tokens.

        Raises:
            InputError: wrong length or foreign symbol, naming the cell
        """
        if len(text) != self.cells:
            raise InputError(
                f"{self.name} puzzle has {len(text)} symbols; a "
                f"{self.grid_shape[0]}x{self.grid_shape[1]} grid needs exactly {self.cells}"
            )
        for index, symbol in enumerate(text):
            if symbol not in self.symbols:
                raise InputError(
                    f"{self.cell_name(index)} holds {symbol!r}; {self.name} knows "
                    f"{''.join(self.symbols)!r}"
                )
        return np.array([self.symbols[symbol] for symbol in text], dtype=np.uint8)

    def known(self, text: str) -> np.ndarray:
        """Encode what a model said, whose worse answers have symbols that no puzzle has: as PAD."""
        return np.array([self.symbols.get(symbol, PAD) for symbol in text], dtype=np.uint8)

    def decode(self, tokens: np.ndarray | Tensor) -> str:
        """Turn (cells,) tokens into text; ``?`` stands for a token that has no symbol."""
        printed: dict[int, str] = {}
        for symbol, token in self.symbols.items():
            printed.setdefault(token, symbol)
        return "".join(printed.get(int(token), "?") for token in tokens)

    @property
    def aliases(self) -> Mapping[str, int]:
        """Map further symbols that people write, and files do not, to tokens."""
        return {}

    def spell(self, cell: str) -> str | None:
        """Return the symbol of a cell that stands alone, maybe as a number; None if it has none."""
        return cell if len(cell) == 1 else None

    def respelled(self, text: str) -> str:
        """Return a text with a symbol for each cell in the task's own, if it has others."""
        return text

    def check_ambiguous(self, text: str) -> None:
        """Refuse a text of the right length that may mean two puzzles.

        Raises:
            InputError: saying which, and how to write it
        """
        return None  # most notations mean one

    def from_numbers(self, grid: np.ndarray) -> np.ndarray:
        """Return the tokens of a puzzle given as whole numbers, (cells,) int64.

        Raises:
            InputError: numbers that are no tokens, or that may mean two puzzles
        """
        known = sorted({*self.symbols.values()})
        foreign = np.flatnonzero(~np.isin(grid, known))
        if foreign.size:
            raise InputError(
                f"{self.cell_name(int(foreign[0]))} holds token {grid[foreign[0]]}; {self.name} "
                f"knows {known[0]} ... {known[-1]}, see its encode"
            )
        return grid

    def can_be_puzzle(self, tokens: np.ndarray) -> bool:
        """Tell whether (cells,) tokens, read from a line, look like a puzzle at all."""
        return True

    def undrawn(self, line: str) -> str:
        """Turn a line of a drawing, as ``render`` makes it, into the symbols of a row."""
        return line

    def cell_name(self, index: int) -> str:
        """Name a cell for people, counting from 1."""
        row, column = divmod(index, self.grid_shape[1])
        return f"row {row + 1} column {column + 1}"

    def is_solution(self, x_input: Tensor, y: Tensor, y_true: Tensor) -> Tensor:
        """Mark, as (batch,) bool, the answers that equal the label in every labelled cell."""
        return ((y == y_true) | (y_true == PAD)).all(dim=1)

    def judge(self, x_input: Tensor, y: Tensor, y_true: Tensor) -> dict[str, Tensor]:
        """Say what is true of each answer: (batch,) bool for each of ``measures``."""
        exact, valid = self.is_solution(x_input, y, y_true), self.is_valid(x_input, y)
        return {"exact": exact, "valid": valid}

    def generator(self, seed: int) -> MakePuzzles:
        """Return a function that makes new puzzles; more arguments are settings of ``data``.

        Raises:
            InputError: the task has no generator, or a setting that cannot be
        """
        raise InputError(f"task {self.name!r} has no generator; read its puzzles from files")

    def symmetries(self, keys: Tensor) -> Symmetry:
        """Map (batch,) int64 keys to symmetries; key 0 is the identity, others are random.

        The identity alone unless a task knows better.
        """
        size = len(keys), -1
        cells = torch.arange(self.cells, device=keys.device).expand(size)
        return Symmetry(cells, torch.arange(self.vocab_size, device=keys.device).expand(size))

    def symmetry_class(self, x_input: np.ndarray) -> np.ndarray:
        """Map (puzzles, cells) uint8 to (puzzles,) uint64, equal for equivalent puzzles.

        A hash of the grid as it is unless a task has symmetries.
        """
        place = counter_rng.mix(torch.arange(self.cells))
        grids = torch.from_numpy(np.ascontiguousarray(x_input)).long()
        return counter_rng.mix(place ^ counter_rng.mix(grids)).sum(1).numpy().view(np.uint64)

    @abstractmethod
    def is_valid(self, x_input: Tensor, y: Tensor) -> Tensor:
        """Mark, as (batch,) bool, the answers that obey the rules, without the label."""

    def contradicts(self, x_input: Tensor) -> Tensor:
        """Mark, as (batch,) bool, puzzles that clearly have no answer; none unless a task says.

        What it marks must have none; what it does not mark may have none, too.
        """
        return torch.zeros(len(x_input), dtype=torch.bool, device=x_input.device)

    def of_size(self, cells: int) -> "Task | None":
        """Return the task of such puzzles with so many cells; None if there is none."""
        return None

    def cost(self, y: Tensor) -> Tensor:
        """Return what valid answers cost, (batch,) float32 of (batch, cells); less is better.

        All the same unless a task says, as mazes do by the length of a path.
        """
        return torch.zeros(len(y), device=y.device)

    def explain(self, x_input: np.ndarray, y: np.ndarray | None = None) -> str | None:
        """Say which rule is broken by (cells,) ``x_input``, or by ``y`` as its answer.

        None if no rule is broken. Without ``y`` the puzzle alone is checked: do its clues agree?
        """
        if y is None:
            return None
        grids = (torch.from_numpy(np.ascontiguousarray(a)).long()[None] for a in (x_input, y))
        return None if self.is_valid(*grids).item() else "the answer breaks the rules"

    def has_answer(self, x_input: np.ndarray) -> bool | None:
        """Tell by other means than a model whether (cells,) ``x_input`` has an answer.

        Asked of puzzles at which a search has failed once, and of those that were not solved, to
        tell them from puzzles without any answer. None where nobody knows.
        """
        return None

    def given(self, x_input: np.ndarray) -> np.ndarray:
        """Mark, as (cells,) bool, the cells that an answer must keep. None unless a task says."""
        return np.zeros(self.cells, dtype=bool)

    def face(self, token: int) -> tuple[str, str | None]:
        """Return a token's symbol in a picture and the colour of its cell, or None for plain."""
        return ("" if token == PAD else self.decode(np.array([token])).strip()), None

    def extent(self, tokens: np.ndarray) -> tuple[int, int]:
        """Return how many (rows, columns) from the top left corner a picture has to show."""
        return self.grid_shape

    def show(
        self, x_input: np.ndarray, y: np.ndarray | None = None, y_true: np.ndarray | None = None
    ) -> "Grid":
        """Return what ``render`` draws as something that a notebook draws, as a table."""
        from trm.tasks.html import Grid  # which knows what a task is

        return Grid(self, x_input, y, y_true)

    def difficulty(self, x_input: np.ndarray) -> tuple[str, np.ndarray] | None:
        """Name what makes puzzles hard or easy, and count it: (puzzles,) int64; None if unknown."""
        return None

    def render(
        self, x_input: np.ndarray, y: np.ndarray | None = None, y_true: np.ndarray | None = None
    ) -> Text:
        """Draw a puzzle for the terminal; with ``y`` its answer, with ``y_true`` errors marked."""
        answer, text = x_input if y is None else y, Text()
        for cell in range(self.cells):
            if cell and cell % self.grid_shape[1] == 0:
                text.append("\n")
            wrong = y_true is not None and answer[cell] != y_true[cell]
            style = "bold red" if wrong else "" if answer[cell] == x_input[cell] else "cyan"
            text.append(self.decode(answer[cell : cell + 1]) + ("!" if wrong else " "), style)
        text.rstrip()
        return text
