"""Training batches as a pure function of (seed, step)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trm.data.filling import UNTOUCHED, Filling
from trm.data.puzzles import Puzzles
from trm.support import counter_rng
from trm.support.batched import Batched
from trm.tasks.base import Task

_FILLING = 1  # tells this use of a draw's key from the copy's
_SIZE = 2  # and of (seed, step)
_SPEED = 1.5  # the largest size comes most often from two thirds of a run on
_NARROW = 3.0  # how much rarer the other sizes are
_ALWAYS = 0.1  # share that each keeps


@dataclass(frozen=True)
class Batch(Batched):
    """Puzzles as the model reads them.

    Attributes:
        x_input: questions, (batch, seq) int64
        y_true: answers, (batch, seq) int64; PAD cells are not scored
        puzzle_id: identifiers, (batch,) int64
    """

    x_input: Tensor
    y_true: Tensor
    puzzle_id: Tensor

    @classmethod
    def of(cls, puzzles: Puzzles, device: torch.device | str = "cpu") -> "Batch":
        """Load a set of puzzles as one batch."""
        rows = puzzles.on(device)(torch.arange(len(puzzles), device=device))
        return cls(*(tensor.long() for tensor in rows))


class Sampler:
    """Draw puzzles with replacement and a symmetric copy of each, all on one device.

    Nothing advances: batch ``k`` needs neither the batches before it nor a generator's state, so
    a resumed run and any number of processes see the same stream.

    Args:
        puzzles: training puzzles
        task: gives the symmetries
        batch_size: puzzles per batch, over all processes
        seed: of the stream; the fixed set of copies depends on it too
        augmentations: see ``PuzzleData``
        device: where the puzzles are kept and the batches made
        filling: what is filled in before they are shown
    """

    def __init__(
        self,
        puzzles: Puzzles,
        task: Task,
        batch_size: int,
        seed: int,
        augmentations: int | None,
        device: torch.device | str = "cpu",
        filling: Filling = UNTOUCHED,
    ) -> None:
        self.task, self.batch_size, self.seed = task, batch_size, seed
        self.augmentations, self.filling = augmentations, filling
        self.device = torch.device(device)
        self._rows, self._count = puzzles.on(self.device), len(puzzles)

    def batch(self, k: int, rank: int = 0, world_size: int = 1) -> Batch:
        """Return batch ``k``, or the ``rank``-th of its ``world_size`` equal slices."""
        share = self.batch_size // world_size
        slots = torch.arange(rank * share, (rank + 1) * share, device=self.device)
        keys = counter_rng.key(self.seed, k, slots)
        puzzle = counter_rng.below(keys, self._count)
        x_input, y_true, puzzle_id = self._rows(puzzle)
        if self.augmentations != 0:
            symmetry = self.task.symmetries(self._copy_keys(keys, puzzle))
            x_input, y_true = symmetry(x_input), symmetry(y_true)
        keys = counter_rng.key(keys, _FILLING)
        x_input, y_true = self.filling(self.task, x_input.long(), y_true.long(), keys)
        return Batch(x_input, y_true, puzzle_id)

    def _copy_keys(self, keys: Tensor, puzzle: Tensor) -> Tensor:
        keys = counter_rng.mix(keys)
        if self.augmentations is None:
            return keys
        copy = counter_rng.below(keys, self.augmentations + 1)
        return torch.where(copy == 0, 0, counter_rng.key(self.seed, puzzle, copy))


class MixedSampler:
    """Batches of several sizes: each batch has one, drawn by (seed, step).

    With ``steps``, small sizes come first: what a size has of the batches is largest where its
    place among the sizes, from smallest to largest, is that of the step in the first two thirds of
    the run; no size ever ends.

    Args:
        samplers: one for each size
        seed: of the draws
        steps: of the run; None for all sizes equally often
    """

    def __init__(self, samplers: Sequence[Sampler], seed: int, steps: int | None = None) -> None:
        self.samplers = sorted(samplers, key=lambda sampler: sampler.task.cells)
        self.seed, self.steps = seed, steps
        self._place = torch.linspace(0, 1, len(samplers), dtype=torch.float64)

    def batch(self, k: int, rank: int = 0, world_size: int = 1) -> Batch:
        """Return batch ``k``, or the ``rank``-th of its equal slices."""
        share = self.shares(k).cumsum(0)
        drawn = counter_rng.uniform(counter_rng.key(self.seed, k, _SIZE))
        number = int((drawn >= share / share[-1]).sum())
        return self.samplers[number].batch(k, rank, world_size)

    def shares(self, k: int) -> Tensor:
        """Return how often each size comes at step ``k``, from the smallest, float64."""
        if self.steps is None:
            return torch.ones_like(self._place)
        here = min(1.0, _SPEED * k / self.steps)
        return torch.exp(-_NARROW * (self._place - here).abs()) + _ALWAYS
