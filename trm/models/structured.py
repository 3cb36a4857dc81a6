"""Recursion over the sites of a puzzle: the network knows the structure and not the size."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from trm.models.layers import linear
from trm.models.recursion import State, Step
from trm.models.trm import DeepRecursion, Gradient
from trm.support import counter_rng
from trm.support.errors import InputError, check_at_least, check_between

_LEAST_SURE = -3.0  # bias of the heads that say "solved" and "contradiction" of a fresh model


@dataclass(frozen=True)
class StructuredOptions:
    """What a network over sites is made of, and how it recurs: arguments of every such model.

    Attributes:
        dim: features of a site
        hidden: width of the gated hidden layer
        layers: blocks of the network
        n: passes in a cycle with one state; latent recursions before each answer update with two
        T: cycles, of which the last carries gradient
        states: 2 for ``y`` and ``z``, 1 for ``y`` alone
        separate: see ``DeepRecursion``; needs two states
        gradient: see ``DeepRecursion``

    Raises:
        InputError: a value out of range
    """

    dim: int = 64
    hidden: int = 64
    layers: int = 1
    n: int = 1
    T: int = 1
    states: int = 1
    separate: bool = False
    gradient: Gradient = "cycle"

    def __post_init__(self) -> None:
        check_at_least(1, "model.", dim=self.dim, hidden=self.hidden, layers=self.layers)
        check_between(1, 2, "model.", states=self.states)
        if self.states == 1:
            check_at_least(1, "model.", n=self.n)
        if self.separate and self.states == 1:
            raise InputError("model.separate=true is for model.states=2: one network for each")


class StructuredModel(DeepRecursion):
    """Figure 3 over a feature for every site of a puzzle, be they 16 or 16,000.

    Sites are what a puzzle is made of: the cells of a maze, the pairs of cell and digit of a
    Sudoku. Weights belong to no site, so one set of them serves every size; ``on`` gives the same
    model for another one. A network that treats sites alike cannot tell those apart that a symmetry
    makes alike, so the recursion starts from a standard normal of each site's own.

    With ``states=1`` there is no latent beside the answer: ``n`` times ``y ← net(y + x)``, as
    in the paper's ablation "single z". With 2 it is Figure 3.

    A subclass makes blocks, and says how many sites there are (``shape``), how a puzzle comes in
    (``embed``), what it answers (``logits``) and what the heads look at (``cell_features``).

    Args:
        make_block: from ``dim`` and ``hidden`` to a module that maps features to features of the
            same shape
        options: see ``StructuredOptions``
    """

    any_size = True
    loss = "softmax"
    options_class = StructuredOptions  # of its further arguments

    def __init__(
        self, make_block: Callable[[int, int], nn.Module], options: StructuredOptions
    ) -> None:
        # A file says all that its model is made of, whatever the defaults will be one day.
        self._hub_mixin_config = {**cast(dict[str, Any], self._hub_mixin_config), **asdict(options)}

        def make_net() -> nn.Module:
            blocks = [make_block(options.dim, options.hidden) for _ in range(options.layers)]
            return blocks[0] if len(blocks) == 1 else nn.Sequential(*blocks)

        super().__init__(make_net, options.n, options.T, options.separate, options.gradient)
        self.dim, self.states = options.dim, options.states
        self.halt_head = linear(2 * self.dim, 3, bias=True)  # halt, continue and contradiction
        nn.init.zeros_(self.halt_head.weight)
        nn.init.constant_(self.halt_head.bias, _LEAST_SURE)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Sites of the size at hand."""

    @abstractmethod
    def logits(self, x_input: Tensor, y: Tensor) -> Tensor:
        """Return the logits of the answer, (batch, cells, vocab), of (batch, *shape, dim)."""

    @abstractmethod
    def cell_features(self, y: Tensor) -> Tensor:
        """Return one feature for each cell, (batch, cells, dim)."""

    @abstractmethod
    def resize(self, structure: Mapping[str, Any]) -> None:
        """Take on another size; what it says is checked as at the start."""

    def on(self, structure: Mapping[str, Any]) -> Self:
        """Return this model, its weights shared, for puzzles of another size."""
        other = copy.copy(self)
        other.resize(structure)
        arguments = cast(dict[str, Any], self._hub_mixin_config)
        now = {name: structure[name] for name in structure.keys() & arguments.keys()}
        other._hub_mixin_config = {**arguments, **now}
        return other

    @property
    def passes(self) -> int:
        """Network passes in one supervision step: ``T (n + 1)``, or ``T n`` with one state."""
        return self.T * (self.n + self.states - 1)

    def latent_recursion(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Refine the latent ``n`` times and then the answer, or the one state ``n`` times."""
        if self.states == 2:
            return super().latent_recursion(x, y, z)
        for i in range(self.n):
            with torch.set_grad_enabled(self._carries_gradient(i)):
                y = self.net(y + x)
        return y, z

    def forward(self, x_input: Tensor, puzzle_id: Tensor, state: State) -> Step:
        """Take one supervision step; see ``RecursiveModel``."""
        x = self.embed(x_input, puzzle_id)
        y, z = self.deep_recursion(x, state.y.to(x.dtype), state.z.to(x.dtype))
        q_hat, q_continue, contradiction = self.judge(y).unbind(-1)
        state = State(y.to(state.y.dtype), z.to(state.z.dtype))
        return Step(self.logits(x_input, y), q_hat, state, q_continue, contradiction)

    def read(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Not asked: the answer takes the question into account."""
        raise NotImplementedError

    def judge(self, y: Tensor) -> Tensor:
        """Return the logits of halt, continue and contradiction, (batch, 3).

        From the mean of all cells and the extreme of each feature: one contradictory cell among
        hundreds would vanish in a mean.
        """
        cells = self.cell_features(y)
        return self.halt_head(torch.cat([cells.mean(1), cells.amax(1)], -1))

    def initial_state(self, batch_size: int, generator: torch.Generator | None = None) -> State:
        """Return the initial state, the same standard normals for each puzzle.

        With a generator they are its own. With one state ``z`` is empty.
        """
        like = self.halt_head.weight
        parts = self.states, *self.shape, self.dim
        if generator is None:
            key = torch.zeros(1, dtype=torch.int64, device=like.device)
            drawn = counter_rng.normal(key, prod(parts)).view(1, *parts)
        else:
            drawn = torch.randn(batch_size, *parts, generator=generator, device=generator.device)
        y, *z = drawn.to(like).expand(batch_size, *parts).unbind(1)
        return State(y, z[0] if z else y.new_empty(batch_size, 0))
