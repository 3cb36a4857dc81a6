"""Puzzles in memory: arrays, splits, and the manifest that says what they are."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from trm.support import counter_rng
from trm.support.errors import InputError
from trm.tasks.base import Task

# From numbers, (batch,) int64, to questions and answers, (batch, cells) uint8, and identifiers,
# (batch,) int64, all on one device.
Rows = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


class Puzzles(Protocol):
    """Puzzles of one split, whether they lie in memory or are made when they are wanted."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | np.ndarray) -> "Puzzles":
        """Select puzzles."""

    def on(self, device: torch.device | str) -> Rows:
        """Return a function from numbers to puzzles on a device."""

    @property
    def x_input(self) -> np.ndarray:
        """All questions, (puzzles, cells) uint8 tokens."""

    @property
    def y_true(self) -> np.ndarray:
        """All answers, (puzzles, cells) uint8 tokens; PAD cells are not scored."""


@dataclass(frozen=True)
class PuzzleSet:
    """Puzzles of one split.

    Attributes:
        x_input: questions, (puzzles, cells) uint8 tokens
        y_true: answers, (puzzles, cells) uint8 tokens; PAD cells are not scored
        puzzle_id: identifier of each puzzle, (puzzles,) int64; 0 where all share one
        rating: difficulty as the source gives it, (puzzles,) int64, or None
    """

    x_input: np.ndarray
    y_true: np.ndarray
    puzzle_id: np.ndarray
    rating: np.ndarray | None = None

    @classmethod
    def of(
        cls, x_input: np.ndarray, y_true: np.ndarray, rating: np.ndarray | None = None
    ) -> "PuzzleSet":
        """Make a set in which all puzzles share identifier 0."""
        return cls(x_input, y_true, np.zeros(len(x_input), dtype=np.int64), rating)

    def __len__(self) -> int:
        return len(self.x_input)

    def __getitem__(self, index: slice | np.ndarray) -> "PuzzleSet":
        rating = None if self.rating is None else self.rating[index]
        return PuzzleSet(self.x_input[index], self.y_true[index], self.puzzle_id[index], rating)

    def on(self, device: torch.device | str) -> Rows:
        """Return a function from numbers to puzzles on a device."""
        x_input, y_true, puzzle_id = (
            torch.from_numpy(array).to(device)
            for array in (self.x_input, self.y_true, self.puzzle_id)
        )
        return lambda index: (x_input[index], y_true[index], puzzle_id[index])

    def checksum(self) -> str:
        """SHA-256 of the arrays."""
        digest = hashlib.sha256()
        for array in (self.x_input, self.y_true, self.puzzle_id):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


class Splits(dict[str, Puzzles]):
    """Splits by their names; asking for one that the source lacks is an InputError.

    Args:
        splits: those there are
        source: for the error
        problem: with the others, if they are there and cannot be read
    """

    def __init__(
        self, splits: Mapping[str, Puzzles], source: str, problem: str | None = None
    ) -> None:
        super().__init__(splits)
        self.source, self.problem = source, problem

    def __missing__(self, name: str) -> Puzzles:
        if self.problem is not None:
            raise InputError(self.problem)
        raise InputError(
            f"{self.source} has no {name} puzzles but {', '.join(self)}; these can be evaluated "
            f"(split={next(iter(self), None)}), while training takes a folder with train.csv and "
            f"test.csv (or data.train_file and data.test_file), or one CSV file to split"
        )


@dataclass(frozen=True)
class PuzzleData:
    """The splits, how training puzzles are augmented, and where all came from.

    Attributes:
        splits: ``train``, ``val`` and ``test``; what is only to be evaluated may lack the others
        augmentations: size of the fixed set of symmetric copies per training puzzle, the puzzle
            itself aside; 0 for none, None for a new copy at every draw
        manifest: source, counts, symmetry classes, overlaps and checksum; plain types only
        identifiers: rows that a model's table needs; 1 where all puzzles share one
        votes: what an evaluation by voting asks, where there is one (ARC)
    """

    splits: Mapping[str, Puzzles]
    augmentations: int | None
    manifest: dict[str, Any]
    identifiers: int = 1
    votes: Any = None

    @classmethod
    def of(
        cls, splits: Mapping[str, PuzzleSet], task: Task, augmentations: int | None, source: str
    ) -> "PuzzleData":
        """Count, compare and checksum the splits.

        Raises:
            InputError: an empty split or a negative number of augmentations
        """
        for name, puzzles in splits.items():
            if not len(puzzles):
                raise InputError(f"the {name} split of {source} is empty; ask for more puzzles")
        if augmentations is not None and augmentations < 0:
            raise InputError(
                f"data.augmentations={augmentations} is negative; take a count, 0 for none, "
                f"or null for unlimited"
            )
        classes = {
            name: set(task.symmetry_class(puzzles.x_input).tolist())
            for name, puzzles in splits.items()
        }
        checksums = "".join(puzzles.checksum() for puzzles in splits.values())
        manifest = {
            "task": task.name,
            "source": source,
            "counts": {name: len(puzzles) for name, puzzles in splits.items()},
            "symmetry_classes": {name: len(keys) for name, keys in classes.items()},
            "shared_symmetry_classes": {
                f"{a} and {b}": len(classes[a] & classes[b]) for a, b in combinations(classes, 2)
            },
            "augmentations": augmentations,
            "sha256": hashlib.sha256(checksums.encode()).hexdigest(),
        }
        return cls(Splits(splits, source), augmentations, manifest)

    def need(self, *names: str) -> None:
        """Ask for splits before it takes long to get where they are wanted.

        Raises:
            InputError: there is no split of such a name
        """
        splits = self.splits  # a source of one's own may give a plain mapping
        if not isinstance(splits, Splits):
            splits = Splits(splits, str(self.manifest.get("source")))
        for name in names:
            splits[name]


def hold_out(
    puzzles: PuzzleSet, task: Task, share: float, seed: int
) -> tuple[PuzzleSet, PuzzleSet]:
    """Split off about ``share`` of the puzzles, whole symmetry classes and at least one.

    Returns:
        the puzzles kept and the puzzles held out

    Raises:
        InputError: ``share`` is not between 0 and 1
    """
    if not 0 < share < 1:
        raise InputError(f"data.val_share={share} is not between 0 and 1; 0.1 holds out a tenth")
    classes = torch.from_numpy(task.symmetry_class(puzzles.x_input).view(np.int64))
    place = counter_rng.uniform(counter_rng.key(seed, classes)).numpy()
    # A small file may have no class below the share; it is not refused for that.
    held_out = (place < share) | (place == place.min(initial=1))
    return puzzles[~held_out], puzzles[held_out]
