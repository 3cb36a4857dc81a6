"""The tiny network of the recursion: blocks that mix positions, then features."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import sqrt
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from trm.models.layers import (
    GridConvolution,
    Rotary,
    SwiGLU,
    linear,
    rms_norm,
    rms_norm_first,
)
from trm.support.devices import multiplies_bfloat16
from trm.support.errors import InputError, check_at_least, check_choice

Mixing = Literal["attention", "mlp"]
Positions = Literal["rotary", "rotary_2d", "learned", "none"]

_MOST_LAYERS = 1000  # a slip of the keyboard, not a network
_PLAIN_SEQ = 256  # positions up to which the scores of a head stay below 128 kB in bfloat16


@dataclass(frozen=True)
class NetOptions:
    """What a network over positions is made of: arguments of every model that has one.

    Attributes:
        dim: width
        layers: blocks
        mixing: how positions see each other, ``attention`` or ``mlp``
        positions: ``rotary``, ``rotary_2d`` (along rows and columns) or ``learned`` for attention;
            an MLP mixer needs ``none``
        heads: attention heads
        expansion: SwiGLU expansion
        hidden_multiple: SwiGLU widths are rounded up to a multiple of it; 256 as published
        convolution: side of a depthwise kernel within each SwiGLU over features, by which a cell
            sees its neighbours on the grid; 0 for none, as published
        columns: of the grid; needed with a convolution and with ``rotary_2d``
        qk_norm: scale queries and keys of each head to root mean square 1, without parameters
        inner_norm: a norm within each SwiGLU, see there
        group_tables: learned vectors of the row, the column and whatever groups more a cell belongs
            to (boxes, of Sudoku), added to what is embedded
        groups: named groups of cells, such as rows; needed with ``group_tables``
        random_start: start from a truncated normal of each entry's own instead of from the same
            vector at every position

    Raises:
        InputError: sizes that do not fit together
    """

    dim: int = 512
    layers: int = 2
    mixing: Mixing = "mlp"
    positions: Positions = "none"
    heads: int = 8
    expansion: float = 4
    hidden_multiple: int = 256
    convolution: int = 0
    columns: int | None = None
    qk_norm: bool = False
    inner_norm: bool = False
    group_tables: bool = False
    groups: Mapping[str, Sequence[Sequence[int]]] | None = None
    random_start: bool = False

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in ("dim", "layers", "heads")}
        check_at_least(1, "model.", **sizes, hidden_multiple=self.hidden_multiple)
        check_at_least(0, "model.", convolution=self.convolution)
        check_choice(get_args(Mixing), "model.", mixing=self.mixing)
        check_choice(get_args(Positions), "model.", positions=self.positions)
        if self.layers > _MOST_LAYERS:
            raise InputError(
                f"model.layers={self.layers} must be at most {_MOST_LAYERS}; depth comes from "
                f"recursion"
            )
        if not self.expansion > 0:
            raise InputError(f"model.expansion={self.expansion} must be positive")
        if self.convolution and self.convolution % 2 == 0:
            raise InputError(f"model.convolution={self.convolution} must be odd, or 0 for none")
        self._check_heads()

    @property
    def plain(self) -> dict[str, Any]:
        """Return all that a file has to say; what is not needed of the task is left out."""
        return {k: v for k, v in asdict(self).items() if k != "groups" or self.group_tables}

    def _check_heads(self) -> None:
        if self.qk_norm and self.mixing == "mlp":
            raise InputError(
                "model.qk_norm=true has no effect with model.mixing=mlp, which has no queries; set "
                "model.qk_norm=false"
            )
        if self.mixing == "mlp":
            if self.positions.startswith("rotary"):
                raise InputError(
                    f"model.positions={self.positions} has no effect with model.mixing=mlp, which "
                    f"knows every position by its weights; set model.positions=none"
                )
            return
        if self.positions == "rotary_2d" and self.dim / self.heads % 4:
            raise InputError(
                f"model.positions=rotary_2d halves each head once more; model.dim over model.heads "
                f"is {self.dim / self.heads:g} and must be a multiple of 4"
            )
        if self.dim % self.heads or self.dim // self.heads % 2:
            raise InputError(
                f"model.dim={self.dim} cannot be split into model.heads={self.heads} heads of even "
                f"width; choose a head count that divides {self.dim // 2}"
            )

    def check_grid(self, seq_len: int) -> None:
        """Refuse what must know rows and columns and does not.

        Args:
            seq_len: cells of the grid

        Raises:
            InputError: naming the number of columns
        """
        knows_grid = self.columns is not None and self.columns >= 1 and seq_len % self.columns == 0
        if (self.convolution or self.positions == "rotary_2d") and not knows_grid:
            raise InputError(
                f"model.convolution and model.positions=rotary_2d must know the grid; "
                f"model.columns={self.columns} must divide its {seq_len} cells"
            )
        if self.group_tables:
            for name, groups in (self.groups or {"groups": ()}).items():
                if sorted(cell for group in groups for cell in group) != [*range(seq_len)]:
                    raise InputError(
                        f"model.group_tables=true gives each cell the vector of its group, and "
                        f"{name} do not have each of the {seq_len} cells once"
                    )


class AttentionMixing(nn.Module):
    """Post-norm self-attention over all positions, not causal."""

    def __init__(self, dim: int, heads: int, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads, self.qk_norm = heads, qk_norm
        self.narrow_cpu = multiplies_bfloat16(torch.device("cpu"))
        self.qkv = linear(dim, 3 * dim)
        self.out = linear(dim, dim)

    def forward(self, h: Tensor, rotary: Rotary | None) -> Tensor:
        """Map (batch, seq, dim) to (batch, seq, dim)."""
        qkv = rearrange(
            self.qkv(h), "b l (qkv heads d) -> qkv b heads l d", qkv=3, heads=self.heads
        )
        q_and_k = rms_norm(qkv[:2]) if self.qk_norm else qkv[:2]
        q, k = q_and_k if rotary is None else rotary(q_and_k)
        v = qkv[2]
        out = self._attend(q, k, v)
        return rms_norm(h + self.out(rearrange(out, "b heads l d -> b l (heads d)")))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend over all positions, (batch, heads, seq, head_dim) each.

        torch's fused CPU kernel is written for float32. Where products in bfloat16 are native it
        loses to plain ones as long as the scores of a head fit into the cache: forward and backward
        at (8, 8, 81, 64) take 12.3 ms fused, 1.8 ms plain, and 5.3 ms fused in float32.
        """
        narrow = self.narrow_cpu and q.dtype == torch.bfloat16 and q.device.type == "cpu"
        if not narrow or q.shape[-2] > _PLAIN_SEQ:
            return F.scaled_dot_product_attention(q, k, v)
        scores = (q / sqrt(q.shape[-1])) @ k.mT
        return scores.softmax(-1) @ v


class MLPMixing(nn.Module):
    """A SwiGLU over the positions, each feature alike; the norm too runs over positions.

    Positions come first in memory: every product is then one plain matrix product, and nothing is
    ever transposed.
    """

    def __init__(self, mlp: SwiGLU) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, h: Tensor, rotary: Rotary | None) -> Tensor:
        """Map (seq, batch, dim) to (seq, batch, dim)."""
        flat = rearrange(h, "l b d -> l (b d)")
        return rms_norm_first(flat + self.mlp.on_first_axis(flat)).view_as(h)


class Block(nn.Module):
    """Mix positions, then features; post-norm."""

    def __init__(self, options: NetOptions, length: int, prefix_len: int) -> None:
        super().__init__()
        swiglu = partial(
            SwiGLU,
            expansion=options.expansion,
            multiple=options.hidden_multiple,
            inner_norm=options.inner_norm,
        )
        self.mixing: AttentionMixing | MLPMixing
        if options.mixing == "attention":
            self.mixing = AttentionMixing(options.dim, options.heads, options.qk_norm)
        else:
            self.mixing = MLPMixing(swiglu(length))
        convolution: partial[GridConvolution] | None = None
        if options.convolution:
            convolution = partial(
                GridConvolution,
                side=options.convolution,
                columns=options.columns,
                prefix_len=prefix_len,
                batch_first=options.mixing == "attention",
            )
        self.mlp = swiglu(options.dim, convolution=convolution)

    def forward(self, h: Tensor, rotary: Rotary | None) -> Tensor:
        """Map (batch, seq, dim), or for an MLP over positions (seq, batch, dim), to the same."""
        h = self.mixing(h, rotary)
        return rms_norm(h + self.mlp(h))


class Net(nn.Module):
    """A few blocks in a row: the one tiny network of the recursion.

    Args:
        options: what it is made of
        seq_len: cells of the grid
        prefix_len: positions in front of it
    """

    def __init__(self, options: NetOptions, seq_len: int, prefix_len: int) -> None:
        super().__init__()
        length = prefix_len + seq_len
        self.batch_first = options.mixing == "attention"
        self.blocks = nn.ModuleList(
            Block(options, length, prefix_len) for _ in range(options.layers)
        )
        self.rotary: Rotary | None = None
        if options.positions.startswith("rotary"):
            columns = options.columns if options.positions == "rotary_2d" else None
            self.rotary = Rotary(options.dim // options.heads, length, columns, prefix_len)

    def forward(self, h: Tensor) -> Tensor:
        """Map (batch, seq, dim) to (batch, seq, dim).

        With an MLP over positions, what is returned is a view of (seq, batch, dim) in memory. What
        the recursion makes of it keeps that order, so that the next call finds it as it needs it.
        """
        h = h if self.batch_first else h.transpose(0, 1)
        for block in self.blocks:
            h = block(h, self.rotary)
        return h if self.batch_first else h.transpose(0, 1)
