"""What the recursion carries, varied (Table 2 of the paper)."""

from typing import Any

import torch
from torch import Tensor, nn

from trm.models.layers import truncated_normal_
from trm.models.recursion import State
from trm.models.trm import Gradient, TinyRecursiveModel


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


class MultiScaleModel(TinyRecursiveModel):
    """One latent per recursion: ``n`` of them beside ``y``, so ``n + 1`` features are carried.

    The ``i``-th recursion rewrites the ``i``-th latent from all: ``z_i ← net(x + y + Σ z)``, and at
    the end ``y ← net(y + Σ z)``. The paper names the features, not their combination; the sum keeps
    the network and its cost unchanged. Arguments are those of ``TinyRecursiveModel``.

    Args:
        own_starts: let each latent begin at a state of its own, as the released model does, and not
            all at the same
    """

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
        own_starts: bool = False,
        **network: Any,
    ) -> None:
        super().__init__(
            vocab_size,
            seq_len,
            n=n,
            T=T,
            separate=separate,
            gradient=gradient,
            prefix_len=prefix_len,
            identifiers=identifiers,
            identifier_dim=identifier_dim,
            **network,
        )
        self.own_starts = own_starts
        if own_starts:
            self.z_init = nn.Buffer(truncated_normal_(torch.empty(n, len(self.y_init)), std=1.0))

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
        if self.own_starts and generator is None:
            shape = (batch_size, self.prefix_len + self.seq_len, len(self.y_init))
            z = self.z_init[:, None].expand(batch_size, self.n, *shape[1:])
            return State(self.y_init.expand(shape), z)
        state = super().initial_state(batch_size, generator)
        return State(state.y, state.z.unsqueeze(1).expand(-1, self.n, -1, -1))
