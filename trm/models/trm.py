"""The Tiny Recursive Model (arXiv 2510.04871, Figure 3)."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from math import sqrt
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from trm.models.identifiers import IdentifierTable
from trm.models.layers import casts_kept, linear, truncated_normal_
from trm.models.network import Net, NetOptions
from trm.models.recursion import RecursiveModel, State, Step
from trm.support.errors import InputError, check_at_least, check_choice

Gradient = Literal["cycle", "one_step"]

_SUM_SCALE = 0.707106781  # keeps the variance of a sum of two; as many digits as released
_HALT_BIAS = -5.0  # a fresh model never believes that it is done


class DeepRecursion(RecursiveModel):
    """Figure 3 over any network: ``n`` updates of ``z`` and one of ``y``, ``T`` times.

    A subclass makes the parts and says how a puzzle comes in (``embed``), how an answer is read off
    (``read``) and where the recursion begins (``initial_state``). ``x``, ``y`` and ``z`` have one
    shape, (batch, ...), which is the network's affair.

    Args:
        make_net: makes the network, a module that maps features to features of the same shape
        n: latent recursions before each answer update
        T: recursion cycles, of which the last carries gradient
        separate: make a second network for the answer update (f_H beside f_L)
        gradient: how much of the last cycle carries gradient: ``cycle`` for all of it, ``one_step``
            for the last update of ``z`` and of ``y``, as in HRM

    Raises:
        InputError: a value out of range
    """

    def __init__(
        self,
        make_net: Callable[[], nn.Module],
        n: int,
        T: int,
        separate: bool = False,
        gradient: Gradient = "cycle",
    ) -> None:
        super().__init__()
        check_at_least(0, "model.", n=n)
        check_at_least(1, "model.", T=T)
        check_choice(get_args(Gradient), "model.", gradient=gradient)
        self.n, self.T, self.gradient = n, T, gradient
        self.net = make_net()
        self.answer_net = make_net() if separate else None

    @abstractmethod
    def embed(self, x_input: Tensor, puzzle_id: Tensor) -> Tensor:
        """Embed tokens, (batch, cells) int64, and identifiers, (batch,) int64, to (batch, ...)."""

    @abstractmethod
    def read(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the answer, (batch, cells, vocab), and of halt and continue.

        The latter are (batch, 2).
        """

    @property
    def passes(self) -> int:
        """Network passes in one supervision step: ``T (n + 1)``."""
        return self.T * (self.n + 1)

    def latent_recursion(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Refine the latent ``n`` times, then the answer once. All (batch, seq, dim)."""
        y_and_x = y + x
        for i in range(self.n):
            with torch.set_grad_enabled(self._carries_gradient(i)):
                z = self.net(z + y_and_x)
        y = (self.answer_net or self.net)(y + z)
        return y, z

    def deep_recursion(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Run ``T`` cycles of latent recursion; only the last one carries gradient."""
        with torch.no_grad(), casts_kept(x.device):
            for _ in range(self.T - 1):
                y, z = self.latent_recursion(x, y, z)
        return self.latent_recursion(x, y, z)

    def _carries_gradient(self, i: int) -> bool:
        """Whether the ``i``-th latent update of a cycle may."""
        return torch.is_grad_enabled() and (self.gradient == "cycle" or i == self.n - 1)

    def forward(self, x_input: Tensor, puzzle_id: Tensor, state: State) -> Step:
        """Take one supervision step; see ``RecursiveModel``."""
        y, z = self.deep_recursion(self.embed(x_input, puzzle_id), state.y, state.z)
        y_hat, halting = self.read(y)
        q_hat, q_continue = halting.unbind(-1)
        return Step(y_hat, q_hat, State(y, z), q_continue)


class TinyRecursiveModel(DeepRecursion):
    """One tiny network over tokens that refines an answer ``y`` and a latent ``z`` (Figure 3).

    Args:
        vocab_size: number of tokens
        seq_len: cells of the grid
        n: latent recursions before each answer update
        T: recursion cycles, of which the last carries gradient
        separate: give the answer update a network of its own (f_H beside f_L)
        gradient: how much of the last cycle carries gradient: ``cycle`` for all of it, ``one_step``
            for the last update of ``z`` and of ``y``, as in HRM
        prefix_len: positions in front of the grid that hold the puzzle's identifier; 0 where all
            puzzles share one
        identifiers: number of identifiers; needed with a prefix
        identifier_dim: width of an identifier's row, ``dim`` unless given
        network: what the network is made of, see ``NetOptions``

    Raises:
        InputError: sizes that do not fit together
    """

    options_class = NetOptions  # of its further arguments

    def __init__(
        self,
        vocab_size: int,
        seq_len: int,
        *,
        n: int = 6,
        T: int = 3,
        separate: bool = False,
        gradient: Gradient = "cycle",
        prefix_len: int = 0,
        identifiers: int = 1,
        identifier_dim: int | None = None,
        **network: Any,
    ) -> None:
        options = NetOptions(**network)
        options.check_grid(seq_len)
        check_at_least(1, "model.", identifiers=identifiers, identifier_dim=identifier_dim)
        check_at_least(0, "model.", prefix_len=prefix_len)
        dim, length = options.dim, prefix_len + seq_len
        identifier_dim = dim if identifier_dim is None else identifier_dim
        if prefix_len and identifier_dim > prefix_len * dim:
            raise InputError(
                f"model.identifier_dim={identifier_dim} does not fit into model.prefix_len="
                f"{prefix_len} positions of model.dim={dim}"
            )
        # A file says all that its model is made of, whatever the defaults will be one day.
        self._hub_mixin_config = {**cast(dict[str, Any], self._hub_mixin_config), **asdict(options)}
        net = partial(Net, options, seq_len, prefix_len)
        super().__init__(net, n, T, separate, gradient)
        self.seq_len, self.prefix_len = seq_len, prefix_len
        # As Embedding would draw it; its own way loads torch's compiler where device is "meta".
        self.embedding = nn.Embedding(vocab_size, dim, _weight=torch.randn(vocab_size, dim))
        truncated_normal_(self.embedding.weight.data, std=1 / sqrt(dim))
        self.positions: nn.Parameter | None = None
        if options.positions == "learned":
            self.positions = nn.Parameter(
                truncated_normal_(torch.empty(length, dim), 1 / sqrt(dim))
            )
        self.answer_head = linear(dim, vocab_size)
        self.halt_head = linear(dim, 2, bias=True)  # halt and continue
        nn.init.zeros_(self.halt_head.weight)
        nn.init.constant_(self.halt_head.bias, _HALT_BIAS)
        self.y_init = nn.Buffer(truncated_normal_(torch.empty(dim), std=1.0))
        self.z_init = nn.Buffer(truncated_normal_(torch.empty(dim), std=1.0))
        self.identifiers = IdentifierTable(identifiers, identifier_dim) if prefix_len else None

    @property
    def effective_depth(self) -> int:
        """Blocks passed through in one supervision step: ``T (n + 1) layers`` (paper, Table 1)."""
        return self.passes * len(cast(Net, self.net).blocks)

    def embed(self, x_input: Tensor, puzzle_id: Tensor) -> Tensor:
        """Embed tokens behind the identifier's prefix: (batch, prefix + seq, dim)."""
        x = self.embedding(x_input)
        dim = x.shape[-1]
        if self.identifiers is not None:
            rows = self.identifiers.rows(puzzle_id)
            rows = F.pad(rows, (0, self.prefix_len * dim - rows.shape[1]))
            prefix = rearrange(rows, "b (l d) -> b l d", d=dim)
            x = torch.cat([prefix.to(x.dtype), x], dim=1)
        if self.positions is not None:
            x = (x + self.positions) * _SUM_SCALE
        return x * sqrt(dim)

    def read(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Read the answer at every cell, and whether to halt at the first position."""
        return self.answer_head(y[:, self.prefix_len :]), self.halt_head(y[:, 0])

    def initial_state(self, batch_size: int, generator: torch.Generator | None = None) -> State:
        """Return the fixed initial ``y`` and ``z``, or random ones drawn from ``generator``."""
        shape = (batch_size, self.prefix_len + self.seq_len, len(self.y_init))
        if generator is None:
            return State(self.y_init.expand(shape), self.z_init.expand(shape))
        empty = torch.empty(2, *shape, dtype=self.y_init.dtype, device=generator.device)
        y, z = truncated_normal_(empty, std=1.0, generator=generator).to(self.y_init.device)
        return State(y, z)
