"""A network to which all digits, rows, columns and boxes are alike."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trm.models.layers import linear, rms_norm
from trm.models.structured import StructuredModel, StructuredOptions
from trm.support.errors import InputError

_SYMBOLS_FROM = 2  # tokens before the first digit: PAD and blank
_SURE = 20.0  # logit of a digit that is given, and below zero of the others
_LOGIT_SCALE = 3.0  # of a fresh head, whose logits would take long to grow
_ROLES = 3  # of a digit in a cell: open, given, another is given


class SymmetricModel(StructuredModel):
    """A feature for each pair of cell and digit; means over rows, columns, boxes and digits.

    Permute digits, rows within a band, bands, columns, stacks, or transpose a puzzle with square
    boxes, and the logits are permuted alike, given a start permuted alike: there is nothing to
    augment. ``y`` and ``z`` are (batch, bands, rows of a box, stacks, columns of a box, digits,
    dim), and the network has no size but theirs.

    Args:
        vocab_size: PAD, blank, and a token for each digit
        grid_shape: rows and columns
        boxes: rows and columns of a box
        options: see ``StructuredOptions``

    Raises:
        InputError: a value out of range, or a task without boxes
    """

    def __init__(
        self,
        vocab_size: int,
        grid_shape: tuple[int, int],
        boxes: tuple[int, int] | None,
        **options: Any,
    ) -> None:
        super().__init__(SymmetricBlock, StructuredOptions(**options))
        self.resize({"vocab_size": vocab_size, "grid_shape": grid_shape, "boxes": boxes})
        self.role_embedding = nn.Parameter(torch.randn(_ROLES, self.dim))
        self.answer_head = linear(self.dim, 1)

    def resize(self, structure: Mapping[str, Any]) -> None:
        """Take on the size of a task; see ``StructuredModel``."""
        (rows, columns), boxes = structure["grid_shape"], structure["boxes"]
        if boxes is None or rows % boxes[0] or columns % boxes[1]:
            raise InputError(
                f"SymmetricModel needs boxes that fill the grid, and the task has boxes={boxes} in "
                f"{rows}x{columns}; take another model"
            )
        self._boxes = rows // boxes[0], boxes[0], columns // boxes[1], boxes[1]
        self.digits = structure["vocab_size"] - _SYMBOLS_FROM

    @property
    def shape(self) -> tuple[int, ...]:
        """Bands, rows of a box, stacks, columns of a box, digits."""
        return (*self._boxes, self.digits)

    def embed(self, x_input: Tensor, puzzle_id: Tensor) -> Tensor:
        """Embed each digit's role in each cell: (batch, *shape, dim)."""
        digit = torch.arange(self.digits, device=x_input.device) + _SYMBOLS_FROM
        blank, here = x_input[:, :, None] < _SYMBOLS_FROM, x_input[:, :, None] == digit
        role = torch.stack([blank.expand_as(here), here, ~(blank | here)], -1)
        # A product, whose gradient is one too: that of a lookup of so few rows is slow on a CPU.
        x = role.to(self.role_embedding.dtype) @ self.role_embedding
        return x.unflatten(1, self._boxes)

    def logits(self, x_input: Tensor, y: Tensor) -> Tensor:
        """Score each digit in each cell; PAD and blank are no answers, and what is given stays."""
        open_cell = (x_input < _SYMBOLS_FROM)[:, :, None]
        token = torch.arange(_SYMBOLS_FROM + self.digits, device=x_input.device)
        given = torch.where(x_input[:, :, None] == token, _SURE, -_SURE)
        scores = _LOGIT_SCALE * self.answer_head(y).flatten(1, 4).squeeze(-1)
        found = F.pad(scores, (_SYMBOLS_FROM, 0), value=-_SURE)
        return torch.where(open_cell, found, given)

    def cell_features(self, y: Tensor) -> Tensor:
        """Average over the digits of a cell."""
        return y.mean(5).flatten(1, 4)


class SymmetricBlock(nn.Module):
    """Post-norm gated layer that sees the means of all groups a site belongs to.

    Products are taken of the means, not of all sites: a block costs little more than a layer over
    sites alone.

    Args:
        dim: width
        hidden: width of the gated hidden layer
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.site = linear(dim, 2 * hidden, bias=True)
        self.line, self.box, self.cell, self.cross = (linear(dim, 2 * hidden) for _ in range(4))
        self.down = linear(hidden, dim)

    def forward(self, h: Tensor) -> Tensor:
        """Map (batch, bands, box rows, stacks, box columns, digits, dim) to the same."""
        # Within a box: the mean of a row of it, and of a column of it.
        in_row, in_column = h.mean(4, keepdim=True), h.mean(2, keepdim=True)
        row, column = in_row.mean(3, keepdim=True), in_column.mean(1, keepdim=True)
        of_row = self.line(row) + self.cross(in_row) + self.box(in_row.mean(2, keepdim=True))
        of_column = self.line(column) + self.cross(in_column)
        seen = self.site(h)
        for part in (of_row, of_column, self.cell(h.mean(5, keepdim=True))):
            seen += part  # in place: over all sites a sum costs half as much as the product
        value, gate = seen.chunk(2, dim=-1)
        return rms_norm(h + self.down(value * F.silu(gate)))
