"""ARC tasks from JSON: the Kaggle pair of files per subset, or one file per task."""

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trm.support.errors import InputError
from trm.tasks.arc import checked_grid

_MOST_BYTES = 256_000_000  # unpacked; the largest published file has 4 million
_MOST_PAIRS = 1000  # of a task; the published ones have 10 at most

Grid = np.ndarray  # (rows, columns) uint8 colours 0 ... 9


@dataclass(frozen=True)
class ArcTask:
    """One task as its file has it.

    Attributes:
        name: identifier in the file
        demonstrations: pairs of input and output
        questions: test inputs
        solutions: test outputs, as many as questions; empty if the file has none
    """

    name: str
    demonstrations: list[tuple[Grid, Grid]]
    questions: list[Grid]
    solutions: list[Grid]


def read_subset(folder: Path, subset: str) -> dict[str, ArcTask]:
    """Read a subset, such as ``training``, of a folder.

    Looks for ``arc-agi_<subset>_challenges.json`` with ``..._solutions.json`` (plain or ``.gz``),
    and for a folder ``<subset>`` with one JSON file per task.

    Raises:
        InputError: nothing of that name, or a bad file, naming file, task and rule
    """
    for stem in (f"arc-agi_{subset}", subset):
        if challenges := _existing(folder, f"{stem}_challenges.json"):
            return _kaggle(challenges, _existing(folder, f"{stem}_solutions.json"))
    files = sorted((folder / subset).glob("*.json")) + sorted((folder / subset).glob("*.json.gz"))
    if not files:
        raise InputError(
            f"{folder} holds neither arc-agi_{subset}_challenges.json (or .gz) nor a folder "
            f"{subset} with one JSON file per task"
        )
    tasks = [_task(file, file.name.partition(".")[0], _load(file), None) for file in files]
    return {task.name: task for task in tasks}


def _existing(folder: Path, name: str) -> Path | None:
    paths = folder / name, folder / f"{name}.gz"
    return next((path for path in paths if path.is_file()), None)


def _kaggle(challenges: Path, solutions: Path | None) -> dict[str, ArcTask]:
    tasks = _mapping(challenges)
    solved = {} if solutions is None else _mapping(solutions)
    if solutions is not None and (odd := tasks.keys() ^ solved.keys()):
        where = "the solutions" if min(odd) in tasks else "the challenges"
        raise InputError(f"{solutions}: task {min(odd)} is missing from {where}")
    return {
        name: _task(challenges, name, contents, solved.get(name), solutions)
        for name, contents in tasks.items()
    }


def _task(
    file: Path, name: str, contents: Any, solved: Any, solutions_file: Path | None = None
) -> ArcTask:
    where = f"{file}, task {name}"
    if not isinstance(contents, dict) or not all(
        isinstance(contents.get(part), list) and 1 <= len(contents[part]) <= _MOST_PAIRS
        for part in ("train", "test")
    ):
        raise InputError(f"{where}: needs the lists 'train' and 'test', each with a pair or more")
    demonstrations = []
    for number, pair in enumerate(contents["train"], start=1):
        here = f"{where}, demonstration {number}"
        demonstrations.append((_part(pair, "input", here), _part(pair, "output", here)))
    tests = list(enumerate(contents["test"], start=1))
    questions = [_part(pair, "input", f"{where}, test {number}") for number, pair in tests]
    if solved is not None:
        if not isinstance(solved, list) or len(solved) != len(questions):
            count = len(solved) if isinstance(solved, list) else "no list of"
            raise InputError(
                f"{solutions_file}, task {name}: {count} solutions for {len(questions)} test inputs"
            )
        solutions = [
            checked_grid(grid, f"{solutions_file}, task {name}, solution {number}")
            for number, grid in enumerate(solved, start=1)
        ]
    elif all(isinstance(pair, dict) and "output" in pair for _, pair in tests):
        solutions = [_part(pair, "output", f"{where}, test {number}") for number, pair in tests]
    else:
        solutions = []
    return ArcTask(name, demonstrations, questions, solutions)


def _part(pair: Any, side: str, where: str) -> Grid:
    if not isinstance(pair, dict) or side not in pair:
        raise InputError(f"{where}: has no {side!r}")
    return checked_grid(pair[side], f"{where}, {side}")


def _mapping(path: Path) -> dict[str, Any]:
    contents = _load(path)
    if not isinstance(contents, dict) or not contents:
        raise InputError(f"{path}: needs an object of tasks by their names")
    return contents


def _load(path: Path) -> Any:
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise InputError(f"{path} unpacks to more than {_MOST_BYTES // 10**6} MB")
        return json.loads(text)
    except InputError:
        raise
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from None
