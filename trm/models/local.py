"""A network in which each cell sees its neighbours, whatever the grid."""

from collections.abc import Mapping
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from trm.models.layers import linear, rms_norm, truncated_normal_
from trm.models.structured import StructuredModel, StructuredOptions

_SIDE = 3  # rows and columns of the kernel


class LocalModel(StructuredModel):
    """A feature for each cell of a grid and a 3x3 convolution: what is near matters, not where.

    ``y`` and ``z`` are (batch, rows, columns, dim). What a cell knows travels one cell in a pass,
    so long paths take many passes.

    Args:
        vocab_size: number of tokens
        grid_shape: rows and columns
        options: see ``StructuredOptions``

    Raises:
        InputError: a value out of range
    """

    def __init__(
        self,
        vocab_size: int,
        grid_shape: tuple[int, int],
        **options: Any,
    ) -> None:
        super().__init__(LocalBlock, StructuredOptions(**options))
        self.resize({"grid_shape": grid_shape})
        self.embedding = nn.Embedding(
            vocab_size, self.dim, _weight=torch.randn(vocab_size, self.dim)
        )
        self.answer_head = linear(self.dim, vocab_size, bias=True)

    def resize(self, structure: Mapping[str, Any]) -> None:
        """Take on the size of a task; see ``StructuredModel``."""
        self.grid_shape = tuple(structure["grid_shape"])

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.grid_shape

    def embed(self, x_input: Tensor, puzzle_id: Tensor) -> Tensor:
        """Embed tokens: (batch, rows, columns, dim)."""
        return self.embedding(x_input).unflatten(1, self.grid_shape)

    def logits(self, x_input: Tensor, y: Tensor) -> Tensor:
        """Read the answer at every cell."""
        return self.answer_head(y).flatten(1, 2)

    def cell_features(self, y: Tensor) -> Tensor:
        """Return the cells as they are."""
        return y.flatten(1, 2)


class LocalBlock(nn.Module):
    """Post-norm gated layer over each cell and its eight neighbours; beyond the edge is nothing.

    Args:
        dim: width
        hidden: width of the gated hidden layer
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        # A matrix, so that optimizers of matrices take it as one.
        fan_in = _SIDE**2 * dim
        self.near = nn.Parameter(
            truncated_normal_(torch.empty(2 * hidden, fan_in), 1 / sqrt(fan_in))
        )
        self.bias = nn.Parameter(torch.zeros(2 * hidden))
        self.down = linear(hidden, dim)

    def forward(self, h: Tensor) -> Tensor:
        """Map (batch, rows, columns, dim) to the same."""
        kernel = rearrange(self.near, "f (i j d) -> f d i j", i=_SIDE, j=_SIDE)
        seen = F.conv2d(rearrange(h, "b r c d -> b d r c"), kernel, self.bias, padding="same")
        value, gate = rearrange(seen, "b d r c -> b r c d").chunk(2, dim=-1)
        return rms_norm(h + self.down(value * F.silu(gate)))
