"""The layers that the recursive models share, numerically those of the published code."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

_RMS_EPS = 1e-5
_ROTARY_BASE = 10_000.0
_GRID_BASE = 100.0  # the slowest turn spans some two hundred rows, more than any grid here has
_TRUNCATED_STD = 0.87962566103423978  # of a unit normal cut at two standard deviations


def rms_norm(h: Tensor) -> Tensor:
    """Scale the last axis to root mean square 1; no parameters."""
    return F.rms_norm(h, h.shape[-1:], eps=_RMS_EPS)


def rms_norm_first(h: Tensor) -> Tensor:
    """Scale the first axis to root mean square 1, in float32 or wider as torch's own norm does."""
    wide = h.to(torch.promote_types(h.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(0, keepdim=True) + _RMS_EPS)).to(h.dtype)


def truncated_normal_(
    tensor: Tensor, std: float, generator: torch.Generator | None = None
) -> Tensor:
    """Fill with a normal cut at two standard deviations that has ``std`` *after* the cut."""
    std = std / _TRUNCATED_STD
    return nn.init.trunc_normal_(tensor, std=std, a=-2 * std, b=2 * std, generator=generator)


def linear(fan_in: int, fan_out: int, bias: bool = False) -> nn.Linear:
    """Make a linear layer with LeCun truncated-normal weights."""
    layer = nn.Linear(fan_in, fan_out, bias=bias)
    truncated_normal_(layer.weight.data, std=1 / sqrt(fan_in))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def swiglu_width(dim: int, expansion: float, multiple: int) -> int:
    """Return the hidden width: ``expansion · dim · 2/3``, rounded up to a ``multiple``."""
    return -(-round(expansion * dim * 2 / 3) // multiple) * multiple


class GroupTables(nn.Module):
    """Learned vectors of the groups that each cell belongs to, such as its row, summed.

    Args:
        groups: by name, lists of cells; each name's have every cell once
        dim: of the vectors
    """

    def __init__(self, groups: Mapping[str, Sequence[Sequence[int]]], dim: int) -> None:
        super().__init__()
        self.tables = nn.ParameterDict()
        for name, lists in groups.items():
            table = truncated_normal_(torch.empty(len(lists), dim), 1 / sqrt(dim))
            self.tables[name] = nn.Parameter(table)
            group_of = {cell: number for number, cells in enumerate(lists) for cell in cells}
            numbers = torch.tensor([group_of[cell] for cell in range(len(group_of))], device="cpu")
            self.register_buffer(f"{name}_of_cells", numbers, persistent=False)

    def forward(self) -> Tensor:
        """Return the sum of its groups' vectors for each cell, (cells, dim)."""
        vectors = [table[getattr(self, f"{name}_of_cells")] for name, table in self.tables.items()]
        return torch.stack(vectors).sum(0)


class GridConvolution(nn.Module):
    """Let each cell see its neighbours on the grid, every feature alone (depthwise).

    URM (arXiv 2512.14693) has a short convolution along the sequence at the same place, within
    SwiGLU; this one knows rows and columns. Positions in front of the grid stay as they are.

    Args:
        features: of each position
        side: rows and columns of the kernel, odd
        columns: of the grid
        prefix_len: positions in front of the grid
        batch_first: whether (batch, seq, features) or (seq, batch, features) comes in
    """

    def __init__(
        self, features: int, side: int, columns: int | None, prefix_len: int, batch_first: bool
    ) -> None:
        super().__init__()
        assert columns is not None, "checked where the sizes are known"
        self.columns, self.prefix_len, self.batch_first = columns, prefix_len, batch_first
        self.weight = nn.Parameter(
            truncated_normal_(torch.empty(features, 1, side, side), 1 / side)
        )

    def forward(self, h: Tensor) -> Tensor:
        """Map (batch, seq, features) or (seq, batch, features) to the same."""
        h = rearrange(h, "b l d -> b d l" if self.batch_first else "l b d -> b d l")
        grid = rearrange(
            h[..., self.prefix_len :],
            "b d (rows columns) -> b d rows columns",
            columns=self.columns,
        )
        seen = F.conv2d(grid, self.weight, padding="same", groups=len(self.weight)).flatten(2)
        if self.prefix_len:
            seen = torch.cat([h[..., : self.prefix_len], seen], dim=-1)
        return rearrange(seen, "b d l -> b l d" if self.batch_first else "b d l -> l b d")


@contextmanager
def casts_kept(device: torch.device) -> Iterator[None]:
    """Cast each weight once within the block, if autocast is on; for use without gradient.

    Lightning trains with autocast's cache off, since a cast that was made without gradient must not
    serve where there is one. Where nothing carries gradient nothing can be lost.
    """
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        yield
        return
    with torch.autocast(kind, torch.get_autocast_dtype(kind), cache_enabled=True):
        yield


class SwiGLU(nn.Module):
    """Gated MLP: ``down(silu(gate) * up)``; see ``swiglu_width``.

    Args:
        dim: width
        expansion: of the hidden layer
        multiple: to which its width is rounded up
        convolution: makes a convolution over the hidden features, given how many there are
        inner_norm: ``down(sigmoid(gate) * norm(gate * up))`` instead, which keeps the scale of the
            hidden layer however large an optimizer like Muon makes the weights
    """

    def __init__(
        self,
        dim: int,
        expansion: float,
        multiple: int,
        convolution: Callable[[int], GridConvolution] | None = None,
        inner_norm: bool = False,
    ) -> None:
        super().__init__()
        self.inner_norm = inner_norm
        hidden = swiglu_width(dim, expansion, multiple)
        self.gate_up = linear(dim, 2 * hidden)
        self.down = linear(hidden, dim)
        self.convolution = convolution(hidden) if convolution else None

    def forward(self, h: Tensor) -> Tensor:
        """Map the last axis of (..., dim)."""
        gate, up = self.gate_up(h).chunk(2, dim=-1)
        h = torch.sigmoid(gate) * rms_norm(gate * up) if self.inner_norm else F.silu(gate) * up
        return self.down(h if self.convolution is None else self.convolution(h))

    def on_first_axis(self, h: Tensor) -> Tensor:
        """Map the first axis of (dim, columns): a product with the weights from the left."""
        gate, up = (self.gate_up.weight @ h).chunk(2)
        if self.inner_norm:
            return self.down.weight @ (torch.sigmoid(gate) * rms_norm_first(gate * up))
        return self.down.weight @ (F.silu(gate) * up)


class Rotary(nn.Module):
    """Rotary positions (Su et al., arXiv 2104.09864): halves rotated.

    Along the sequence, base 10000, as published; or, with ``columns``, half of the frequencies
    along the rows of the grid and half along its columns, so that neighbours above and beside look
    alike everywhere. Positions in front of the grid then stand in a row of their own above it.

    The tables follow the module's dtype but are always rounded from float64, so that
    ``model.double()`` is exact.

    Args:
        head_dim: even; with ``columns``, a multiple of 4
        seq_len: positions
        columns: of the grid; None for positions along the sequence
        prefix_len: positions in front of the grid
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self, head_dim: int, seq_len: int, columns: int | None = None, prefix_len: int = 0
    ) -> None:
        super().__init__()
        with torch.device("cpu"):  # whatever device the model is made on, "meta" included
            position = torch.arange(seq_len, dtype=torch.float64)
            if columns is None:
                angle = _angles(position, head_dim, _ROTARY_BASE)
            else:
                row = ((position - prefix_len) / columns).floor().clamp(min=-1)
                column = torch.where(row < 0, position, (position - prefix_len) % columns)
                axes = (_angles(axis, head_dim // 2, _GRID_BASE) for axis in (row, column))
                angle = torch.cat([*axes], 1)
            cos, sin = angle.cos(), angle.sin()
            self._exact = {"cos": torch.cat([cos, cos], 1), "sin": torch.cat([-sin, sin], 1)}
        like = torch.empty(0)
        for name, table in self._exact.items():
            self.register_buffer(name, table.to(like.dtype).to(like.device), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        for name, table in self._exact.items():
            moved = getattr(self, name)
            setattr(self, name, table.to(moved.dtype).to(moved.device))
        return self

    def forward(self, h: Tensor) -> Tensor:
        """Rotate (..., seq, head_dim)."""
        swapped = h.roll(h.shape[-1] // 2, dims=-1)  # the sign of the first half is in the table
        # Under autocast h is bfloat16 and the tables are not: rotate in float32, as published.
        return (h * self.cos + swapped * self.sin).to(h.dtype)


def _angles(position: Tensor, dim: int, base: float) -> Tensor:
    """Return (positions, dim / 2) angles of geometrically falling frequencies."""
    even = torch.arange(0, dim, 2, dtype=torch.float64)
    return torch.outer(position, base ** (-even / dim))
