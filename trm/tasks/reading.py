"""Puzzles as people write them: in lists, in grids, with rulers, comments and other blanks."""

import codecs
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader, TextIOWrapper
from queue import Empty, Queue
from threading import Thread
from typing import Any

import numpy as np

from trm.support.errors import InputError
from trm.tasks.base import Task

_RULER = set("-+=|─┼│═╪╬━┿ ")
_BETWEEN_SYMBOLS = str.maketrans("", "", " \t,;")
_BARS = str.maketrans("", "", "|│")
_SEPARATORS = ",", ";", ":", "\t", None  # None: any run of spaces
_NAMES = {"puzzle", "puzzles", "question", "quiz", "quizzes", "input", "sudoku", "grid", "maze"}
_ANSWERS = {"solution", "solutions", "answer", "answers", "output"}
_COMMENT = re.compile(r"\s*(//|;|%|\[|#)")
_TRAILING = re.compile(r"\s+(#|//).*$")
_DRAWN = re.compile(r"\s*puzzle\s{2,}(?=answer\s*$)")  # the heading of two drawings side by side
_BETWEEN = 4  # spaces between two such drawings
_SPACED = re.compile(r"\s*\S(\s+\S)*\s*")  # every symbol alone
_QUOTES = "\"'"
_MORE_WITHIN_S = 0.02  # whoever writes many puzzles has written the next ones by then


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

    A puzzle is one line with a symbol for each cell, alone or as a field of a list (CSV, JSON,
    ``puzzle:count:solution``), or as many lines as it has rows. Rulers, bars, headings, comments,
    quotes and the drawings of this library are no obstacle, nor are other blanks and names of cells
    that a task knows (``Task.aliases``).

    Args:
        task: whose puzzles they are
        of_size: returns the task of so many cells, or None; for models of one size it has one
    """

    def __init__(self, task: Task, of_size: Callable[[int], Task | None]) -> None:
        self.task, self._of_size = task, of_size

    def read(self, lines: Iterable[str]) -> Iterator[Reading]:
        """Yield what is found, in order, as soon as it is complete."""
        grid = _Grid(self)
        for number, line in enumerate(lines, start=1):
            line = line.rstrip("\r\n").removeprefix("\ufeff")
            if _DRAWN.match(line):
                grid.cut = line.index("answer") - _BETWEEN
                continue
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
            task = self.of_cells(len(joined))
            return Reading(name, text, task, task.encode(joined))  # which says what is wrong
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
        known = _known(task)
        if not known.keys() >= {*text}:
            return None
        tokens = np.array([known[symbol] for symbol in text], dtype=np.uint8)
        return tokens if task.can_be_puzzle(tokens) else None

    def is_row(self, text: str) -> bool:
        """Tell whether a text can be a row of a grid."""
        task = self._of_size(len(text) ** 2)
        return task is not None and _known(task).keys() >= {*text}

    def _line(self, grid: "_Grid", number: int, line: str) -> Iterator[Reading]:
        try:
            row = grid.row(line)
            if grid.rows and row is not None:
                yield from grid.add(number, row)
                return
            whole = self._whole(number, line)
        except InputError as error:
            yield Reading(f"line {number}", line, problem=str(error))
            return
        if whole is not None:
            yield from grid.rest()
            yield whole
        elif row is not None:
            yield from grid.add(number, row)
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
        if not stripped or set(stripped) <= _RULER or is_comment:
            return True
        words = {word.strip(_QUOTES + " ").lower() for word in re.split(r"[,;\t]", stripped)}
        return bool(words & (_NAMES | _ANSWERS))

    def problem(self, line: str) -> str:
        """Say why a line cannot be read, by what comes nearest to a puzzle in it."""
        fields = [field for some in _fields(line) for field in some]
        text = next((field for field in fields if len(field) == self.task.cells), line)
        try:
            tokens = self.of_cells(len(text)).encode(text)
        except InputError as error:
            spaces = "; a space is a cell, at the ends too: write . for it"
            return f"{error}{spaces if ' ' in self.task.symbols else ''}"
        return self.task.explain(tokens) or f"{text!r} is no {self.task.name}"


class _Grid:
    """Rows that came so far, one to a line."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.rows: list[str] = []
        self.first = self.last = 0
        self.cut: int | None = None  # where a drawing beside it begins

    def add(self, number: int, row: str) -> Iterator[Reading]:
        """Take the row of a line; yield the puzzle that it completes."""
        self.first = self.first if self.rows else number
        self.last = number
        self.rows.append(row)
        if len(self.rows) < len(row):
            return
        text, name = "".join(self.rows), f"lines {self.first} to {self.last}"
        self.rows = []
        try:
            tokens = self.reader.encode(text)
            problem = None if tokens is not None else self.reader.problem(text)
        except InputError as error:
            tokens, problem = None, str(error)
        task = None if tokens is None else self.reader.of_cells(len(text))
        yield Reading(name, text, task, tokens, problem=problem)

    def rest(self) -> Iterator[Reading]:
        """Yield the rows of a grid that is not complete, as what cannot be read."""
        if self.rows:
            have, side, text = len(self.rows), len(self.rows[0]), "\n".join(self.rows)
            if have == 1:
                yield Reading(f"line {self.first}", text, problem=self.reader.problem(text))
            else:
                problem = f"{have} rows of {side} symbols; a {side}x{side} grid needs {side}"
                yield Reading(f"lines {self.first} to {self.last}", text, problem=problem)
            self.rows = []

    def row(self, line: str) -> str | None:
        """Return the symbols of a line that can be the next row, without what divides them."""
        bare = self.reader.task.undrawn(line).translate(_BARS)
        unspaced = bare.translate(_BETWEEN_SYMBOLS)
        side = len(self.rows[0]) if self.rows else None
        if set(line.strip()) <= _RULER and not self._is_blank_row(line, unspaced, side):
            spaces_count = " " in self.reader.task.symbols and len(bare) == side
            return bare if spaces_count and not bare.strip() else None
        spaces_part = _SPACED.fullmatch(bare) and " " not in self.reader.task.symbols
        order = (unspaced, bare) if spaces_part else (bare, unspaced)
        for row in (*order, bare.ljust(side or 0)):
            if (side is None or len(row) == side) and row and self.reader.is_row(row):
                return row
        return None

    def _is_blank_row(self, line: str, unspaced: str, side: int | None) -> bool:
        """Tell whether dashes are blanks: as many as cells, and nothing else stood for a blank."""
        before = "".join(self.rows)
        dashes = bool(unspaced) and set(unspaced) == {"-"} and "|" not in line
        return dashes and len(unspaced) == side and not set(before) & set(".0_*?")


def _known(task: Task) -> dict[str, int]:
    """Map all symbols that people write to tokens."""
    return {**task.aliases, **task.symbols}


def _fields(line: str) -> Iterator[list[str]]:
    """Yield ways to take a line apart, the whole line first."""
    stripped = line.strip()
    yield [line, stripped, stripped.strip(_QUOTES)]
    yield [_TRAILING.sub("", line), _TRAILING.sub("", stripped)]
    if stripped.startswith("{"):
        yield _of_json(stripped)
    for separator in _SEPARATORS:
        fields = stripped.split(separator)
        if len(fields) > 1:
            yield [field.strip(" ").strip(_QUOTES) for field in fields]


def _of_json(text: str) -> list[str]:
    """Return the puzzle of a JSON object and what follows it as its answer."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(found, dict):
        return []
    named = {str(name).lower(): value for name, value in found.items()}
    chosen = [named[name] for name in (*sorted(_NAMES), *sorted(_ANSWERS)) if name in named]
    return [value for value in chosen if isinstance(value, str)]


def decoded(stream: BufferedReader) -> Iterator[str]:
    """Yield the lines of a file or pipe, whatever of UTF-8 and UTF-16 it is written in.

    What is neither is read with a sign in the place of each foreign byte.
    """
    start = stream.peek(2)[:2]
    utf16 = start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    text = TextIOWrapper(stream, "utf-16" if utf16 else "utf-8-sig", errors="replace")
    try:
        yield from text
    finally:
        text.detach()  # whoever opened the stream closes it


def as_they_come(readings: Iterator[Reading], most: int) -> Iterator[list[Reading]]:
    """Yield what is there in groups of at most so many, as soon as there is anything.

    Another thread reads on, at most as many ahead. It ends with the process, so a pipe that stays
    silent holds nobody back.

    Raises:
        Exception: whatever reading raises
    """
    waiting: Queue[Reading | _End] = Queue(most)
    Thread(target=_read_on, args=(readings, waiting), daemon=True).start()
    end: _End | None = None
    while end is None:
        group, until = [waiting.get()], time.monotonic() + _MORE_WITHIN_S
        with suppress(Empty):
            while len(group) < most and isinstance(group[-1], Reading):
                group.append(waiting.get(timeout=max(until - time.monotonic(), 0)))
        last = group[-1]
        end = last if isinstance(last, _End) else None
        if part := [each for each in group if isinstance(each, Reading)]:
            yield part
    if end.error is not None:
        raise end.error


@dataclass(frozen=True)
class _End:
    """What ended the reading: an error, or nothing but the last line."""

    error: Exception | None = None


def _read_on(readings: Iterator[Reading], waiting: "Queue[Reading | _End]") -> None:
    try:
        for reading in readings:
            waiting.put(reading)
    except Exception as error:  # raised in the thread that waits
        waiting.put(_End(error))
    else:
        waiting.put(_End())
