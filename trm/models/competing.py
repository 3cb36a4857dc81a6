"""Several latents of one puzzle, of which the best goes on (arXiv 2601.19085)."""

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from trm.models.network import NetOptions
from trm.models.recursion import State, Step
from trm.models.trm import TinyRecursiveModel
from trm.support.errors import check_at_least


@dataclass(frozen=True)
class ChainsState(State):
    """Where the chains of each puzzle stand: ``y`` and ``z`` are (batch, chains, seq, dim).

    Attributes:
        winner: number of the chain whose answer counts, (batch,) int64
    """

    winner: Tensor


@dataclass(frozen=True)
class CompetingOptions(NetOptions):
    """What a network is made of, and how many chains compete.

    Attributes:
        chains: latents of one puzzle

    Raises:
        InputError: a value out of range
    """

    chains: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, "model.", chains=self.chains)


class CompetingModel(TinyRecursiveModel):
    """TRM with several ``z``, each from a start of its own, and one ``y``.

    After every step the winner's ``y`` is copied to all chains, and each keeps its ``z``
    ("copy/all", the best of arXiv 2601.19085). In inference the chain wins whose halting logit is
    highest; ``objective.WinnerTakesAll`` lets the one win in training whose answer has the lowest
    cross-entropy, and none but it learns. A step costs as much as of so many puzzles. Arguments are
    those of ``TinyRecursiveModel``.
    """

    options_class = CompetingOptions

    @property
    def latents(self) -> tuple[int, ...]:
        """As many as chains."""
        return (cast(CompetingOptions, self.options).chains,)

    @property
    def passes(self) -> int:
        """Network passes in one supervision step, those of all chains."""
        return super().passes * self.latents[0]

    def forward(self, x_input: Tensor, puzzle_id: Tensor, state: State) -> Step:
        """Take one supervision step with every chain; see ``RecursiveModel``."""
        chains, winner = self.latents[0], cast(ChainsState, state).winner
        x, y = self.embed(x_input, puzzle_id), of_chain(state.y, winner)
        x, y = (h.repeat_interleave(chains, 0) for h in (x, y))
        y, z = self.deep_recursion(x, y, state.z.flatten(0, 1))
        y_hat, halting = self.read(y)
        of_each = (-1, chains)
        q_hat, q_continue = halting.unflatten(0, of_each).unbind(-1)
        state = ChainsState(y.unflatten(0, of_each), z.unflatten(0, of_each), winner)
        each = Step(y_hat.unflatten(0, of_each), q_hat, state, q_continue)
        return chosen(each, q_hat.detach().argmax(1))

    def initial_state(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> ChainsState:
        """Return the initial state, in which all chains have the same ``y``."""
        state = super().initial_state(batch_size, generator)
        y = state.y.unsqueeze(1).expand_as(state.z)
        winner = torch.zeros(batch_size, dtype=torch.int64, device=y.device)
        return ChainsState(y, state.z, winner)


def of_chain(h: Tensor, winner: Tensor) -> Tensor:
    """Select one chain of each puzzle: (batch, ...) of (batch, chains, ...)."""
    return h[torch.arange(len(h), device=h.device), winner]


def chosen(each: Step, winner: Tensor) -> Step:
    """Let a chain win: what comes of its step, and all that may be chosen instead.

    Args:
        each: of all chains; its tensors are (batch, chains, ...)
        winner: number of the chain, (batch,) int64
    """
    assert each.q_continue is not None, "this model has it"
    return Step(
        of_chain(each.y_hat, winner),
        of_chain(each.q_hat, winner),
        replace(cast(ChainsState, each.state), winner=winner),
        of_chain(each.q_continue, winner),
        chains=each,
    )
