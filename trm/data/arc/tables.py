"""ARC examples that are made when they are wanted, from all grids and all augmentations."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trm.data.puzzles import Rows
from trm.support import counter_rng
from trm.tasks.arc import END, FIRST_COLOUR, SIDE, augmented_name


@dataclass(frozen=True)
class ArcTables:
    """All grids and all augmentations, from which every example is made when it is wanted.

    Attributes:
        grids: colours, (grids, 30, 30) uint8; of pair ``p``, ``2 p`` is the input, ``2 p + 1`` the
            output
        sizes: rows and columns of each, (grids, 2) int64; (0, 0) where an output is not known
        tasks: names
        task_of: task of each identifier, (identifiers,) int64; identifier 0 is blank
        turn: element of the dihedral group, (identifiers,) int64
        bearing: what that means: whether it swaps rows and columns, and whether it reverses each,
            (identifiers, 3) bool
        colours: what becomes of each colour, (identifiers, 10) int64
        still: pair that is not moved on the canvas in training, (identifiers,) int64
    """

    grids: Tensor
    sizes: Tensor
    tasks: list[str]
    task_of: Tensor
    turn: Tensor
    bearing: Tensor
    colours: Tensor
    still: Tensor
    _copies: dict[torch.device, "ArcTables"] = field(default_factory=dict, repr=False)

    def on(self, device: torch.device) -> "ArcTables":
        """Return the tables on a device, copied there once."""
        if device == self.grids.device:
            return self
        if device not in self._copies:
            names = ("grids", "sizes", "task_of", "turn", "bearing", "colours", "still")
            moved = {name: getattr(self, name).to(device) for name in names}
            self._copies[device] = replace(self, **moved, _copies={})
        return self._copies[device]

    def canvases(self, grid: Tensor, identifier: Tensor, shift: Tensor) -> Tensor:
        """Make (batch, 900) uint8 canvases of augmented grids.

        Args:
            grid: which, (batch,) int64
            identifier: whose augmentation, (batch,) int64
            shift: rows and columns by which the grid is moved, (batch, 2) int64
        """
        device = grid.device
        swap, flip_rows, flip_columns = self.bearing[identifier].T[:, :, None, None]
        rows, columns = self.sizes[grid].T[:, :, None, None]
        place = torch.arange(SIDE, device=device)
        i = place[None, :, None] - shift[:, 0, None, None]
        j = place[None, None, :] - shift[:, 1, None, None]
        height, width = torch.where(swap, columns, rows), torch.where(swap, rows, columns)
        in_rows, in_columns = (i >= 0) & (i < height), (j >= 0) & (j < width)
        row, column = torch.where(swap, j, i), torch.where(swap, i, j)
        row = torch.where(flip_rows, rows - 1 - row, row).clamp(0, SIDE - 1)
        column = torch.where(flip_columns, columns - 1 - column, column).clamp(0, SIDE - 1)
        colour = self.grids[grid].flatten(1).gather(1, (row * SIDE + column).flatten(1)).long()
        token = self.colours[identifier].gather(1, colour).unflatten(1, (SIDE, SIDE)) + FIRST_COLOUR
        known = height > 0
        is_end = known & ((in_columns & (i == height)) | (in_rows & (j == width)))
        canvas = torch.where(in_rows & in_columns, token, torch.where(is_end, END, 0))
        return canvas.flatten(1).to(torch.uint8)


class Names(Sequence[str]):
    """Names of the identifiers, as released, made when they are asked for."""

    def __init__(self, tables: ArcTables) -> None:
        self.tables = tables

    def __len__(self) -> int:
        return len(self.tables.task_of)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        if index == 0:
            return "<blank>"
        task = self.tables.tasks[int(self.tables.task_of[index])]
        return augmented_name(
            task, int(self.tables.turn[index]), self.tables.colours[index].numpy()
        )


@dataclass(frozen=True)
class ArcPuzzles:
    """Examples as (pair, identifier); their canvases are made when they are indexed by ``on``.

    Attributes:
        tables: see there
        pair: (examples,) int64
        identifier: (examples,) int64
        moves: seed of the translations; None for none
    """

    tables: ArcTables
    pair: Tensor
    identifier: Tensor
    moves: int | None = None

    def __len__(self) -> int:
        return len(self.pair)

    def __getitem__(self, index: slice | np.ndarray) -> "ArcPuzzles":
        which = index if isinstance(index, slice) else torch.from_numpy(np.asarray(index))
        return replace(self, pair=self.pair[which], identifier=self.identifier[which])

    def on(self, device: torch.device | str) -> Rows:
        """Return a function from numbers to questions, answers and identifiers on a device."""
        device = torch.device(device)
        tables = self.tables.on(device)
        pairs, identifiers = self.pair.to(device), self.identifier.to(device)

        def examples(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            pair, identifier = pairs[index], identifiers[index]
            shift = self._shift(tables, pair, identifier)
            x_input = tables.canvases(2 * pair, identifier, shift)
            return x_input, tables.canvases(2 * pair + 1, identifier, shift), identifier

        return examples

    @property
    def x_input(self) -> np.ndarray:
        """All questions, (examples, 900) uint8."""
        return self.on("cpu")(torch.arange(len(self)))[0].numpy()

    @property
    def y_true(self) -> np.ndarray:
        """All answers, (examples, 900) uint8; PAD where they are not known."""
        return self.on("cpu")(torch.arange(len(self)))[1].numpy()

    def checksum(self) -> str:
        """SHA-256 of the grids and of what is made of them."""
        digest = hashlib.sha256()
        tables = self.tables
        for tensor in (tables.grids, tables.turn, tables.colours, self.pair, self.identifier):
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def _shift(self, tables: ArcTables, pair: Tensor, identifier: Tensor) -> Tensor:
        """Draw how far each example is moved: a function of its pair and identifier."""
        if self.moves is None:
            return torch.zeros(len(pair), 2, dtype=torch.int64, device=pair.device)
        sizes = torch.maximum(tables.sizes[2 * pair], tables.sizes[2 * pair + 1])
        swap = tables.bearing[identifier, :1]
        room = SIDE - torch.where(swap, sizes.flip(1), sizes) + 1
        key = counter_rng.key(self.moves, identifier, pair)
        still = (tables.still[identifier] == pair)[:, None]
        return torch.where(still, 0, counter_rng.draws(key, 2) % room)


@dataclass(frozen=True)
class ArcVotes:
    """What an ARC evaluation asks: every test input under every augmentation of its task.

    Attributes:
        puzzles: the augmented test inputs
        names: of the identifiers
        questions: name of a task to its test inputs and solutions (none if they are not known)
    """

    puzzles: ArcPuzzles
    names: Sequence[str]
    questions: Mapping[str, tuple[list[np.ndarray], list[np.ndarray]]]

    def narrowed(self, tasks: int | None, votes: int | None) -> "ArcVotes":
        """Keep the first tasks, and of each the first augmentations (itself included)."""
        names = list(self.questions)[:tasks]
        tables = self.puzzles.tables
        kept = torch.tensor([tables.tasks.index(name) for name in names])
        task = tables.task_of[self.puzzles.identifier]
        # Identifiers of a task are consecutive.
        first = torch.full((len(tables.tasks),), len(tables.task_of))
        first.scatter_reduce_(0, tables.task_of[1:], torch.arange(1, len(tables.task_of)), "amin")
        number = self.puzzles.identifier - first[task]
        chosen = torch.isin(task, kept) & (
            number < (len(tables.task_of) if votes is None else votes)
        )
        puzzles = self.puzzles[chosen.nonzero().squeeze(1).numpy()]
        return ArcVotes(puzzles, self.names, {name: self.questions[name] for name in names})
