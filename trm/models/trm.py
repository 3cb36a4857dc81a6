"""The Tiny Recursive Model (arXiv 2510.04871, Figure 3)."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod, sqrt
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from trm.models.identifiers import IdentifierTable
from trm.models.layers import GroupTables, casts_kept, linear, truncated_normal_
from trm.models.network import Net, NetOptions
from trm.models.recursion import RecursiveModel, State, Step
from trm.support.errors import InputError, check_at_least, check_choice

Gradient = Literal["cycle", "one_step"]

_SUM_SCALE = 0.707106781  # keeps the variance of a sum of two; as many digits as released
_HALT_BIAS = -5.0  # a fresh model never believes that it is done
_START = 0  # seed of the random state from which all puzzles start


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

    def update(self, net: nn.Module, h: Tensor, seen: Tensor) -> Tensor:
        """Return the new value of ``h``, ``y`` or ``z``, in view of the rest."""
        new: Tensor = net(h + seen)
        return new

    def latent_recursion(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Refine the latent ``n`` times, then the answer once. All (batch, seq, dim)."""
        y_and_x = y + x
        for i in range(self.n):
            with torch.set_grad_enabled(self._carries_gradient(i)):
                z = self.update(self.net, z, y_and_x)
        y = self.update(self.answer_net or self.net, y, z)
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

    def see(self, x_input: Tensor, puzzle_id: Tensor, state: State) -> Tensor:
        """Return the question as the network sees it: embedded, whatever the state."""
        return self.embed(x_input, puzzle_id)

    def forward(self, x_input: Tensor, puzzle_id: Tensor, state: State) -> Step:
        """Take one supervision step; see ``RecursiveModel``."""
        y, z = self.deep_recursion(self.see(x_input, puzzle_id, state), state.y, state.z)
        y_hat, halting = self.read(y)
        q_hat, q_continue = halting.unbind(-1)
        return Step(y_hat, q_hat, replace(state, y=y, z=z), q_continue)


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
        options = self.options_class(**network)
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
        given = cast(dict[str, Any], self._hub_mixin_config)
        given.pop("groups", None)  # unless the options need them
        self._hub_mixin_config = {**given, **options.plain}
        net = partial(Net, options, seq_len, prefix_len)
        super().__init__(net, n, T, separate, gradient)
        self.options = options
        self.seq_len, self.prefix_len = seq_len, prefix_len
        # As Embedding would draw it; its own way loads torch's compiler where device is "meta".
        self.embedding = nn.Embedding(vocab_size, dim, _weight=torch.randn(vocab_size, dim))
        truncated_normal_(self.embedding.weight.data, std=1 / sqrt(dim))
        self.positions: nn.Parameter | None = None
        if options.positions == "learned":
            self.positions = nn.Parameter(
                truncated_normal_(torch.empty(length, dim), 1 / sqrt(dim))
            )
        self.group_embedding: GroupTables | None = None
        if options.group_tables and options.groups:
            self.group_embedding = GroupTables(options.groups, dim)
        self.answer_head = linear(dim, vocab_size)
        self.halt_head = linear(dim, 2, bias=True)  # halt and continue
        nn.init.zeros_(self.halt_head.weight)
        nn.init.constant_(self.halt_head.bias, _HALT_BIAS)
        self.y_init = nn.Buffer(truncated_normal_(torch.empty(dim), std=1.0))
        self.z_init = nn.Buffer(truncated_normal_(torch.empty(*self.latents, dim), std=1.0))
        self.identifiers = IdentifierTable(identifiers, identifier_dim) if prefix_len else None
        self.extend(vocab_size)

    def extend(self, vocab_size: int) -> None:
        """Add what a subclass has beside, so that it need not repeat the constructor's arguments.

        Args:
            vocab_size: number of tokens; ``self.options`` has the rest
        """

    @property
    def latents(self) -> tuple[int, ...]:
        """Latents that start each at a vector of their own; () for the one of Figure 3."""
        return ()

    @property
    def effective_depth(self) -> int:
        """Blocks passed through in one supervision step: ``T (n + 1) layers`` (paper, Table 1)."""
        return self.T * (self.n + 1) * len(cast(Net, self.net).blocks)

    def embed(self, x_input: Tensor, puzzle_id: Tensor) -> Tensor:
        """Embed tokens behind the identifier's prefix: (batch, prefix + seq, dim)."""
        x = self.embedding(x_input)
        if self.group_embedding is not None:
            x = x + self.group_embedding()
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
        """Return the fixed initial ``y`` and ``z``, or random ones drawn from ``generator``.

        With ``random_start`` the fixed ones are a random draw, too, the same for every puzzle.
        """
        dim, latents = len(self.y_init), self.latents
        shape = self.prefix_len + self.seq_len, dim
        if generator is None and not self.options.random_start:
            z_init = self.z_init.unsqueeze(-2)
            y, z = self.y_init.expand(shape), z_init.expand(*latents, *shape)
            return State(y.expand(batch_size, *y.shape), z.expand(batch_size, *z.shape))
        alike = generator is None
        generator = generator or torch.Generator("cpu").manual_seed(_START)
        size = 1 + prod(latents), 1 if alike else batch_size, *shape
        empty = torch.empty(size, dtype=self.y_init.dtype, device=generator.device)
        y, *zs = truncated_normal_(empty, std=1.0, generator=generator).to(self.y_init.device)
        z = torch.stack(zs, 1).unflatten(1, latents) if latents else zs[0]
        return State(y.expand(batch_size, *y.shape[1:]), z.expand(batch_size, *z.shape[1:]))
