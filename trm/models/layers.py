"""The layers that the recursive models share, numerically those of the published code."""

from collections.abc import Callable
from math import sqrt
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from trm.errors import InputError

Mixing = Literal["attention", "mlp"]

_RMS_EPS = 1e-5
_ROTARY_BASE = 10_000.0
_TRUNCATED_STD = 0.87962566103423978  # of a unit normal cut at two standard deviations


def rms_norm(h: Tensor) -> Tensor:
    """Scale the last axis to root mean square 1; no parameters."""
    return F.rms_norm(h, h.shape[-1:], eps=_RMS_EPS)


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


class SwiGLU(nn.Module):
    """Gated MLP on the last axis: ``down(silu(gate) * up)``; see ``swiglu_width``."""

    def __init__(self, dim: int, expansion: float, multiple: int) -> None:
        super().__init__()
        hidden = swiglu_width(dim, expansion, multiple)
        self.gate_up = linear(dim, 2 * hidden)
        self.down = linear(hidden, dim)

    def forward(self, h: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        gate, up = self.gate_up(h).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Rotary(nn.Module):
    """Rotary positions (Su et al., arXiv 2104.09864): base 10000, halves rotated.

    The tables follow the module's dtype but are always rounded from float64, so that
    ``model.double()`` is exact.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, seq_len: int) -> None:
        super().__init__()
        with torch.device("cpu"):  # whatever device the model is made on, "meta" included
            even = torch.arange(0, head_dim, 2, dtype=torch.float64)
            positions = torch.arange(seq_len, dtype=torch.float64)
            angle = torch.outer(positions, _ROTARY_BASE ** (-even / head_dim)).repeat(1, 2)
            self._exact = {"cos": angle.cos(), "sin": angle.sin()}
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
        """Rotate (batch, heads, seq, head_dim)."""
        first, second = h.chunk(2, dim=-1)
        rotated = torch.cat([-second, first], dim=-1)
        # Under autocast h is bfloat16 and the tables are not: rotate in float32, as published.
        return (h * self.cos + rotated * self.sin).to(h.dtype)


class AttentionMixing(nn.Module):
    """Post-norm self-attention over all positions, not causal."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads or dim // heads % 2:
            raise InputError(
                f"model.dim={dim} cannot be split into model.heads={heads} heads of even width; "
                f"choose a head count that divides {dim // 2}"
            )
        self.heads = heads
        self.qkv = linear(dim, 3 * dim)
        self.out = linear(dim, dim)

    def forward(self, h: Tensor, rotary: Rotary | None) -> Tensor:
        """Map (batch, seq, dim) to (batch, seq, dim)."""
        q, k, v = rearrange(
            self.qkv(h), "b l (qkv heads d) -> qkv b heads l d", qkv=3, heads=self.heads
        )
        if rotary is not None:
            q, k = rotary(q), rotary(k)
        out = F.scaled_dot_product_attention(q, k, v)
        return rms_norm(h + self.out(rearrange(out, "b heads l d -> b l (heads d)")))


class MLPMixing(nn.Module):
    """A SwiGLU over the positions, each feature alike; the norm too runs over positions."""

    def __init__(self, seq_len: int, expansion: float, multiple: int) -> None:
        super().__init__()
        self.mlp = SwiGLU(seq_len, expansion, multiple)

    def forward(self, h: Tensor, rotary: Rotary | None) -> Tensor:
        """Map (batch, seq, dim) to (batch, seq, dim)."""
        h = rearrange(h, "b l d -> b d l")
        return rearrange(rms_norm(h + self.mlp(h)), "b d l -> b l d")


class Block(nn.Module):
    """Mix positions, then features; post-norm."""

    def __init__(
        self,
        dim: int,
        seq_len: int,
        mixing: Mixing,
        heads: int,
        expansion: float,
        hidden_multiple: int,
    ) -> None:
        super().__init__()
        self.mixing: AttentionMixing | MLPMixing
        if mixing == "attention":
            self.mixing = AttentionMixing(dim, heads)
        else:
            self.mixing = MLPMixing(seq_len, expansion, hidden_multiple)
        self.mlp = SwiGLU(dim, expansion, hidden_multiple)

    def forward(self, h: Tensor, rotary: Rotary | None) -> Tensor:
        """Map (batch, seq, dim) to (batch, seq, dim)."""
        h = self.mixing(h, rotary)
        return rms_norm(h + self.mlp(h))


class Net(nn.Module):
    """A few blocks in a row: the one tiny network of the recursion."""

    def __init__(
        self,
        layers: int,
        dim: int,
        seq_len: int,
        mixing: Mixing,
        heads: int,
        expansion: float,
        hidden_multiple: int,
        rotary: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(dim, seq_len, mixing, heads, expansion, hidden_multiple) for _ in range(layers)
        )
        self.rotary = Rotary(dim // heads, seq_len) if rotary else None

    def forward(self, h: Tensor) -> Tensor:
        """Map (batch, seq, dim) to (batch, seq, dim)."""
        for block in self.blocks:
            h = block(h, self.rotary)
        return h
