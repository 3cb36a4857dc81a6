"""Values made of tensors that share their first axis, such as one row per puzzle."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Self

import torch
from torch import Tensor

from trm.support import counter_rng


class Batched:
    """What a frozen dataclass of tensors can do row by row, written once.

    Every field is a tensor whose first axis is the batch, or another ``Batched``::

        @dataclass(frozen=True)
        class State(Batched):
            y: Tensor  # (batch, seq, dim)
            z: Tensor

        state[2:5]; state[solved]; state.detach(); State.cat([one, other])
    """

    def __len__(self) -> int:
        return len(next(self.tensors())[1])

    def __getitem__(self, index: Any) -> Self:
        """Select rows by slice, mask or numbers."""
        return self.map(lambda tensor: tensor[index])

    def map(self, function: Callable[..., Tensor], *others: Self) -> Self:
        """Apply a function to each tensor, and to the tensors of ``others`` at the same place."""
        parts = {}
        for field in fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            mine, *theirs = (getattr(one, field.name) for one in (self, *others))
            nested = isinstance(mine, Batched)
            parts[field.name] = mine.map(function, *theirs) if nested else function(mine, *theirs)
        return type(self)(**parts)

    def detach(self) -> Self:
        """Cut the gradient."""
        return self.map(Tensor.detach)

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        return self.map(lambda tensor: tensor.to(device))

    def where(self, mask: Tensor, other: Self) -> Self:
        """Keep the rows that a (batch,) bool marks, and take the others from ``other``."""

        def chosen(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(mask.view(-1, *[1] * (mine.dim() - 1)), mine, theirs)

        return self.map(chosen, other)

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Join along the batch."""
        first, *rest = parts
        return first.map(lambda *tensors: torch.cat(tensors), *rest)

    def tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Yield names and tensors; those of a nested value are named ``field.name``."""
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Batched):
                yield from value.tensors(f"{prefix}{field.name}.")
            else:
                yield prefix + field.name, value

    def features(self) -> Iterator[tuple[str, Tensor]]:
        """Yield, of ``tensors``, the features: numbers of many kinds, no tokens, keys or counts."""
        for name, tensor in self.tensors():
            if tensor.is_floating_point() and tensor.dim() > 1:
                yield name, tensor

    def with_tensors(self, named: Mapping[str, Tensor], prefix: str = "") -> Self:
        """Return a value of this form that holds other tensors, named as ``tensors`` does.

        Raises:
            KeyError: one is missing
        """
        parts = {}
        for field in fields(self):  # type: ignore[arg-type]
            value, name = getattr(self, field.name), prefix + field.name
            nested = isinstance(value, Batched)
            parts[field.name] = value.with_tensors(named, f"{name}.") if nested else named[name]
        return type(self)(**parts)


def disturbed(state: Batched, keys: Tensor, keep: float, noise: float | Tensor) -> Batched:
    """Return ``keep · state + noise · N(0, 1)``, drawn for every feature of every puzzle.

    Args:
        state: (batch, ...) tensors
        keys: of the draws, (batch,) int64
        keep: share of the state
        noise: standard deviation, one for all or (batch,)
    """
    parts = dict(state.tensors())
    for number, (name, part) in enumerate(state.features()):
        drawn = counter_rng.normal(counter_rng.key(keys, number), part[0].numel())
        scaled = (noise[:, None] if isinstance(noise, Tensor) else noise) * drawn
        parts[name] = (keep * part + scaled.view_as(part)).to(part.dtype)
    return state.with_tensors(parts)
