"""ARC tasks from JSON: the Kaggle pair of files, a file per task, or one file of many tasks."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trm.support.errors import InputError
from trm.tasks.arc import NAME_SEPARATOR, checked_grid, shown

ENDINGS = (".json", ".json.gz", ".jsonl", ".jsonl.gz")  # in the order in which they are read
_MOST_BYTES = 256_000_000  # unpacked; the largest published file has 4 million
_MOST_PAIRS = 10_000  # of a task; the published ones have 10 at most, re-arc writes 1,000
_LONGEST_NAME = 200  # characters
_NAME_KEYS = ("id", "task_id", "name")  # where a list of tasks has their names

Grid = np.ndarray  # (rows, columns) uint8 colours 0 ... 9


@dataclass(frozen=True)
class ArcTask:
    """One task as its file has it.

    Attributes:
        name: identifier in the file
        demonstrations: pairs of input and output
        questions: test inputs; none if the file has pairs only
        solutions: test outputs, as many as questions; empty if any of them is not known
    """

    name: str
    demonstrations: list[tuple[Grid, Grid]]
    questions: list[Grid]
    solutions: list[Grid]


def read_challenges(challenges: Path, solutions: Path | None) -> dict[str, ArcTask]:
    """Read a file of tasks by their names, and the file with the outputs of their tests.

    Raises:
        InputError: naming file, task and rule
    """
    tasks = _mapping(challenges)
    solved = {} if solutions is None else _mapping(solutions)
    if solutions is not None and (odd := tasks.keys() ^ solved.keys()):
        where, other = ("the solutions", solutions), ("the challenges", challenges)
        missing, file = where if min(odd) in tasks else other
        raise InputError(
            f"{solutions}: task {shown(min(odd))[1:-1]} is missing from {missing}; both files need "
            f"the same tasks, so add it to {file.name} or take a pair of one release"
        )
    return {
        name: _task(challenges, name, contents, solved.get(name), solutions)
        for name, contents in tasks.items()
    }


def read_files(files: Iterable[Path]) -> dict[str, ArcTask]:
    """Read files of one task or of many, of which no two may have the same name.

    A file of one task is named after it: an object with the lists ``train`` and ``test``, or a list
    of pairs, which all are demonstrations. A file of many is an object of tasks by their names, or
    a list of objects, or JSON lines; these have their names under ``id``, ``task_id`` or ``name``.

    Raises:
        InputError: naming file, task and rule
    """
    tasks: dict[str, ArcTask] = {}
    origin: dict[str, Path] = {}
    for file in files:
        for name, contents in _entries(file):
            if name in tasks:
                both = "twice" if origin[name] == file else f"and in {origin[name]}"
                raise InputError(
                    f"{file}: task {shown(name)[1:-1]} is here {both}; a subset needs tasks of "
                    f"different names, so rename one or take it out"
                )
            tasks[name], origin[name] = _task(file, name, contents, None), file
    return tasks


def has_many(file: Path) -> bool:
    """Whether a file has tasks by their names, not one task.

    Raises:
        InputError: no JSON
    """
    entries = _entries(file)
    return len(entries) > 1 or entries[0][0] != stem(file)


def stem(file: Path) -> str:
    """Return the name of a file up to its first dot."""
    return file.name.partition(".")[0]


def load_json(path: Path) -> Any:
    """Read a JSON file, or the list of the lines of JSON lines; ``.gz`` is unpacked.

    Raises:
        InputError: a file that cannot be read, is too large or is no JSON
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise InputError(
                f"{path} unpacks to more than {_MOST_BYTES // 10**6} MB; a file of ARC tasks has a "
                f"few, so split it or take it out of the folder"
            )
        if path.name.endswith((".jsonl", ".jsonl.gz")):
            return list(_lines(text.decode("utf-8-sig")))
        return json.loads(text, object_pairs_hook=_without_repeats)
    except InputError:
        raise
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise InputError(
            f"{path} cannot be read as JSON: {error}; mend it or take it out of the folder"
        ) from None


def _lines(text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line, object_pairs_hook=_without_repeats)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; of a key that occurs twice, JSON readers would keep the last silently."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in made if keys.count(key) > 1)
        raise ValueError(f"{shown(twice)} occurs twice in one object")
    return made


def _entries(file: Path) -> list[tuple[str, Any]]:
    """Return the tasks of a file, by name and not looked into."""
    contents = load_json(file)
    if not _is_task(contents) and isinstance(contents, dict):
        if not any(_is_task(value) for value in contents.values()):
            return [(stem(file), contents)]
        return list(contents.items())
    if isinstance(contents, list) and any(_is_task(value) for value in contents):
        numbered = enumerate(contents, start=1)
        return [(_name(value, f"{stem(file)}-{number}"), value) for number, value in numbered]
    return [(stem(file), contents)]


def _is_task(contents: Any) -> bool:
    if isinstance(contents, list):
        return bool(contents) and isinstance(contents[0], dict) and "input" in contents[0]
    return isinstance(contents, dict) and "train" in contents


def _name(contents: Any, otherwise: str) -> str:
    if isinstance(contents, dict):
        for key in _NAME_KEYS:
            if isinstance(contents.get(key), str | int):
                return str(contents[key])
    return otherwise


def _task(
    file: Path, name: str, contents: Any, solved: Any, solutions_file: Path | None = None
) -> ArcTask:
    if not name or len(name) > _LONGEST_NAME or NAME_SEPARATOR in name or not name.isprintable():
        raise InputError(
            f"{file}: task name {shown(name)} must have 1 to {_LONGEST_NAME} printable characters "
            f"without {NAME_SEPARATOR}, which names augmentations; rename the task"
        )
    where = f"{file}, task {name}"
    train, test = _lists(contents, where)
    demonstrations = []
    for number, pair in enumerate(train, start=1):
        here = f"{where}, demonstration {number}"
        demonstrations.append((_part(pair, "input", here), _part(pair, "output", here)))
    tests = list(enumerate(test, start=1))
    questions = [_part(pair, "input", f"{where}, test {number}") for number, pair in tests]
    if solved is not None:
        if not isinstance(solved, list) or len(solved) != len(questions):
            count = len(solved) if isinstance(solved, list) else "no list of"
            raise InputError(
                f"{solutions_file}, task {name}: {count} solutions for {len(questions)} test "
                f"inputs; give one each, null where it is not known"
            )
        outputs = solved
    else:
        outputs = [pair.get("output") for _, pair in tests]
    # Not known is not black: no grid stands in for it, and nothing is compared with it.
    if any(grid is None for grid in outputs):
        return ArcTask(name, demonstrations, questions, [])
    place = where if solved is None else f"{solutions_file}, task {name}"
    kind = "test {}, output" if solved is None else "solution {}"
    solutions = [
        checked_grid(grid, f"{place}, {kind.format(number)}")
        for number, grid in enumerate(outputs, start=1)
    ]
    return ArcTask(name, demonstrations, questions, solutions)


def _lists(contents: Any, where: str) -> tuple[list[Any], list[Any]]:
    """Return demonstrations and tests; pairs without a test all are demonstrations."""
    parts = {"train": contents} if _is_task(contents) and isinstance(contents, list) else contents
    parts = parts if isinstance(parts, dict) else {}
    train, test = parts.get("train"), parts.get("test") or []
    if not isinstance(train, list) or not isinstance(test, list) or not train:
        raise InputError(
            f"{where}: {shown(contents)} is no ARC task; that needs the lists 'train' and 'test' "
            f"of pairs, or is a list of pairs, one or more; mend it or take it out of the folder"
        )
    if (most := max(len(train), len(test))) > _MOST_PAIRS:
        raise InputError(
            f"{where}: {most} pairs; a task may have {_MOST_PAIRS}, so leave some of them out"
        )
    return train, test


def _part(pair: Any, side: str, where: str) -> Grid:
    if not isinstance(pair, dict) or side not in pair:
        raise InputError(
            f"{where}: has no {side!r}; a pair is an object with 'input' and 'output', of which "
            f"only the output of a test may be missing or null"
        )
    return checked_grid(pair[side], f"{where}, {side}")


def _mapping(path: Path) -> dict[str, Any]:
    contents = load_json(path)
    if not isinstance(contents, dict) or not contents:
        raise InputError(f"{path}: needs an object of tasks by their names, one or more")
    return contents
