"""Puzzles from the folders that the released dataset builders write."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from trm.data.checking import bad_rows, short, tell, why_bad
from trm.data.puzzles import PuzzleSet
from trm.support.errors import InputError
from trm.tasks.base import PAD, Task

_ABOUT = "dataset.json"
_SPLITS = ("train", "test")  # the builders write no other
_MOST_BYTES = 1_000_000  # of dataset.json, which has a few hundred
_MOST_BAD_ROWS = 1000  # that are looked into


def built_splits(folder: Path) -> list[str]:
    """Return the names of the splits that a builder wrote into a folder; none if it is no such."""
    return [name for name in _SPLITS if is_built_split(folder / name)]


def is_built_split(folder: Path) -> bool:
    """Tell whether a folder is a split that a builder wrote."""
    return (folder / _ABOUT).is_file()


def read_built(folder: Path, task: Task) -> tuple[PuzzleSet, int]:
    """Read a split, a folder with ``dataset.json`` and five arrays for each of its sets.

    A group is a puzzle and its augmentations, in this order. The first row of each is read, since
    augmentations are drawn anew in training; so no symmetric copies lie in two splits.

    Returns:
        the puzzles, one of each group, and how many rows the groups have together

    Raises:
        InputError: a missing or damaged file, another vocabulary, or a bad row
    """
    sets = _sets(folder / _ABOUT, task)
    parts = [_read_set(folder, name, task) for name in sets]
    x_input, y_true = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    return PuzzleSet.of(x_input, y_true), sum(part[2] for part in parts)


def _sets(path: Path, task: Task) -> list[str]:
    """Check that a split holds puzzles of a task in its own vocabulary; return its sets' names."""
    about = _load_json(path)
    _check_has(path, about, "seq_len", "vocab_size")
    vocab, cells = about["vocab_size"], about["seq_len"]
    if cells != task.cells:
        raise InputError(
            f"{path}: seq_len={cells!r}, but {task.name} has {task.cells} cells; take the task "
            f"that the folder was built for"
        )
    if vocab != task.vocab_size:
        raise InputError(
            f"{path}: vocab_size={vocab!r}, but {task.name} has {task.vocab_size} tokens: this "
            f"builder numbers them in another way (nano-trm's adds 1 to each); build the folder "
            f"with the released builder, or read the CSV files it was built from"
        )
    _check_has(path, about, "pad_id", "ignore_label_id", "num_puzzle_identifiers", "sets")
    if about["pad_id"] != PAD or about["ignore_label_id"] not in (PAD, None):
        raise InputError(
            f"{path}: pad_id={about['pad_id']!r}, ignore_label_id={about['ignore_label_id']!r}; "
            f"here both are {PAD}, as the released builders of Sudoku and mazes write them"
        )
    if about["num_puzzle_identifiers"] != 1:
        raise InputError(
            f"{path}: num_puzzle_identifiers={about['num_puzzle_identifiers']!r}; puzzles read "
            f"here share one, and ARC, which has many, is read with data=arc"
        )
    sets = about["sets"]
    if not (isinstance(sets, list) and sets and all(_is_file_name(name) for name in sets)):
        raise InputError(f"{path}: sets={short(str(sets))} is no list of names such as ['all']")
    return sets


def _check_has(path: Path, about: dict[str, Any], *keys: str) -> None:
    for key in keys:
        if key not in about:
            raise InputError(
                f"{path}: has no {key!r}, which the released builders write; build the folder anew "
                f"with one of them"
            )


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name) and Path(name).name == name and "\0" not in name


def _load_json(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            contents = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(contents, dict):
        raise InputError(f"{path}: needs an object, as the released builders write it")
    return contents


def _read_set(folder: Path, name: str, task: Task) -> tuple[np.ndarray, np.ndarray, int]:
    """Return questions and answers, (groups, cells) uint8 each, and the number of rows."""
    where = f"{folder / name}__"
    inputs, labels = (_load_array(f"{where}{part}.npy", axes=2) for part in ("inputs", "labels"))
    rows = len(inputs)
    for part, array in (("inputs", inputs), ("labels", labels)):
        if array.shape != (rows, task.cells):
            raise InputError(
                f"{where}{part}.npy: shape {array.shape}; {rows} puzzles of {task.name} need "
                f"({rows}, {task.cells})"
            )
    first = _first_rows(where, rows, task)
    x_input = _tokens(inputs[first], f"{where}inputs.npy", task)
    y_true = _tokens(labels[first], f"{where}labels.npy", task)
    if bad := bad_rows(x_input, y_true, task)[:_MOST_BAD_ROWS]:
        told = [(int(first[k]), why_bad(x_input[k], y_true[k], task)) for k in bad]
        raise tell(f"{where}inputs.npy, row", told, _MOST_BAD_ROWS)
    return x_input, y_true, rows


def _first_rows(where: str, rows: int, task: Task) -> np.ndarray:
    """Return the number of each group's first row, (groups,) int64.

    Rows make puzzles and puzzles make groups; but for ARC, where a puzzle has several examples and
    an identifier of its own, the builders write one row a puzzle.
    """
    identifiers, puzzles, groups = (
        _load_array(f"{where}{part}.npy", axes=1)
        for part in ("puzzle_identifiers", "puzzle_indices", "group_indices")
    )
    if identifiers.shape != (rows,) or identifiers.any():
        raise InputError(
            f"{where}puzzle_identifiers.npy: must hold 0 for each of {rows} puzzles, since "
            f"those read here share one identifier; ARC, which has many, is read with data=arc"
        )
    if not np.array_equal(puzzles, np.arange(rows + 1)):
        raise InputError(
            f"{where}puzzle_indices.npy: must count from 0 to {rows}, one row of inputs a puzzle "
            f"of {task.name}; build the folder anew"
        )
    starts = groups.astype(np.int64)
    ends = len(starts) > 1 and starts[0] == 0 and starts[-1] == rows
    if not ends or (np.diff(starts) < 1).any():
        raise InputError(
            f"{where}group_indices.npy: must rise from 0 to {rows}, the number of puzzles; build "
            f"the folder anew"
        )
    return starts[:-1]


def _tokens(grids: np.ndarray, where: str, task: Task) -> np.ndarray:
    """Turn whole numbers into uint8 tokens; one that the vocabulary lacks is refused."""
    out = (grids < 0) | (grids >= task.vocab_size)
    if out.any():
        raise InputError(
            f"{where}: holds token {grids[out][0]}; {task.name} knows 0 to {task.vocab_size - 1}, "
            f"so another builder numbered them"
        )
    return grids.astype(np.uint8)


def _load_array(path: str, axes: int) -> np.ndarray:
    """Map an array of whole numbers; only rows that are read come into memory.

    A file that promises more than it holds cannot be mapped, nor can pickled objects.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header raises what Python's own parser does
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} cannot be read as a NumPy array: {reason}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu" or array.ndim != axes:
        raise InputError(f"{path}: must be an array of whole numbers with {axes} axes")
    return array
