"""Batches for Lightning: the loaders say which, and the batch is made on the device."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from trm.data.filling import UNTOUCHED, Filling
from trm.data.puzzles import PuzzleData
from trm.data.sampler import Batch, MixedSampler, Sampler
from trm.support.errors import check_at_least
from trm.tasks.base import Task


class PuzzleDataModule(LightningDataModule):
    """Training batches that are a function of the step, validation batches in order.

    The training loader yields step numbers, starting at the trainer's ``global_step``: a resumed
    run continues with the very batch that would have come next. The validation loader yields
    puzzle numbers. ``on_after_batch_transfer`` makes the batch on the device.

    Args:
        data: the puzzles
        task: gives the symmetries
        batch_size: training puzzles per step, over all processes
        eval_batch_size: validation puzzles at once, per process
        seed: of the training stream
        filling: what training puzzles are filled in with
        others: further sizes to train on, as task and puzzles; their batches have as many puzzles
            as make about as many cells
        small_first: of how many steps small sizes come first; None for all alike

    Raises:
        InputError: a batch size below 1, or a task whose puzzles cannot be filled in
    """

    def __init__(
        self,
        data: PuzzleData,
        task: Task,
        batch_size: int,
        eval_batch_size: int,
        seed: int,
        filling: Filling = UNTOUCHED,
        others: Sequence[tuple[Task, PuzzleData]] = (),
        small_first: int | None = None,
    ) -> None:
        super().__init__()
        filling.check(task)
        self.filling = filling
        self.others, self.small_first = others, small_first
        check_at_least(1, "train.", batch_size=batch_size, eval_batch_size=eval_batch_size)
        self.data, self.task, self.seed = data, task, seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self._sampler: Sampler | MixedSampler | None = None

    def train_dataloader(self) -> DataLoader[int]:
        """Yield the numbers of the steps still to do, without end: ``max_steps`` ends training.

        A loader that ends with the run would be saved as exhausted, and a longer run could not
        continue from there.
        """
        return _loader(lambda: count(self._trainer.global_step))

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Yield the numbers of this process's validation puzzles, each exactly once."""
        return _loader(self._validation_numbers)

    def on_after_batch_transfer(self, batch: int | Tensor, dataloader_idx: int) -> Batch:
        """Turn a step number into its training batch, puzzle numbers into these puzzles."""
        if isinstance(batch, Tensor):
            val = self.data.splits["val"][batch.cpu().numpy()]
            return Batch.of(val, self._trainer.strategy.root_device)
        if self._sampler is None:
            self._sampler = self._make_sampler()
        return self._sampler.batch(batch, self._trainer.global_rank, self._trainer.world_size)

    def _make_sampler(self) -> Sampler | MixedSampler:
        device, processes = self._trainer.strategy.root_device, self._trainer.world_size
        samplers = []
        for task, data in ((self.task, self.data), *self.others):
            as_many_cells = self.batch_size * self.task.cells // task.cells
            samplers.append(
                Sampler(
                    data.splits["train"],
                    task,
                    max(1, as_many_cells // processes) * processes,
                    self.seed,
                    data.augmentations,
                    device,
                    self.filling,
                )
            )
        if len(samplers) == 1:
            return samplers[0]
        return MixedSampler(samplers, self.seed, self.small_first)

    @property
    def _trainer(self) -> Any:
        assert self.trainer is not None, "the data module belongs to a running trainer"
        return self.trainer

    def _validation_numbers(self) -> Sequence[Tensor]:
        puzzles = len(self.data.splits["val"])
        mine = torch.arange(self._trainer.global_rank, puzzles, self._trainer.world_size)
        return mine.split(self.eval_batch_size)


class _Stream(IterableDataset[Any]):
    """An iterable made afresh for each pass."""

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        return iter(self.make())


def _loader(make: Callable[[], Iterable[Any]]) -> DataLoader[Any]:
    return DataLoader(_Stream(make), batch_size=None, num_workers=0)
