"""ARC-AGI as training data: pairs of grids under augmentations that are never written down."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trm.data.arc.augmentations import distinct_augmentations
from trm.data.arc.built import is_built, read_built
from trm.data.arc.files import ArcTask, choose
from trm.data.arc.split import split_built, split_subsets
from trm.data.arc.tables import ArcPuzzles, ArcTables, ArcVotes, Names
from trm.data.puzzles import PuzzleData
from trm.support import counter_rng
from trm.support.errors import InputError
from trm.tasks.arc import COLOURS, FLIP_COLUMNS, FLIP_ROWS, SIDE, SWAP, Arc
from trm.tasks.base import Task


def from_arc(
    task: Task,
    path: str | None,
    train: Sequence[str] = ("training", "evaluation", "concept"),
    test: str = "evaluation",
    augmentations: int = 1000,
    val_tasks: int = 20,
    tasks: int | None = None,
    seed: int = 0,
    test_tasks: int | None = None,
) -> PuzzleData:
    """Read ARC tasks and number their augmentations; nothing else is made before it is wanted.

    Trained on: all demonstrations and, but for the tasks of ``test`` and those held out, the test
    pairs. The test outputs of ``test`` are in no training batch. Outputs that are not known are
    compared with nothing.

    Where there is a single subset, ``test_tasks`` of its tasks, drawn, are asked, and the manifest
    says so. A folder of the released ``build_arc_dataset.py`` keeps its splits and identifiers:
    ``train`` and ``test`` have no effect there.

    Args:
        task: an Arc
        path: folder of the files, or one file; see ``trm.data.arc.files``
        train: subsets to train on; ``test`` must be one of them, since only a task that was trained
            on has an identifier
        test: subset whose test inputs are asked
        augmentations: per task, at most; different ones only
        val_tasks: tasks of other subsets whose test pairs are held out for validation
        tasks: the smallest tasks of each subset, so many; None for all
        seed: of augmentations, translations and the tasks that are drawn
        test_tasks: of a single subset, how many are asked; None for a tenth

    Raises:
        InputError: files that cannot be read, or subsets that do not fit together
    """
    if not isinstance(task, Arc):
        raise InputError(f"data: ARC files hold no puzzles for task {task.name!r}; take task=arc")
    if path is None:
        raise InputError("data.path=null names no folder; give the one with the ARC JSON files")
    if test not in train:
        raise InputError(
            f"data.test={test} is not among data.train={list(train)}: only tasks that were trained "
            f"on have an identifier; name it in both"
        )
    if augmentations < 0 or val_tasks < 1:
        raise InputError(
            f"data.augmentations={augmentations} must be 0 or more, data.val_tasks={val_tasks} at "
            f"least 1"
        )
    folder = Path(path).expanduser()
    kind = "file" if os.path.isfile(folder) else "folder"
    source = f"{kind} {folder.name or folder.resolve().name}"
    built = read_built(folder) if is_built(folder) else None
    if built is not None:
        split = split_built(built, source, val_tasks, tasks, seed)
    else:
        subsets = choose(folder, train, test)
        split = split_subsets(subsets, source, val_tasks, test_tasks, tasks, seed)
    builder = ArcBuilder(augmentations, seed, None if built is None else built.drawn)
    for entry in split.tasks:
        builder.add(entry, split.roles[entry.name])
    return builder.data(split.source, split.shared)


class ArcBuilder:
    """Collects grids, examples and augmentations task by task.

    Args:
        augmentations: of each task, at most
        seed: of what is drawn
        drawn: augmentations by task name where they are given, as ``distinct_augmentations``
            returns them; None to draw all
    """

    def __init__(
        self,
        augmentations: int,
        seed: int,
        drawn: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self.augmentations, self.seed, self.drawn = augmentations, seed, drawn or {}
        self.grids: list[np.ndarray] = []
        self.names: list[str] = []
        self.task_of, self.turn = [torch.zeros(1).long()], [torch.zeros(1).long()]
        self.colours, self.still = [torch.arange(COLOURS)[None]], [torch.zeros(1).long() - 1]
        self.rows: dict[str, list[tuple[Tensor, Tensor]]] = {"train": [], "val": [], "test": []}
        self.unknown: list[tuple[Tensor, Tensor]] = []  # test inputs without an output
        self.votes: list[tuple[Tensor, Tensor]] = []
        self.tasks: dict[str, int] = {"train": 0, "val": 0, "test": 0}
        self.questions: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}
        self.identifiers = 1
        self.first: dict[str, int] = {}  # identifier of each task as it is

    def add(self, task: ArcTask, role: str) -> None:
        """Number the augmentations of a task and place its pairs."""
        turn, colours = self._augmentations(task)
        identifier = torch.arange(self.identifiers, self.identifiers + len(turn))
        self.first[task.name] = self.identifiers
        self.identifiers += len(turn)
        unknown = np.zeros((0, 0), dtype=np.uint8)
        answers = task.solutions or [unknown] * len(task.questions)
        tests = list(zip(task.questions, answers, strict=True))
        examples = task.demonstrations + (tests if role == "train" and task.solutions else [])
        first = len(self.grids) // 2
        for pair in examples + (tests if role != "train" else []):
            self.grids += pair
        trained = torch.arange(first, first + len(examples))
        self.rows["train"].append(_all_of(trained, identifier))
        if role != "train":
            tested = torch.arange(first + len(examples), first + len(examples) + len(tests))
            rows = self.rows[role] if task.solutions else self.unknown
            rows.append(_all_of(tested, identifier[:1]))
            if role == "test":
                self.votes.append(_all_of(tested, identifier))
                self.questions[task.name] = (task.questions, task.solutions)
        key = counter_rng.key(self.seed, identifier)
        self.still.append(first + counter_rng.below(key, len(examples)))
        self.task_of.append(torch.full_like(identifier, len(self.names)))
        self.turn.append(turn)
        self.colours.append(colours)
        self.names.append(task.name)
        self.tasks[role] += 1

    def _augmentations(self, task: ArcTask) -> tuple[Tensor, Tensor]:
        if task.name not in self.drawn:
            return distinct_augmentations(task, self.augmentations, self.seed)
        turn, colours = self.drawn[task.name]
        return turn[: self.augmentations + 1], colours[: self.augmentations + 1]

    def tables(self) -> ArcTables:
        """Return the grids and augmentations so far."""
        canvas = torch.zeros(len(self.grids), SIDE, SIDE, dtype=torch.uint8)
        for number, grid in enumerate(self.grids):
            canvas[number, : grid.shape[0], : grid.shape[1]] = torch.from_numpy(grid)
        turn = torch.cat(self.turn)
        return ArcTables(
            canvas,
            torch.tensor([grid.shape for grid in self.grids]),
            self.names,
            task_of=torch.cat(self.task_of),
            turn=turn,
            bearing=torch.tensor([SWAP, FLIP_ROWS, FLIP_COLUMNS]).T[turn],
            colours=torch.cat(self.colours),
            still=torch.cat(self.still),
        )

    def data(self, source: str, shared: int) -> PuzzleData:
        """Put it together; ``shared`` test tasks have a pair in common with tasks trained on."""
        tables = self.tables()
        # An unknown output is no wrong answer: it counts only where nothing at all is known.
        self.rows["test"] = self.rows["test"] or self.unknown
        splits = {
            name: ArcPuzzles(
                tables,
                torch.cat([pair for pair, _ in rows]),
                torch.cat([identifier for _, identifier in rows]),
                moves=self.seed if name == "train" else None,
            )
            for name, rows in self.rows.items()
        }
        checksums = "".join(puzzles.checksum() for puzzles in splits.values())
        pairs, identifiers = (torch.cat(part) for part in zip(*self.votes, strict=True))
        manifest = {
            "task": "arc",
            "source": source,
            "counts": {name: len(puzzles) for name, puzzles in splits.items()},
            "symmetry_classes": dict(self.tasks),
            "shared_symmetry_classes": {"train and test": shared},
            "augmentations": self.augmentations,
            "identifiers": self.identifiers,
            "first_identifiers": self.first,
            "sha256": hashlib.sha256(checksums.encode()).hexdigest(),
        }
        votes = ArcVotes(ArcPuzzles(tables, pairs, identifiers), Names(tables), self.questions)
        return PuzzleData(splits, 0, manifest, self.identifiers, votes)


def _all_of(pairs: Tensor, identifiers: Tensor) -> tuple[Tensor, Tensor]:
    """Return every pair under every identifier."""
    return pairs.repeat(len(identifiers)), identifiers.repeat_interleave(len(pairs))
