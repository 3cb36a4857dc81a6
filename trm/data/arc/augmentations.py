"""Which augmentations of an ARC task are different ones."""

import zlib

import numpy as np
import torch
from torch import Tensor

from trm.data.arc.files import ArcTask
from trm.support import counter_rng
from trm.tasks.arc import COLOURS, DIHEDRAL, FLIP_COLUMNS, FLIP_ROWS, SIDE, SWAP

_DRAWN = 1.5  # augmentations drawn per one wanted; more where many turn out alike
_MOST_DRAWN = 20_000  # finds, but for one chance in 10^12, all 576 of a task with two colours


def distinct_augmentations(task: ArcTask, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw augmentations that give different tasks, the task itself first.

    Colours 1 ... 9 are permuted (black stays), then the grid is turned. Two that give the same
    pairs, in whatever order, are one: a task may be symmetric, or have few colours. They are told
    apart by a hash of all that may be seen of the task. A hash of a grid is a sum over its cells,
    so ten numbers for each colour and turn of a grid give the hashes of all its augmentations.

    Args:
        task: its solutions are not looked at
        count: wanted beside the task itself; fewer if there are not so many
        seed: of the draw

    Returns:
        elements of the dihedral group (augmentations,), and what becomes of each colour
        (augmentations, 10)
    """
    hashes = _hash_tables(task)
    key = counter_rng.key(seed, zlib.crc32(task.name.encode()))
    turn, colours = torch.zeros(1, dtype=torch.int64), torch.arange(COLOURS)[None]
    most = max(int(_DRAWN * count), _MOST_DRAWN)
    for drawn in (int(_DRAWN * count), most):
        keys = counter_rng.key(key, torch.arange(drawn))
        turns = torch.cat([turn, counter_rng.below(keys, DIHEDRAL)])
        order = counter_rng.draws(counter_rng.mix(keys), COLOURS - 1).argsort(1) + 1
        permuted = torch.cat([torch.zeros(drawn, 1, dtype=torch.int64), order], dim=1)
        permuted = torch.cat([colours, permuted])
        first = _first_of_each(_hashes(hashes, turns, permuted))[: count + 1]
        if len(first) > count or drawn == most:
            return turns[first], permuted[first]
    raise AssertionError("the loop returns")


def _hash_tables(task: ArcTask) -> list[tuple[Tensor, Tensor | None]]:
    """Return, for the input and output of every pair, (turn, colour, new colour) int64 sums."""
    pairs = [*task.demonstrations, *((question, None) for question in task.questions)]
    return [
        (_hash_table(question), None if answer is None else _hash_table(answer))
        for question, answer in pairs
    ]


def _hash_table(grid: np.ndarray) -> Tensor:
    rows, columns = grid.shape
    row, column = (torch.from_numpy(index).flatten() for index in np.indices(grid.shape))
    colour = torch.from_numpy(grid.astype(np.int64)).flatten()
    table = torch.zeros(DIHEDRAL, COLOURS, COLOURS, dtype=torch.int64)
    for turn in range(DIHEDRAL):
        # Where each cell goes: the inverse of what ``canvases`` reads.
        a = rows - 1 - row if FLIP_ROWS[turn] else row
        b = columns - 1 - column if FLIP_COLUMNS[turn] else column
        i, j, height, width = (b, a, columns, rows) if SWAP[turn] else (a, b, rows, columns)
        place = counter_rng.key(height, width, i * SIDE + j)
        worth = counter_rng.mix(place[:, None] ^ torch.arange(COLOURS))
        table[turn].index_add_(0, colour, worth)
    return table


def _hashes(tables: list[tuple[Tensor, Tensor | None]], turn: Tensor, colours: Tensor) -> Tensor:
    """Return a hash of the task under each augmentation, whatever the order of its pairs."""
    every = torch.arange(COLOURS)

    def of_grid(table: Tensor | None) -> Tensor:
        if table is None:
            return torch.zeros_like(turn)
        return counter_rng.mix(table[turn[:, None], every, colours].sum(1))

    pairs = [
        counter_rng.mix(of_grid(question) ^ counter_rng.mix(of_grid(answer)))
        for question, answer in tables
    ]
    return torch.stack(pairs).sum(0)


def _first_of_each(hashes: Tensor) -> Tensor:
    """Return the index of the first of equal hashes, in order."""
    _, first = np.unique(hashes.numpy(), return_index=True)
    return torch.from_numpy(np.sort(first))
