"""Puzzles from CSV files, by the names of their columns."""

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

import numpy as np

from trm.data.checking import FOREIGN, bad_rows, short, tell, why_bad
from trm.data.csv_columns import Columns
from trm.data.puzzles import PuzzleSet
from trm.support.errors import InputError
from trm.tasks.base import Task

_READ_AT_ONCE = 8192  # rows that are read, encoded and checked together
_MOST_BAD_ROWS = 1000  # after which reading stops
_SURPLUS = 32_768  # characters of a line beside its puzzle
# Puzzles shrink 3 to 10 times in gzip; a file that unpacks to much more than that is a trap.
_MOST_UNPACKED = 50  # times its size
_NEVER_TOO_MUCH = 16_000_000  # characters

Row = tuple[int, str, str, int | None]  # line, question, answer, rating


def read_csv(path: Path, task: Task) -> PuzzleSet:
    """Read the puzzles of a ``.csv`` or ``.csv.gz`` file.

    Columns are found by name (``question`` or ``quizzes``, ``puzzle``, ``input`` ...; ``answer``
    or ``solutions``, ``output`` ...; ``rating`` or ``difficulty``), in any order and with others
    between them; two columns of puzzles and answers need no header. Ratings are rounded; a set
    without one for every puzzle has none.

    Raises:
        InputError: naming file, line, value and rule of the first bad row, and how many follow
    """
    try:
        with _open(path) as file:
            return _read(path, file, task)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV text: {error}") from None


def _open(path: Path) -> TextIO:
    # Spreadsheets begin with a byte order mark. What is no UTF-8 may stand in a column that is not
    # read, such as names; in a puzzle its replacement is a foreign symbol.
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return open(path, encoding="utf-8-sig", errors="replace", newline="")


def _read(path: Path, file: TextIO, task: Task) -> PuzzleSet:
    lines = _Lines(path, file, longest=4 * task.cells + _SURPLUS)
    first = next(lines, "")
    columns = Columns.of(path, first, task)
    reader = csv.reader(chain([first], lines), delimiter=columns.delimiter)
    if columns.named:
        next(reader)
    bad: list[tuple[int, str]] = []
    blocks: list[tuple[np.ndarray, np.ndarray]] = []
    ratings: list[np.ndarray | None] = []
    rows = _rows(reader, lines, columns, task, bad)
    while len(bad) < _MOST_BAD_ROWS and (some := list(islice(rows, _READ_AT_ONCE))):
        numbers, questions, answers, rated = zip(*some, strict=True)
        x_input, y_true = _encode(questions, task), _encode(answers, task)
        for row in bad_rows(x_input, y_true, task):
            bad.append((numbers[row], _problem(questions[row], answers[row], task)))
        blocks.append((x_input, y_true))
        ratings.append(None if None in rated else np.array(rated, dtype=np.int64))
    if bad:
        raise tell(f"{path}, line", bad, _MOST_BAD_ROWS)
    if not blocks:
        raise InputError(f"{path} holds no puzzles, only a header")
    known = [block for block in ratings if block is not None]
    rating = np.concatenate(known) if len(known) == len(ratings) else None
    x_input, y_true = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return PuzzleSet.of(x_input, y_true, rating)


class _Lines(Iterator[str]):
    """Lines of a file with their ends; what is too long or too much is refused as it is read.

    Args:
        path: for errors
        file: open text
        longest: characters of a line, and of a row over several lines twice as many
    """

    def __init__(self, path: Path, file: TextIO, longest: int) -> None:
        self.path, self.file, self.longest = path, file, longest
        self.line = self.unpacked = 0
        self.begun_at = 1, 0  # line and characters unpacked where the row now read begins
        packed = _MOST_UNPACKED * path.stat().st_size if path.suffix == ".gz" else None
        self.most = math.inf if packed is None else max(packed, _NEVER_TOO_MUCH)
        # The module's own limit, which counts for the whole process, would refuse large mazes.
        csv.field_size_limit(max(csv.field_size_limit(), 2 * longest))

    def __next__(self) -> str:
        text = self.file.readline(self.longest)
        if not text:
            raise StopIteration
        self.line += 1
        self.unpacked += len(text)
        if len(text) == self.longest:
            raise InputError(f"{self.path}, line {self.line} is longer than {len(text)} characters")
        if self.unpacked > self.most:
            raise InputError(
                f"{self.path} unpacks to more than {_MOST_UNPACKED} times its size, as no file of "
                f"puzzles does; unpack it yourself if you trust it"
            )
        begun, before = self.begun_at
        if self.unpacked - before > 2 * self.longest:
            raise InputError(
                f"{self.path}, line {begun}: a quote that opens here is still open in line "
                f"{self.line}; close or remove it"
            )
        return text

    def begin_row(self) -> int:
        """Return the number of the line that comes next, in which a row begins."""
        self.begun_at = self.line + 1, self.unpacked
        return self.line + 1


def _rows(
    reader: Iterator[list[str]],
    lines: _Lines,
    columns: Columns,
    task: Task,
    bad: list[tuple[int, str]],
) -> Iterator[Row]:
    """Yield the rows of the right shape, and list the others until there are too many.

    Only puzzles are kept: what else a row holds may be long. Blank lines are passed over, as in
    every CSV reader, but a file that holds nothing else is not read to its end.
    """
    blank: list[int] = []
    line = lines.begin_row() if columns.named else 1
    for row in reader:
        this, line = line, lines.begin_row()
        if not any(row):
            blank.append(this)
            if len(blank) == _MOST_BAD_ROWS:
                problem = f"1 fields instead of the {columns.width} of {short(columns.heading)}"
                bad.extend((number, problem) for number in blank)
                return
            continue
        blank.clear()
        try:
            yield (this, *columns.puzzle(row, task))
        except InputError as error:
            bad.append((this, str(error)))
            if len(bad) >= _MOST_BAD_ROWS:
                return


def _encode(texts: Sequence[str], task: Task) -> np.ndarray:
    """Encode texts of the right length; FOREIGN marks a foreign symbol."""
    table = np.full(256, FOREIGN, dtype=np.uint8)
    if odd := [symbol for symbol in task.symbols if len(symbol) != 1 or ord(symbol) > 255]:
        raise InputError(f"{task.name} has the symbol {odd[0]!r}; files hold Latin-1 characters")
    for symbol, token in task.symbols.items():
        table[ord(symbol)] = token
    # Latin-1 keeps one byte a cell; what it lacks becomes "?", which no task knows.
    joined = "".join(texts).encode("latin-1", errors="replace")
    return table[np.frombuffer(joined, dtype=np.uint8)].reshape(len(texts), task.cells)


def _problem(question: str, answer: str, task: Task) -> str:
    for name, text in (("question", question), ("answer", answer)):
        try:
            task.encode(text)
        except InputError as error:
            return f"{name}: {error}"
    return why_bad(task.encode(question), task.encode(answer), task)
