"""Which column of a CSV file is what, and what a row of it says."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trm.data.checking import short
from trm.support.errors import InputError
from trm.tasks.base import Task

_PUBLISHED = "source,question,answer,rating"
# Names of columns as published files have them, the first of a line before the next.
_QUESTION = (
    *("question", "questions", "quiz", "quizzes", "puzzle", "puzzles", "input", "inputs"),
    *("x_input", "problem", "problems", "sudoku", "maze", "board", "grid", "unsolved"),
)
_ANSWER = (
    *("answer", "answers", "solution", "solutions", "output", "outputs", "y_true"),
    *("label", "labels", "target", "targets", "solved"),
)
_RATING, _DIFFICULTY = ("rating", "ratings"), ("difficulty", "difficulties", "level")
_MISSING = {"", "nan", "na", "n/a", "none", "null"}
_DELIMITERS = ",;\t|"  # the published one first


@dataclass(frozen=True)
class Columns:
    """Where a file has what.

    Attributes:
        delimiter: between fields
        heading: what rows are compared with in errors
        width: fields of a row
        question: number of the field
        answer: likewise
        rating: likewise, or None
        in_words: whether ratings may be words, as difficulties are, which are none
        named: whether the first line is a header
    """

    delimiter: str
    heading: str
    width: int
    question: int
    answer: int
    rating: int | None = None
    in_words: bool = False
    named: bool = True

    @classmethod
    def of(cls, path: Path, first: str, task: Task) -> "Columns":
        """Find the columns by the first line of a file, and what delimits them.

        Raises:
            InputError: neither names of columns nor two of the right length
        """
        text = first.rstrip("\r\n")
        split = [(each, next(csv.reader([text], delimiter=each), [])) for each in _DELIMITERS]
        for delimiter, fields in split:
            names = [field.strip(" '\"").lower().replace(" ", "_") for field in fields]
            question, answer = _first_of(_QUESTION, names), _first_of(_ANSWER, names)
            if question is None or answer is None:
                continue
            rating, difficulty = _first_of(_RATING, names), _first_of(_DIFFICULTY, names)
            in_words = rating is None
            rating = difficulty if rating is None else rating
            return cls(delimiter, text, len(names), question, answer, rating, in_words)
        for delimiter, fields in split:
            if [len(_of_length(field, task)) for field in fields] == [task.cells] * 2:
                return cls(delimiter, "question,answer", 2, 0, 1, named=False)
        if "\0" in text[:4]:
            raise InputError(f"{path}, line 1 is no UTF-8 text; save the file as CSV in UTF-8")
        raise InputError(
            f"{path}, line 1: header {short(text)} must be {_PUBLISHED!r}, or name a column of "
            f"puzzles (such as question, puzzle, quizzes, input) and one of their answers (answer, "
            f"solution, output); only two columns of {task.cells} symbols each need no header"
        )

    def puzzle(self, row: list[str], task: Task) -> tuple[str, str, int | None]:
        """Return question, answer and rating of a row.

        Raises:
            InputError: what is wrong with its fields, before looking into them
        """
        if len(row) != self.width:
            raise InputError(
                f"{len(row)} fields instead of the {self.width} of {short(self.heading)}"
            )
        question, answer = row[self.question], row[self.answer]
        if len(question) != task.cells or len(answer) != task.cells:
            question, answer = _of_length(question, task), _of_length(answer, task)
            for name, value in (("question", question), ("answer", answer)):
                if len(value) != task.cells:
                    raise InputError(
                        f"{name} {short(value)} has {len(value)} cells, {task.name} needs "
                        f"{task.cells}"
                    )
        if self.rating is None:
            return question, answer, None
        return question, answer, self._rated(row[self.rating])

    def _rated(self, text: str) -> int | None:
        """Return a rating, rounded; None if it is missing.

        Raises:
            InputError: it is no number, or too large for int64
        """
        if text.isascii() and text.isdigit() and len(text) <= 18:
            return int(text)
        number = text.strip()
        if self.delimiter == ";":  # because the comma is the decimal point
            number = number.replace(",", ".")
        if number.lower() in _MISSING:
            return None
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if abs(value) < 1e18:  # not so of NaN
            return round(value)
        if self.in_words:
            return None
        raise InputError(f"rating {short(text)} is no whole number or decimal, nor empty")


def _first_of(aliases: Sequence[str], names: list[str]) -> int | None:
    return next((names.index(alias) for alias in aliases if alias in names), None)


def _of_length(field: str, task: Task) -> str:
    """Remove from a field of another length the white space that is no symbol of its task."""
    if len(field) == task.cells:
        return field
    return "".join(sign for sign in field if sign in task.symbols or not sign.isspace())
