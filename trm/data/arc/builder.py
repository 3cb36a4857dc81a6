"""ARC-AGI as training data: pairs of grids under augmentations that are never written down."""

import hashlib
import logging
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trm.data.arc.augmentations import distinct_augmentations
from trm.data.arc.files import ArcTask, read_subset
from trm.data.arc.tables import ArcPuzzles, ArcTables, ArcVotes, Names
from trm.data.puzzles import PuzzleData
from trm.support import counter_rng
from trm.support.errors import InputError
from trm.tasks.arc import COLOURS, FLIP_COLUMNS, FLIP_ROWS, SIDE, SWAP, Arc
from trm.tasks.base import Task

_log = logging.getLogger(__name__)


def from_arc(
    task: Task,
    path: str | None,
    train: Sequence[str] = ("training", "evaluation", "concept"),
    test: str = "evaluation",
    augmentations: int = 1000,
    val_tasks: int = 20,
    tasks: int | None = None,
    seed: int = 0,
) -> PuzzleData:
    """Read ARC tasks and number their augmentations; nothing else is made before it is wanted.

    Trained on: all demonstrations and, but for the tasks of ``test`` and those held out, the test
    pairs. The test outputs of ``test`` are in no training batch.

    Args:
        task: an Arc
        path: folder of the files, see ``trm.data.arc.files``
        train: subsets to train on; ``test`` must be one of them, since only a task that was trained
            on has an identifier
        test: subset whose test inputs are asked
        augmentations: per task, at most; different ones only
        val_tasks: tasks of other subsets whose test pairs are held out for validation
        tasks: the smallest tasks of each subset, so many; None for all
        seed: of augmentations, translations and the held-out tasks

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
            f"on have an identifier"
        )
    if augmentations < 0 or val_tasks < 1:
        raise InputError(
            f"data.augmentations={augmentations} must be 0 or more, data.val_tasks={val_tasks} at "
            f"least 1"
        )
    folder = Path(path).expanduser()
    read = {name: _smallest(read_subset(folder, name), tasks) for name in train}
    everything = {entry.name: entry for name in train for entry in read[name].values()}
    everything |= read[test]  # ARC-AGI-2 has tasks of ARC-AGI-1: as test tasks they stay hidden
    others = [entry for name, entry in everything.items() if name not in read[test]]
    also = {name for subset in train if subset != test for name in read[subset]} & read[test].keys()
    if also:
        _log.warning(
            f"warning: {len(also)} of {len(read[test])} {test} tasks are in other subsets as well; "
            f"here they are test tasks only, and their test pairs are not trained on"
        )
    held_out = _held_out(others, val_tasks, seed)
    builder = ArcBuilder(augmentations, seed)
    for entry in everything.values():
        is_test, is_val = entry.name in read[test], entry.name in held_out
        builder.add(entry, role="test" if is_test else "val" if is_val else "train")
    shared = _shared(read[test].values(), others)
    if shared:
        _log.warning(
            f"warning: {len(shared)} of {len(read[test])} {test} tasks share a pair with tasks "
            f"that are trained on as a whole ({', '.join(shared[:3])}, ...): memory may solve them"
        )
    return builder.data(f"folder {folder.name}: {', '.join(train)}; tested on {test}", len(shared))


class ArcBuilder:
    """Collects grids, examples and augmentations task by task."""

    def __init__(self, augmentations: int, seed: int) -> None:
        self.augmentations, self.seed = augmentations, seed
        self.grids: list[np.ndarray] = []
        self.names: list[str] = []
        self.task_of, self.turn = [torch.zeros(1).long()], [torch.zeros(1).long()]
        self.colours, self.still = [torch.arange(COLOURS)[None]], [torch.zeros(1).long() - 1]
        self.rows: dict[str, list[tuple[Tensor, Tensor]]] = {"train": [], "val": [], "test": []}
        self.votes: list[tuple[Tensor, Tensor]] = []
        self.tasks: dict[str, int] = {"train": 0, "val": 0, "test": 0}
        self.questions: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}
        self.identifiers = 1

    def add(self, task: ArcTask, role: str) -> None:
        """Number the augmentations of a task and place its pairs."""
        turn, colours = distinct_augmentations(task, self.augmentations, self.seed)
        identifier = torch.arange(self.identifiers, self.identifiers + len(turn))
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
            self.rows[role].append(_all_of(tested, identifier[:1]))
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
            "sha256": hashlib.sha256(checksums.encode()).hexdigest(),
        }
        votes = ArcVotes(ArcPuzzles(tables, pairs, identifiers), Names(tables), self.questions)
        return PuzzleData(splits, 0, manifest, self.identifiers, votes)


def _all_of(pairs: Tensor, identifiers: Tensor) -> tuple[Tensor, Tensor]:
    """Return every pair under every identifier."""
    return pairs.repeat(len(identifiers)), identifiers.repeat_interleave(len(pairs))


def _smallest(tasks: dict[str, ArcTask], count: int | None) -> dict[str, ArcTask]:
    if count is None:
        return tasks
    if count < 1:
        raise InputError(f"data.tasks={count} must be at least 1, or null for all")

    def cells(name: str) -> int:
        pairs = tasks[name].demonstrations
        return max(grid.size for pair in pairs for grid in pair)

    return {name: tasks[name] for name in sorted(tasks, key=cells)[:count]}


def _held_out(tasks: list[ArcTask], count: int, seed: int) -> set[str]:
    solved = [task.name for task in tasks if task.solutions]
    if len(solved) <= count:
        raise InputError(
            f"data.val_tasks={count} leaves nothing of the {len(solved)} tasks with solutions "
            f"outside the test subset; hold out fewer"
        )
    numbers = torch.tensor([zlib.crc32(name.encode()) for name in solved])
    order = counter_rng.key(seed, numbers).argsort()
    return {solved[int(k)] for k in order[:count]}


def _shared(tests: Iterable[ArcTask], others: list[ArcTask]) -> list[str]:
    """Return the test tasks that have a pair in common with the others."""
    known = {pair for task in others for pair in _pairs(task)}
    return [task.name for task in tests if any(pair in known for pair in _pairs(task))]


def _pairs(task: ArcTask) -> Iterator[tuple[bytes, ...]]:
    tests = zip(task.questions, task.solutions, strict=False)
    for pair in [*task.demonstrations, *tests]:
        yield tuple(bytes(grid.shape) + grid.tobytes() for grid in pair)
