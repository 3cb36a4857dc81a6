"""A recursion that sees what it answered last."""

from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trm.models.network import NetOptions
from trm.models.recursion import State, Step
from trm.models.trm import TinyRecursiveModel
from trm.tasks.base import PAD


@dataclass(frozen=True)
class FeedbackState(State):
    """Where the recursion stands, and what it answered.

    Attributes:
        answer: tokens, (batch, cells) int64; PAD before the first step
    """

    answer: Tensor


@dataclass(frozen=True)
class FeedbackOptions(NetOptions):
    """What a network is made of, and what it must know of the task.

    Attributes:
        blank: token of an open cell; the others are shown as they are given. None where nothing is
    """

    blank: int | None = None


class FeedbackModel(TinyRecursiveModel):
    """TRM to which the answer of the step before is shown beside the question.

    As in priml's experiments 8 to 10 on Sudoku-Extreme: a second table of tokens, zero at first,
    whose vectors are added to those of the question. With ``objective.FeedbackRepair`` the answer
    is damaged now and then, so that the network learns to mend what is wrong. Arguments are those
    of ``TinyRecursiveModel``.
    """

    options_class = FeedbackOptions

    def extend(self, vocab_size: int) -> None:
        """Add the table of answers."""
        dim = self.options.dim
        table = torch.zeros(vocab_size, dim)
        self.feedback_embedding = nn.Embedding(vocab_size, dim, _weight=table)

    def see(self, x_input: Tensor, puzzle_id: Tensor, state: State) -> Tensor:
        """Embed the question and the answer so far, (batch, prefix + seq, dim)."""
        answer = cast(FeedbackState, state).answer
        blank = cast(FeedbackOptions, self.options).blank
        if blank is not None:
            answer = torch.where((x_input == blank) | (answer == PAD), answer, x_input)
        fed = F.pad(self.feedback_embedding(answer), (0, 0, self.prefix_len, 0))
        return self.embed(x_input, puzzle_id) + fed

    def forward(self, x_input: Tensor, puzzle_id: Tensor, state: State) -> Step:
        """Take one supervision step; see ``RecursiveModel``."""
        step = super().forward(x_input, puzzle_id, state)
        state = cast(FeedbackState, step.state)
        return replace(step, state=replace(state, answer=step.y_hat.detach().argmax(-1)))

    def initial_state(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> FeedbackState:
        """Return the initial state, without an answer."""
        state = super().initial_state(batch_size, generator)
        answer = torch.full((batch_size, self.seq_len), PAD, device=self.y_init.device)
        return FeedbackState(state.y, state.z, answer)
