"""Puzzles in JSON: text, grids, lists of them, and objects that name them."""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

NAMES = {"puzzle", "puzzles", "question", "quiz", "quizzes", "input", "sudoku", "grid", "maze"}
ANSWERS = {"solution", "solutions", "answer", "answers", "output"}
CELL = 2  # symbols of a cell in JSON at most
_SPACES = str.maketrans(dict.fromkeys("\u00a0\u2007\u202f", " "))  # that do not break a line
_IN_JSON = re.compile(r'\s*([\[\]{}"]|[\d\s,nul]*$)')  # a line amid a JSON text of several


def with_json(
    lines: Iterable[str], opening: tuple[str, ...]
) -> Iterator[tuple[int, list[str], Any]]:
    """Yield the number of each line, the line, and None; of a JSON text all lines and its value."""
    held: list[str] = []
    number = depth = 0
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r\n").removeprefix("\ufeff").translate(_SPACES)
        if not held and not line.lstrip().startswith(opening):
            yield number, [line], None
            continue
        held.append(line)
        depth += sum(line.count(bracket) for bracket in "[{")
        depth -= sum(line.count(bracket) for bracket in "]}")
        if depth <= 0 or not _IN_JSON.match(line):
            yield from _parsed(number, held)
            held, depth = [], 0
    yield from _parsed(number, held)


def _parsed(last: int, lines: list[str]) -> Iterator[tuple[int, list[str], Any]]:
    """Yield lines as one JSON text, or one by one if they are none."""
    first = last - len(lines) + 1
    try:
        found = json.loads("\n".join(lines))
    except (ValueError, RecursionError):
        yield from ((first + i, [line], None) for i, line in enumerate(lines))
    else:
        yield first, lines, found


def lines_of(found: Any) -> list[str]:
    """Write the puzzles of a JSON value as lines, each with its solution if one stands beside."""
    if isinstance(found, str):
        return found.splitlines()
    if isinstance(found, dict):
        named = {str(name).lower(): value for name, value in found.items()}
        puzzles, answers = (
            next((_in_one_line(named[name]) for name in sorted(names) if name in named), [])
            for names in (NAMES, ANSWERS)
        )
        if len(puzzles) == len(answers):
            puzzles = [f"{one}\t{other}" for one, other in zip(puzzles, answers, strict=True)]
        return puzzles or lines_of([each for each in found.values() if not _is_cell(each)])
    if not isinstance(found, list):
        return []
    if found and all(_is_cell(each) for each in found):
        return [",".join("" if each is None else str(each) for each in found)]
    return [*chain.from_iterable(map(lines_of, found))]


def _in_one_line(found: Any) -> list[str]:
    """Write a puzzle of a JSON object as one line, be it a grid; or several as their lines."""
    lines, is_list = lines_of(found), isinstance(found, list)
    is_grid = is_list and all(isinstance(row, list) and len(row) == len(found) for row in found)
    cells = ",".join(lines).split(",") if is_grid or (is_list and len(lines) == 1) else []
    if not cells:
        return lines
    plain = all(len(cell) <= 1 for cell in cells)
    return ["".join(cell or "." for cell in cells) if plain else ",".join(cells)]


def _is_cell(found: Any) -> bool:
    short = isinstance(found, str | int) and len(str(found)) <= CELL
    return found is None or (short and not isinstance(found, bool))
