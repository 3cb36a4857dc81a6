"""A damped and noisy recursion (Equilibrium Reasoners, arXiv 2605.21488)."""

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from trm.models.network import NetOptions
from trm.models.recursion import KeyedState, State, Step
from trm.models.trm import TinyRecursiveModel
from trm.support import counter_rng
from trm.support.errors import check_between


@dataclass(frozen=True)
class DampedOptions(NetOptions):
    """What a network is made of, and how its updates are disturbed.

    Attributes:
        damping: share of the old value that an update keeps; the released code has one minus it
        noise: standard deviation of what is added to every entry after an update; in training
            alone, where the released code adds it always

    Raises:
        InputError: a value out of range
    """

    damping: float = 0.05
    noise: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between(0, 1, "model.", damping=self.damping, noise=self.noise)


class DampedModel(TinyRecursiveModel):
    """TRM whose every update is ``h ← d h + (1 − d) net(h + …) + s N(0, 1)`` (EqR, section 3).

    A fixed point of the plain update is one of this one, too, and is reached more calmly; the noise
    keeps the recursion from relying on the one path that leads to it. Arguments are those of
    ``TinyRecursiveModel`` and of ``DampedOptions``.
    """

    options_class = DampedOptions
    _key: Tensor  # of the last draw

    def update(self, net: nn.Module, h: Tensor, seen: Tensor) -> Tensor:
        """Return the new value of ``h``, ``y`` or ``z``, in view of the rest."""
        options = cast(DampedOptions, self.options)
        new = torch.lerp(super().update(net, h, seen), h, options.damping)
        if self.training and options.noise:
            self._key = counter_rng.mix(self._key)
            drawn = counter_rng.normal(self._key, h[0].numel()).view(h.shape)
            new = new + options.noise * drawn.to(new.dtype)
        return new

    def forward(self, x_input: Tensor, puzzle_id: Tensor, state: State) -> Step:
        """Take one supervision step; see ``RecursiveModel``."""
        self._key = cast(KeyedState, state).key  # every update mixes it
        step = super().forward(x_input, puzzle_id, state)
        return replace(step, state=replace(cast(KeyedState, step.state), key=self._key))

    def initial_state(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> KeyedState:
        """Return the initial state; its key is for training, which gives each puzzle its own."""
        state = super().initial_state(batch_size, generator)
        key = torch.zeros(batch_size, dtype=torch.int64, device=state.y.device)
        return KeyedState(state.y, state.z, key)
