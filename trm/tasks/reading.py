"""Puzzles as people write them: in lists, in grids, with rulers, comments and other blanks."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

import numpy as np

from trm.support.errors import InputError
from trm.tasks.base import Task
from trm.tasks.json_puzzles import ANSWERS, CELL, NAMES, lines_of, with_json

_RULER = set("-+=|─┼│═╪╬━┿ ")
_BETWEEN_SYMBOLS = str.maketrans("", "", " \t,;")
_BARS = str.maketrans("", "", "|│")
_SEPARATORS = ",", ";", ":", "|", "\t", None  # None: any run of spaces
_BETWEEN_CELLS = ",", ";", "\t"  # with nothing between two of them where a cell is empty
_BETWEEN_PIECES = re.compile(r"[\s,;/|│]+"), re.compile(r"[,;/|│]+")  # a space may be a cell
_COMMENT = re.compile(r"\s*(//|;|%|\[[^\"]*$|#)")
_TRAILING = re.compile(r"\s+(#|//).*$")
_NUMBER = re.compile(r"[\s#:.\d]+$")  # of a heading such as Grid 01
_VERDICT = re.compile(r"\s*(valid|already solved|not solved|not checked|unsolvable)([;:,]|$)")
_DRAWN = re.compile(r"\s*puzzle\s{2,}(?=answer\s*$)")  # the heading of two drawings side by side
_BETWEEN = 4  # spaces between two such drawings
_SPACED = re.compile(r"\s*\S(\s+\S)*\s*")  # every symbol alone
_QUOTES = "\"'"
_NEAR = 2  # symbols by which a row may differ from the others and still be meant as one


@dataclass(frozen=True)
class Reading:
    """A puzzle that was found in a text, or what stands there instead.

    Attributes:
        name: where it stands, such as ``line 3`` or ``lines 4 to 12``
        text: as it stands there
        task: of its size; None if it could not be read
        tokens: (cells,) uint8, or None likewise
        solution: (cells,) uint8 that stood beside it, or None
        problem: why it could not be read, or None
    """

    name: str
    text: str
    task: Task | None = None
    tokens: np.ndarray | None = None
    solution: np.ndarray | None = None
    problem: str | None = None


class Reader:
    """Finds puzzles in lines of text.

    A puzzle is one line with a symbol for each cell, alone or as a field of a list (CSV,
    ``puzzle:count:solution``), or one line of cells or rows with something between them, or as many
    lines as it has rows, or text or a grid in JSON. Rulers, bars, headings, comments, quotes and
    what this library prints are no obstacle, nor are other blanks and names of cells that a task
    knows (``Task.aliases``, ``Task.spell``, ``Task.respelled``).

    Args:
        task: whose puzzles they are
        of_size: returns the task of so many cells, or None; for models of one size it has one
    """

    def __init__(self, task: Task, of_size: Callable[[int], Task | None]) -> None:
        self.task, self._of_size = task, of_size

    def read(self, lines: Iterable[str]) -> Iterator[Reading]:
        """Yield what is found, in order, as soon as it is complete."""
        grid = _Grid(self)
        opening = tuple({"[", "{"} - self.task.symbols.keys())
        for number, some, found in with_json(lines, opening):
            line = some[0]
            if found is not None:
                yield from grid.rest()
                yield from self._json(number, some, found)
            elif _DRAWN.match(line):
                grid.cut = line.index("answer") - _BETWEEN
            elif _VERDICT.match(line):  # ends the drawing
                grid.cut = None
            else:
                yield from self._line(grid, number, line[: grid.cut])
        yield from grid.rest()

    def read_one(self, text: str, name: str = "the puzzle") -> Reading:
        """Return the one puzzle of a text, which may have several lines.

        Raises:
            InputError: there is none, or more than one, or it cannot be read
        """
        lines = text.splitlines()
        found = list(self.read(lines))
        if len(found) == 1 and found[0].tokens is not None:
            return found[0]
        if len(found) > 1 and all(each.tokens is not None for each in found):
            raise InputError(f"{name} is {len(found)} puzzles; give one at a time")
        problem = found[0].problem if len(found) == 1 else None
        if problem is None:
            joined = "".join(lines)
            if self._has_notation:
                return Reading(name, text, self.task, self.task.encode(joined))
            problem = self.problem(joined)
        raise InputError(problem)

    def of_cells(self, cells: int) -> Task:
        """Return the task of so many cells; the reader's own if there is none."""
        return self._of_size(cells) or self.task

    def encode(self, text: str) -> np.ndarray | None:
        """Return the tokens of a text with a symbol for each cell, (cells,) uint8; or None."""
        task = self._of_size(len(text))
        if task is None:
            return None
        task.check_ambiguous(text)
        known, text = _known(task), task.respelled(text)
        if not known.keys() >= {*text}:
            return None
        tokens = np.array([known[symbol] for symbol in text], dtype=np.uint8)
        return tokens if task.can_be_puzzle(tokens) else None

    def is_row(self, text: str) -> bool:
        """Tell whether a text can be a row of a grid."""
        task = self._of_size(len(text) ** 2)
        if task is None:
            return False
        known = _known(task).keys()
        return known >= {*text} or known >= {*task.respelled(text)}

    def spelled(self, pieces: list[str], cells: int) -> str | None:
        """Join the cells of a puzzle of so many, written one by one; None if that cannot be."""
        task = self._of_size(cells)
        spelled = [] if task is None else [task.spell(piece) for piece in pieces]
        return "".join(each for each in spelled if each) if spelled and all(spelled) else None

    @property
    def _has_notation(self) -> bool:
        """Whether the task reads more than a symbol for each cell, as ARC does."""
        return type(self.task).encode is not Task.encode

    def _json(self, first: int, lines: list[str], found: Any) -> Iterator[Reading]:
        """Read what stands in a JSON text."""
        name, text = _lines(range(first, first + len(lines))), "\n".join(lines)
        if self._has_notation and isinstance(found, list):
            try:
                yield Reading(name, text, self.task, self.task.encode(text))
            except InputError as error:
                yield Reading(name, text, problem=str(error))
            return
        readings = [replace(each, name=name) for each in self.read(lines_of(found))]
        problem = 'no puzzle in this JSON; write {"puzzle": "..."}, or a list of puzzles'
        yield from readings or [Reading(name, text, problem=problem)]

    def _line(self, grid: "_Grid", number: int, line: str) -> Iterator[Reading]:
        try:
            if not line.strip() and grid.rows and grid.is_cut_by_an_empty_line():
                yield from grid.rest()
            row = None if _is_heading(line) else grid.row(line)
            if grid.rows and row is not None:
                yield from grid.add(number, row)
                return
            if grid.rows and set(line.strip()) <= _RULER:  # not a small puzzle without a clue
                return
            whole = self._whole(number, line) or self._in_pieces(number, line, row or "")
        except InputError as error:
            yield Reading(f"line {number}", line, problem=str(error))
            return
        if whole is not None:
            yield from grid.rest()
            yield whole
        elif row is not None:
            yield from grid.add(number, row)
        elif (uneven := grid.uneven_row(line)) is not None:
            yield from grid.add(number, uneven)
        elif not self._says_nothing(line):
            yield from grid.rest()
            yield Reading(f"line {number}", line, problem=self.problem(line))

    def _whole(self, number: int, line: str) -> Reading | None:
        """Read a line that holds a whole puzzle, alone or in a field."""
        for fields in _fields(line):
            for place, field in enumerate(fields):
                tokens = self.encode(field)
                if tokens is None:
                    continue
                solutions = (self._solution(tokens, other) for other in fields[place + 1 :])
                solution = next((each for each in solutions if each is not None), None)
                task = self._of_size(len(tokens))
                return Reading(f"line {number}", field, task, tokens, solution)
        return None

    def _in_pieces(self, number: int, line: str, row: str) -> Reading | None:
        """Read a line that holds all cells or all rows of a puzzle, with something between them.

        It may be the row of a larger grid instead, unless that has fewer cells.
        """
        ways = [self.spelled(pieces, len(pieces)) for pieces in _cells(line)]
        for between in _BETWEEN_PIECES:
            pieces = [piece for piece in between.split(line) if piece]
            ways.append(self.spelled(pieces, len(pieces)))
            text = "".join(pieces)
            alike = len({len(piece) for piece in pieces}) == 1
            # A number before a puzzle that lacks a cell is no cell of it.
            ways.append(text if alike and len(pieces[0]) ** 2 <= len(text) else None)
        for way in ways:
            if way is None or len(way) <= len(row):
                continue
            if (tokens := self.encode(way)) is not None:
                return Reading(f"line {number}", line, self._of_size(len(tokens)), tokens)
        return None

    def _solution(self, puzzle: np.ndarray, text: str) -> np.ndarray | None:
        """Return a text as the solution of a puzzle, if it may be."""
        task = self.of_cells(len(puzzle))
        if len(text) != len(puzzle) or not all(symbol in task.symbols for symbol in text):
            return None
        solution = task.encode(text)
        return solution if task.blank is None or not (solution == task.blank).any() else None

    def _says_nothing(self, line: str) -> bool:
        """Tell whether a line is empty, a ruler, a comment or a heading."""
        stripped = line.strip()
        is_comment = _COMMENT.match(line) and stripped[0] not in self.task.symbols
        return not stripped or set(stripped) <= _RULER or bool(is_comment) or _is_heading(line)

    def problem(self, line: str) -> str:
        """Say why a line cannot be read, by what comes nearest to a puzzle in it."""
        fields = [field for some in _fields(line) for field in some]
        pieces = [] if " " in self.task.symbols else _BETWEEN_PIECES[0].split(line.strip())
        apart = len(pieces) > 1 and all(len(piece) <= CELL for piece in pieces)
        text = "".join(piece[-1:] or "." for piece in pieces) if apart else line
        text = next((field for field in fields if len(field) == self.task.cells), text)
        task = self._of_size(len(text))
        spaces = "; a space is a cell, at the ends too: write . for it"
        spaces = spaces if " " in self.task.symbols else ""
        if task is None:
            return f"{self._wrong_size(len(text))}{spaces}"
        try:
            tokens = task.encode(_without_aliases(task, text))
        except InputError as error:
            aliases = "".join(task.aliases)
            return f"{error}{f', and in puzzles {aliases!r}' if aliases else ''}{spaces}"
        return task.explain(tokens) or f"{text!r} is no {task.name}"

    def _wrong_size(self, cells: int) -> str:
        """Say that there is no puzzle of so many cells, and which there are."""
        sides = [side for side in range(2, isqrt(cells) + 9) if self.task.of_size(side**2)]
        if not any(side**2 != self.task.cells and self._of_size(side**2) for side in sides[:2]):
            rows, columns = self.task.grid_shape
            needs = f"a {rows}x{columns} grid needs exactly {self.task.cells}"
            return f"{self.task.name} puzzle has {cells} symbols; {needs}"
        one, other = sorted(sides, key=lambda side: abs(side**2 - cells))[:2]
        return (
            f"{type(self.task).__name__.lower()} puzzle has {cells} symbols; no size has so many "
            f"cells: {one}x{one} needs exactly {one**2}, {other}x{other} {other**2}"
        )


class _Grid:
    """Rows that came so far, one to a line."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.rows: list[str] = []
        self.numbers: list[int] = []  # of their lines
        self.cut: int | None = None  # where a drawing beside it begins

    def add(self, number: int, row: str) -> Iterator[Reading]:
        """Take the row of a line; yield the puzzle that it completes."""
        self.rows.append(row)
        self.numbers.append(number)
        if len(self.rows) == self.side:
            yield from self._taken(self.reader.problem)

    @property
    def side(self) -> int | None:
        """The length of most rows, of equally many the larger; None before the first."""
        lengths = Counter(map(len, self.rows))
        return max(lengths, key=lambda length: (lengths[length], length), default=None)

    def is_cut_by_an_empty_line(self) -> bool:
        """Tell whether an empty line ends the grid: within one it stands between boxes alone."""
        boxes = self.reader.of_cells((self.side or 0) ** 2).boxes
        return boxes is not None and len(self.rows) % boxes[0] > 0

    def rest(self) -> Iterator[Reading]:
        """Yield the rows of a grid that is not complete, as what cannot be read."""
        have, side = len(self.rows), self.side
        rule = (
            f"{have} rows of {side} symbols; a {side}x{side} grid needs {side} rows: all are square"
        )
        if have:
            yield from self._taken(lambda text: self.reader.problem(text) if have == 1 else rule)

    def _taken(self, problem: Callable[[str], str]) -> Iterator[Reading]:
        """Yield the grid that the rows make, and begin anew."""
        rows, numbers, side = self.rows, self.numbers, self.side
        self.rows, self.numbers = [], []
        uneven = next((k for k, row in enumerate(rows) if len(row) != side), None)
        if uneven is not None:
            why = f"row {uneven + 1} has {len(rows[uneven])} symbols, others have {side}"
            yield Reading(_lines(numbers), "".join(rows), problem=why)
            return
        if all(map(self._is_whole, rows)):  # such as 4x4 puzzles with spaces
            for number, row in zip(numbers, rows, strict=True):
                yield self._reading([number], [row], problem)
        else:
            yield self._reading(numbers, rows, problem)

    def _is_whole(self, row: str) -> bool:
        try:
            return self.reader.encode(row) is not None
        except InputError:
            return False

    def _reading(
        self, numbers: list[int], rows: list[str], problem: Callable[[str], str]
    ) -> Reading:
        text = "".join(rows)
        try:
            tokens = self.reader.encode(text)
            why = None if tokens is not None else problem(text)
        except InputError as error:
            tokens, why = None, str(error)
        task = None if tokens is None else self.reader.of_cells(len(text))
        return Reading(_lines(numbers), text, task, tokens, problem=why)

    def row(self, line: str) -> str | None:
        """Return the symbols of a line that can be the next row, without what divides them."""
        bare = self.reader.task.undrawn(line).translate(_BARS)
        unspaced = bare.translate(_BETWEEN_SYMBOLS)
        side = self.side
        for cells in _cells(line):
            spelled = self.reader.spelled(cells, len(cells) ** 2)
            if spelled and len(spelled) == (side or len(cells)) and self.reader.is_row(spelled):
                return spelled
        if set(line.strip()) <= _RULER and not self._is_blank_row(line, unspaced, side):
            spaces_count = " " in self.reader.task.symbols and len(bare) == side
            return bare if spaces_count and not bare.strip() else None
        spaces_part = _SPACED.fullmatch(bare) and " " not in self.reader.task.symbols
        ways = [unspaced, bare] if spaces_part else [bare, unspaced]
        # Editors cut blanks off the ends of lines; where blanks are written, a cell is missing.
        if side is not None and not self._blanks(bare, *self.rows):
            ways.append(bare.ljust(side))
        for row in ways:
            if (side is None or len(row) == side) and row and self.reader.is_row(row):
                return row
        return None

    def uneven_row(self, line: str) -> str | None:
        """Return the symbols of a line that is a row, but for a cell or two."""
        side = self.side
        if side is None or set(line.strip()) <= _RULER or all(map(self._is_whole, self.rows)):
            return None
        bare = self.reader.task.undrawn(line).translate(_BARS)
        row = bare if " " in self.reader.task.symbols else bare.translate(_BETWEEN_SYMBOLS)
        if not 0 < abs(len(row) - side) <= _NEAR < len(row) or row.isalpha():  # a word, perhaps
            return None
        task = self.reader.of_cells(max(len(row), side) ** 2)
        return row if {*row} <= _known(task).keys() else None

    def _blanks(self, *texts: str) -> set[str]:
        """Return what stands for open cells in texts, but for spaces."""
        known = _known(self.reader.task)
        used = {*"".join(texts)} - {" "}
        return {symbol for symbol in used & known.keys() if known[symbol] == known.get(" ")}

    def _is_blank_row(self, line: str, unspaced: str, side: int | None) -> bool:
        """Tell whether dashes are blanks: as many as cells, and nothing else stood for a blank."""
        dashes = bool(unspaced) and set(unspaced) == {"-"} and "|" not in line
        return dashes and len(unspaced) == side and self._blanks(*self.rows) <= {"-"}


def _lines(numbers: Sequence[int]) -> str:
    """Name some lines."""
    first, last = numbers[0], numbers[-1]
    return f"line {first}" if first == last else f"lines {first} to {last}"


def _known(task: Task) -> dict[str, int]:
    """Map all symbols that people write to tokens."""
    return {**task.aliases, **task.symbols}


def _fields(line: str) -> Iterator[list[str]]:
    """Yield ways to take a line apart, the whole line first."""
    stripped = line.strip()
    for whole in (line, stripped, stripped.strip(_QUOTES)):
        yield [whole]
    for whole in (line, stripped):
        yield [_TRAILING.sub("", whole)]
    for separator in _SEPARATORS:
        fields = stripped.split(separator)
        if len(fields) > 1:
            yield [field.strip(" ").strip(_QUOTES) for field in fields]


def _is_heading(line: str) -> bool:
    """Tell whether a line names what follows: a list's columns, or one puzzle and its number."""
    words = {word.strip(_QUOTES + " ").lower() for word in re.split(r"[,;\t]", line.strip())}
    if len(words) == 1:
        words = {_NUMBER.sub("", word) for word in words}
    return bool(words & (NAMES | ANSWERS))


def _cells(line: str) -> Iterator[list[str]]:
    """Yield ways to take a line apart into cells of which some are empty, or numbers."""
    for separator in _BETWEEN_CELLS:
        cells = line.split(separator)
        if len(cells) > 1:  # a space alone may be a cell
            yield [cell if cell == " " else cell.strip(" ").strip(_QUOTES) for cell in cells]
    pieces = [piece for piece in _BETWEEN_PIECES[0].split(line) if piece]
    if any(len(piece) > 1 for piece in pieces):
        yield pieces


def _without_aliases(task: Task, text: str) -> str:
    """Write what the aliases of a task mean in its own symbols."""
    aliases = {ord(a): task.decode(np.array([token])) for a, token in task.aliases.items()}
    return task.respelled(text).translate(aliases)
