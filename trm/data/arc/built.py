"""ARC folders that ``build_arc_dataset.py`` of the released code wrote, turned back into tasks.

Every identifier keeps its number and its name, so the rows that a released model learned for such a
folder mean the same here. Read are the identifiers and the rows of each task itself; its
augmentations follow from their names.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trm.data.arc.files import ArcTask
from trm.data.arc.reading import load_json
from trm.support.errors import InputError
from trm.tasks.arc import COLOURS, END, FIRST_COLOUR, SIDE, parsed_name

_REMEDY = "give the folder with the JSON files it was built from"
_SPLITS = ("train", "test")
_FAKE = np.zeros((1, 1), dtype=np.uint8)  # what the program writes for an output it does not know

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class BuiltArc:
    """What such a folder has.

    Attributes:
        tasks: by name, in the order of their identifiers; a task that is trained on as a whole has
            no questions, since its tests lie among its demonstrations
        asked: names of the tasks of the split test
        drawn: augmentations of each, the task itself first: elements of the dihedral group
            (augmentations,), and what becomes of each colour (augmentations, 10)
    """

    tasks: dict[str, ArcTask]
    asked: list[str]
    drawn: dict[str, tuple[Tensor, Tensor]]


def is_built(folder: Path) -> bool:
    """Whether a folder has the layout of the released programs."""
    return any(os.path.isfile(folder / split / "dataset.json") for split in _SPLITS)


def read_built(folder: Path) -> BuiltArc:
    """Read such a folder.

    Raises:
        InputError: files that cannot be read, or of another program or puzzle
    """
    names = load_json(folder / "identifiers.json")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{folder / 'identifiers.json'} is no list of names; {_REMEDY}")
    first, drawn = _augmentations(names, folder)
    pairs = {split: dict(_groups(folder / split, names, first)) for split in _SPLITS}
    lacking = [name for name in first if name not in pairs["train"]]
    if lacking or not pairs["test"]:
        what = f"no demonstrations of task {lacking[0]}" if lacking else "no test tasks"
        raise InputError(f"{folder} has {what}; {_REMEDY}")
    outputs = [answer for asked in pairs["test"].values() for _, answer in asked]
    is_known = any(not np.array_equal(answer, _FAKE) for answer in outputs)
    tasks = {}
    for name in first:
        asked = pairs["test"].get(name, [])
        solutions = [answer for _, answer in asked if is_known]
        tasks[name] = ArcTask(name, pairs["train"][name], [x for x, _ in asked], solutions)
    return BuiltArc(tasks, list(pairs["test"]), drawn)


def _augmentations(
    names: list[str], folder: Path
) -> tuple[dict[str, int], dict[str, tuple[Tensor, Tensor]]]:
    """Return the first identifier of every task, and its augmentations."""
    first: dict[str, int] = {}
    parts: dict[str, tuple[list[int], list[np.ndarray]]] = {}
    last = None
    for number, name in enumerate(names[1:], start=1):
        task, turn, colours = parsed_name(name)
        if task != last and (task in first or name != task):
            raise InputError(
                f"{folder / 'identifiers.json'}: {name!r} is number {number}; the augmentations of "
                f"a task follow the task itself, in one dataset from number 1 on; {_REMEDY}"
            )
        last = task
        first.setdefault(task, number)
        turns, permutations = parts.setdefault(task, ([], []))
        turns.append(turn)
        permutations.append(colours)
    return first, {
        task: (torch.tensor(turns), torch.from_numpy(np.stack(permutations)))
        for task, (turns, permutations) in parts.items()
    }


def _groups(
    folder: Path, names: list[str], first: dict[str, int]
) -> Iterator[tuple[str, list[Pair]]]:
    """Yield each task of a split with its pairs."""
    for name in _sets(folder):
        inputs, labels = (
            _array(folder / f"{name}__{kind}.npy", 2) for kind in ("inputs", "labels")
        )
        identifiers, rows, groups = (
            _array(folder / f"{name}__{kind}.npy", 1).tolist()
            for kind in ("puzzle_identifiers", "puzzle_indices", "group_indices")
        )
        for start in groups[:-1]:
            where = f"{folder}, puzzle {start} of {name}"
            number = identifiers[start] if 0 <= start < min(len(identifiers), len(rows) - 1) else 0
            if not 0 < number < len(names) or first.get(names[number]) != number:
                raise InputError(f"{where} begins a group and is no task itself; {_REMEDY}")
            begin, end = rows[start : start + 2]
            if not 0 <= begin < end <= min(len(inputs), len(labels)):
                raise InputError(f"{where}: rows {begin} to {end} are not there; {_REMEDY}")
            each = range(begin, end)
            pairs = [_pair(inputs[row], labels[row], f"{folder}, row {row}") for row in each]
            yield names[number], pairs


def _sets(folder: Path) -> list[str]:
    """Return the names of the sets of a split whose tokens are ours."""
    file = folder / "dataset.json"
    about = load_json(file)
    told = about if isinstance(about, dict) else {}
    wanted = {
        "vocab_size": FIRST_COLOUR + COLOURS,
        "seq_len": SIDE * SIDE,
        "pad_id": 0,
        "blank_identifier_id": 0,
    }
    for key, value in wanted.items():
        if told.get(key) != value:
            raise InputError(
                f"{file}: {key}={told.get(key)}, while build_arc_dataset.py writes {value}: the "
                f"tokens are no ARC grids or mean others; {_REMEDY}"
            )
    sets = told.get("sets")
    if not isinstance(sets, list) or not all(isinstance(name, str) for name in sets):
        raise InputError(f"{file}: 'sets' is no list of names; {_REMEDY}")
    return sets


def _array(file: Path, dimensions: int) -> np.ndarray:
    try:
        # The rows of all augmentations are 3 GB for ARC-AGI-1; a thousandth of them is looked at.
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy parses the header as Python, with that parser's errors
        raise InputError(
            f"{file} cannot be read as an array ({type(error).__name__}); {_REMEDY}"
        ) from None
    is_row = array.ndim < 2 or array.shape[1] == SIDE * SIDE
    if array.ndim != dimensions or not is_row or not np.issubdtype(array.dtype, np.integer):
        shape = "(rows, 900)" if dimensions == 2 else "(entries,)"
        raise InputError(
            f"{file} has {array.dtype} of shape {array.shape}, not integers of shape {shape}; "
            f"{_REMEDY}"
        )
    return array


def _pair(question: np.ndarray, answer: np.ndarray, where: str) -> Pair:
    """Return the grids of two rows, which in training lie somewhere on the canvas."""
    grids = []
    for tokens in (question, answer):
        canvas = np.asarray(tokens).reshape(SIDE, SIDE)
        rows, columns = (np.flatnonzero((canvas >= FIRST_COLOUR).any(axis)) for axis in (1, 0))
        if rows.size and canvas.min() >= 0 and canvas.max() < FIRST_COLOUR + COLOURS:
            top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
            grid = (canvas[top:bottom, left:right] - FIRST_COLOUR).astype(np.uint8)
            expected = np.zeros_like(canvas)
            expected[top:bottom, left:right] = canvas[top:bottom, left:right]
            expected[bottom : bottom + 1, left:right] = END
            expected[top:bottom, right : right + 1] = END
            if np.array_equal(canvas, expected):
                grids.append(grid)
    if len(grids) < 2:
        raise InputError(
            f"{where} has no grid of colours 2 ... 11 with ends 1 and PAD 0 around it: it is of "
            f"another program; {_REMEDY}"
        )
    return grids[0], grids[1]
