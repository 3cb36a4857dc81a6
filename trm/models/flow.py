"""A recursion that denoises an answer (looped flows, arXiv 2609.11801)."""

from dataclasses import dataclass, replace
from math import sqrt
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trm.models.layers import linear
from trm.models.likelihoods import answer_loss, probabilities
from trm.models.network import NetOptions
from trm.models.recursion import KeyedState, State, Step
from trm.models.trm import TinyRecursiveModel
from trm.support import counter_rng
from trm.support.errors import check_at_least

_LEAST_LEFT = 1e-3  # of the way to the answer, by which a step divides


@dataclass(frozen=True)
class FlowState(KeyedState):
    """Where the recursion stands, and the answer that it denoises.

    Attributes:
        noisy: the answer as the next step sees it, (batch, cells, vocab)
        clean: the probabilities that the last step gave, likewise; zeros before the first
        time: how far ``noisy`` has come, (batch,): 0 is noise, 1 the answer
        taken: steps taken, (batch,) int64
    """

    noisy: Tensor
    clean: Tensor
    time: Tensor
    taken: Tensor


@dataclass(frozen=True)
class FlowOptions(NetOptions):
    """What a network is made of, and how it denoises in inference.

    Attributes:
        flow_steps: steps from noise to answer
        churn: noise that is put back before each step; 0 follows the flow without
        answer_loss: under which the logits are probabilities, as ``train.loss``
        blank: token of an open cell; what is given has no noise. None where nothing is given

    Raises:
        InputError: a value out of range
    """

    flow_steps: int = 16
    churn: float = 5.0
    answer_loss: str = "stablemax"
    blank: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, "model.", flow_steps=self.flow_steps)
        check_at_least(0, "model.", churn=self.churn)
        answer_loss(self.answer_loss)


def noise(key: Tensor, like: Tensor) -> Tensor:
    """Draw the noise of each key, of standard deviation ``1 / √vocab``.

    At that scale noise and one-hot answers have vectors of the same length.

    Args:
        key: (batch,) int64
        like: of the same shape and dtype, (batch, cells, vocab)
    """
    drawn = counter_rng.normal(key, like[0].numel()) / sqrt(like.shape[-1])
    return drawn.view(like.shape).to(like.dtype)


class FlowModel(TinyRecursiveModel):
    """TRM whose supervision steps denoise: each sees ``(1 − t) noise + t answer`` beside the rest.

    The interpolant, mapped to the width, and the time, by an MLP, are added to the embedded
    question; what a step then answers moves the interpolant on (arXiv 2609.11801, section 3, whose
    stochastic sampler this is). ``objective.DenoisingTargets`` shows interpolants of the label in
    training. Arguments are those of ``TinyRecursiveModel``.
    """

    options_class = FlowOptions

    def extend(self, vocab_size: int) -> None:
        """Add the layers that see the interpolant and the time."""
        dim = self.options.dim
        self.vocab_size = vocab_size
        self.noisy_embedding = linear(vocab_size, dim)
        self.time_embedding = nn.Sequential(
            linear(1, dim, bias=True), nn.SiLU(), linear(dim, dim, bias=True)
        )

    def see(self, x_input: Tensor, puzzle_id: Tensor, state: State) -> Tensor:
        """Embed question, interpolant and time, (batch, prefix + seq, dim)."""
        state = cast(FlowState, state)
        noisy, blank = state.noisy, cast(FlowOptions, self.options).blank
        if blank is not None:
            given = F.one_hot(x_input, self.vocab_size).to(noisy.dtype)
            noisy = torch.where((x_input == blank)[..., None], noisy, given)
        seen = F.pad(self.noisy_embedding(noisy), (0, 0, self.prefix_len, 0))
        time = self.time_embedding(state.time[:, None])[:, None]
        return self.embed(x_input, puzzle_id) + seen + time

    def forward(self, x_input: Tensor, puzzle_id: Tensor, state: State) -> Step:
        """Take one supervision step; see ``RecursiveModel``."""
        step = super().forward(x_input, puzzle_id, state)
        loss = cast(FlowOptions, self.options).answer_loss
        clean = probabilities(loss, step.y_hat.detach()).to(self.y_init.dtype)
        return replace(step, state=self._moved(cast(FlowState, step.state), clean))

    def _moved(self, state: FlowState, clean: Tensor) -> FlowState:
        """Move on towards an answer, then put some noise back."""
        options = cast(FlowOptions, self.options)
        taken, width = state.taken + 1, 1 / options.flow_steps
        now, then = state.time, (taken * width).clamp(max=1).to(state.time.dtype)
        left = (1 - now).clamp(min=_LEAST_LEFT)
        share = ((then - now) / left).clamp(0, 1)[:, None, None]
        noisy = torch.lerp(state.noisy, clean, share)
        keep = max(0.0, 1 - options.churn * width)
        time = keep * then
        # What brings the noise of the interpolant to that of the earlier time.
        added = ((1 - time) ** 2 - (keep - time) ** 2).clamp(min=0).sqrt()[:, None, None]
        noisy = keep * noisy + added * noise(counter_rng.key(state.key, taken), noisy)
        return replace(state, noisy=noisy, clean=clean, time=time, taken=taken)

    def initial_state(self, batch_size: int, generator: torch.Generator | None = None) -> FlowState:
        """Return the initial state: noise, the same for each puzzle unless from ``generator``."""
        state, device = super().initial_state(batch_size, generator), self.y_init.device
        none = torch.zeros(batch_size, dtype=torch.int64, device=device)
        key = none
        if generator is not None:
            key = torch.randint(
                2**62, (batch_size,), generator=generator, device=generator.device
            ).to(device)
        like = self.y_init.new_empty(batch_size, self.seq_len, self.vocab_size)
        noisy = noise(key, like)
        time = torch.zeros(batch_size, dtype=noisy.dtype, device=device)
        return FlowState(state.y, state.z, key, noisy, torch.zeros_like(noisy), time, none)
