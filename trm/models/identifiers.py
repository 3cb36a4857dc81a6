"""The table of puzzle identifiers: one learned row per (augmented) task."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from trm.support import distributed


def _unrounded(device: str) -> AbstractContextManager[Any]:
    """Turn autocast off, where a kind of device has it."""
    has_it = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if has_it else nullcontext()


class IdentifierTable:
    """Rows read into the batch, rows written back; no parameter and no buffer of the network.

    With 876,403 rows of 512 (ARC-AGI-1 with augmentations) the table weighs 1.8 GB: a copy, an
    EMA, an all-reduce or a zero-grad over it would cost more than the training step. So it is an
    object of its own that only ever touches the rows a batch uses.

    Rows start at zero, as in the published code.

    Args:
        count: number of identifiers
        dim: width of a row
    """

    def __init__(self, count: int, dim: int) -> None:
        self.weights = torch.zeros(count, dim)
        self._read: list[tuple[Tensor, Tensor]] = []

    def rows(self, puzzle_id: Tensor) -> Tensor:
        """Return the rows of (batch,) ``puzzle_id``: (batch, dim).

        Where gradients are on, the rows are a leaf whose gradient ``update`` will use.
        """
        rows = self.weights[puzzle_id.to(self.weights.device)].to(puzzle_id.device)
        if torch.is_grad_enabled():
            rows.requires_grad_()
            self._read.append((puzzle_id, rows))
        return rows

    def gradient(self) -> tuple[Tensor, Tensor]:
        """Return identifiers (reads,) and gradients (reads, dim) of the rows read so far."""
        read = [(ids, rows.grad) for ids, rows in self._read if rows.grad is not None]
        ids = [ids.to(self.weights.device) for ids, _ in read]
        grads = [grad.to(self.weights) for _, grad in read]
        none = self.weights[:0]
        return torch.cat([none[:, 0].long(), *ids]), torch.cat([none, *grads])

    def forget(self) -> None:
        """Drop rows that were read but not updated (the table's ``zero_grad``)."""
        self._read.clear()

    @torch.no_grad()
    def update(self, lr: float, weight_decay: float) -> None:
        """Take a sign-SGD step on the rows read since the last one.

        Gradients of equal identifiers are summed first, over all processes, then
        ``row ← row · (1 − lr · weight_decay) − lr · sign(gradient)``. Cost and memory depend on the
        batch, not on the table.
        """
        ids, grads = (distributed.gathered(tensor) for tensor in self.gradient())
        self.forget()
        # Repeated identifiers all get the same sum and write the same row: unlike unique(), this
        # has a static shape and need not wait for the device.
        with _unrounded(grads.device.type):  # or signs would be of sums in bfloat16
            summed = (ids[:, None] == ids).to(grads.dtype) @ grads
        decayed = self.weights[ids] * (1 - lr * weight_decay)
        self.weights[ids] = decayed - lr * summed.sign()

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Move or cast, as ``nn.Module.to`` does with parameters."""
        self.weights = fn(self.weights)

    def __deepcopy__(self, memo: dict[int, Any]) -> "IdentifierTable":
        # An averaged copy of the network reads the same table: rows have no EMA.
        return self
