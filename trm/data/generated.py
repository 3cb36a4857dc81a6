"""Puzzles made on the spot, with splits that share no puzzle up to symmetry."""

import logging
import time
from typing import Any

import numpy as np
import torch

from trm.data.puzzles import PuzzleData, PuzzleSet
from trm.support import counter_rng
from trm.support.build import check_arguments
from trm.support.errors import InputError, check_at_least
from trm.tasks.base import MakePuzzles, Task

_ROUND = 256  # puzzles made between two looks at which splits are full
_SAY_EVERY_S = 5.0
_MOST_WASTE = 20  # puzzles made per puzzle asked for before giving up

log = logging.getLogger("trm")

Puzzle = tuple[np.ndarray, np.ndarray]


def generated(
    task: Task,
    train: int,
    val: int,
    test: int,
    seed: int = 0,
    augmentations: int | None = None,
    **settings: Any,
) -> PuzzleData:
    """Generate puzzles, all different.

    A symmetry class belongs to one split, drawn by its hash, so no validation or test puzzle is
    a training puzzle in disguise. Where classes are few (4x4 Sudoku), a split holds several
    symmetric copies of each: enough for a smoke test, not for a claim.

    Args:
        task: one with a generator
        train: number of training puzzles
        val: number of validation puzzles
        test: number of test puzzles
        seed: the puzzles are a function of this number, those above and the settings
        augmentations: see ``PuzzleData``
        settings: of the task's generator, such as ``clues`` of a Sudoku or ``min_path`` of a maze;
            None is its default

    Raises:
        InputError: the task has no generator, or too few different puzzles exist
    """
    counts = {"train": train, "val": val, "test": test}
    check_at_least(1, "data.", **counts)
    settings = {name: value for name, value in settings.items() if value is not None}
    check_arguments(task.generator, settings, "data")
    splits = _fill(task, task.generator(seed, **settings), counts, seed)
    words = [f"{name} {value}" for name, value in settings.items()]
    source = ", ".join(["generated", *words, f"seed {seed}"])
    return PuzzleData.of(splits, task, augmentations, source)


def _fill(task: Task, make: MakePuzzles, counts: dict[str, int], seed: int) -> dict[str, PuzzleSet]:
    names = list(counts)
    ends = np.cumsum([counts[name] for name in names]) / sum(counts.values())
    filled: dict[str, list[Puzzle]] = {name: [] for name in names}
    known: set[bytes] = set()
    logged_at = time.monotonic()
    for _ in range(_MOST_WASTE * sum(counts.values()) // _ROUND + 1):
        puzzles = make(_ROUND)
        classes = task.symmetry_class(puzzles[0])
        places = counter_rng.uniform(
            counter_rng.key(seed, torch.from_numpy(classes.view(np.int64)))
        )
        for *puzzle, place in zip(*puzzles, places.numpy(), strict=True):
            name = names[int(np.searchsorted(ends, place, side="right"))]
            if len(filled[name]) < counts[name] and puzzle[0].tobytes() not in known:
                known.add(puzzle[0].tobytes())
                filled[name].append((puzzle[0], puzzle[1]))
        if time.monotonic() - logged_at > _SAY_EVERY_S:
            logged_at = time.monotonic()
            have = sum(len(part) for part in filled.values())
            log.info("generated %d of %d %s puzzles", have, sum(counts.values()), task.name)
        if all(len(filled[name]) == counts[name] for name in names):
            return {
                name: PuzzleSet.of(
                    *(np.stack(arrays) for arrays in zip(*filled[name], strict=True))
                )
                for name in names
            }
    filling = ", ".join(f"{name} {len(filled[name])} of {counts[name]}" for name in names)
    raise InputError(
        f"{task.name} does not have enough different puzzles ({filling}); ask for fewer puzzles, "
        f"or for easier ones"
    )
