"""What the recursion carries, varied (Table 2 of the paper)."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from trm.models.network import NetOptions
from trm.models.recursion import State
from trm.models.trm import TinyRecursiveModel


class SingleLatentModel(TinyRecursiveModel):
    """``y`` and ``z`` are one: the answer is read from the feature that also reasons.

    Each cycle updates it ``n`` times with the question in view and once without, so its effective
    depth is that of TRM; ``z`` of its state has no positions.
    """

    def latent_recursion(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Refine the one feature ``n + 1`` times."""
        for i in range(self.n):
            with torch.set_grad_enabled(self._carries_gradient(i)):
                y = self.net(y + x)
        return self.net(y), z

    def initial_state(self, batch_size: int, generator: torch.Generator | None = None) -> State:
        """Return the initial ``y`` with an empty ``z``."""
        state = super().initial_state(batch_size, generator)
        return State(state.y, state.z[:, :0])


@dataclass(frozen=True)
class MultiScaleOptions(NetOptions):
    """What a network is made of, and where its latents start.

    Attributes:
        own_starts: let each latent begin at a state of its own, as the released model does, and not
            all at the same
    """

    own_starts: bool = False


class MultiScaleModel(TinyRecursiveModel):
    """One latent per recursion: ``n`` of them beside ``y``, so ``n + 1`` features are carried.

    The ``i``-th recursion rewrites the ``i``-th latent from all: ``z_i ← net(x + y + Σ z)``, and at
    the end ``y ← net(y + Σ z)``. The paper names the features, not their combination; the sum keeps
    the network and its cost unchanged. Arguments are those of ``TinyRecursiveModel``.
    """

    options_class = MultiScaleOptions

    @property
    def latents(self) -> tuple[int, ...]:
        """As many as recursions, if each has a start of its own."""
        return (self.n,) if cast(MultiScaleOptions, self.options).own_starts else ()

    def latent_recursion(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Refine each of the (batch, n, seq, dim) latents once, then the answer."""
        latents = list(z.unbind(1))
        for i in range(self.n):
            with torch.set_grad_enabled(self._carries_gradient(i)):
                latents[i] = self.net(sum(latents, y + x))
        y = self.net(sum(latents, y))
        return y, torch.stack(latents, 1)

    def initial_state(self, batch_size: int, generator: torch.Generator | None = None) -> State:
        """Return ``n`` latents that start alike, or where the model has it, each at its own."""
        state = super().initial_state(batch_size, generator)
        if self.latents:
            return state
        return State(state.y, state.z.unsqueeze(1).expand(-1, self.n, -1, -1))
