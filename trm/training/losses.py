"""Losses of one supervision step, per puzzle."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trm.data.sampler import Batch
from trm.errors import check_choice
from trm.models.recursion import RecursiveModel, State, Step
from trm.tasks.base import PAD

_HALT_WEIGHT = 0.5  # of the halting loss beside the answer loss (published code)

AnswerLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class StepLoss:
    """Losses and hits of one supervision step, all (batch,).

    Attributes:
        total: answer loss + ½ · halting loss (+ ½ · continue loss); alone carries gradient
        answer: mean cross-entropy of the labelled cells
        halt: binary cross-entropy of ``q_hat`` against ``exact``
        exact: bool, every labelled cell right
        cell: share of labelled cells right
        halt_right: bool, ``q_hat > 0`` agrees with ``exact``
    """

    total: Tensor
    answer: Tensor
    halt: Tensor
    exact: Tensor
    cell: Tensor
    halt_right: Tensor


def stablemax_cross_entropy(y_hat: Tensor, y_true: Tensor) -> Tensor:
    """Cross-entropy under stable-max, ``s(x) / Σ s(x)`` with ``s(x) = x + 1`` or ``1 / (1 − x)``.

    Prieto et al., arXiv 2501.04697. Computed as ``log(1 + wrong / right)`` from sums of ``s`` over
    the wrong tokens and over the right one: nothing cancels, so float32 is as good as the float64
    that the published code needs for the difference of two logarithms.

    Args:
        y_hat: logits, (..., vocab)
        y_true: tokens, (...) int64

    Returns:
        one loss per cell, (...), float32 or wider
    """
    x = y_hat.to(torch.promote_types(y_hat.dtype, torch.float32))
    # clamp keeps the branch not taken finite, for its gradient would be NaN otherwise
    s = torch.where(x < 0, 1 / (1 - x.clamp(max=0)), x + 1)
    token = y_true.unsqueeze(-1)
    right = s.gather(-1, token).squeeze(-1)
    wrong = s.scatter(-1, token, 0).sum(-1)
    return torch.log1p(wrong / right)


def softmax_cross_entropy(y_hat: Tensor, y_true: Tensor) -> Tensor:
    """Plain cross-entropy; arguments and result as for ``stablemax_cross_entropy``."""
    return F.cross_entropy(y_hat.flatten(0, -2), y_true.flatten(), reduction="none").view_as(y_true)


_ANSWER_LOSSES: dict[str, AnswerLoss] = {
    "stablemax": stablemax_cross_entropy,
    "softmax": softmax_cross_entropy,
}


def answer_loss(name: str) -> AnswerLoss:
    """Look up an answer loss by its config name.

    Raises:
        InputError: unknown name
    """
    check_choice(_ANSWER_LOSSES, "train.", loss=name)
    return _ANSWER_LOSSES[name]


@torch.no_grad()
def continue_target(model: RecursiveModel, puzzles: Batch, state: State, last: Tensor) -> Tensor:
    """Look one supervision step ahead for the value of going on, (batch,) in [0, 1].

    The sigmoid of the next step's halting logit where it is the ``last``, else of the better of
    halting and going on: Q-learning without replay (HRM, arXiv 2506.21734, section 2).
    """
    ahead = model(puzzles.x_input, puzzles.puzzle_id, state)
    assert ahead.q_continue is not None, "checked when training was set up"
    return torch.where(last, ahead.q_hat, torch.maximum(ahead.q_hat, ahead.q_continue)).sigmoid()


def step_loss(
    step: Step, y_true: Tensor, answer: AnswerLoss, target: Tensor | None = None
) -> StepLoss:
    """Score one supervision step against (batch, cells) labels; PAD cells do not count.

    Args:
        step: what the model gave
        y_true: labels, (batch, cells) int64
        answer: cross-entropy per cell
        target: of ``continue_target``, for models that learn to continue
    """
    labelled = y_true != PAD
    cells = labelled.sum(1).clamp(min=1)
    per_cell = torch.where(labelled, answer(step.y_hat, y_true), 0)
    answer_per_puzzle = per_cell.sum(1) / cells
    with torch.no_grad():
        right = (step.y_hat.argmax(-1) == y_true) & labelled
        cell = right.sum(1) / cells
        exact = (right | ~labelled).all(1)
    q_hat = step.q_hat.to(answer_per_puzzle.dtype)
    halt = F.binary_cross_entropy_with_logits(q_hat, exact.to(q_hat.dtype), reduction="none")
    total = answer_per_puzzle + _HALT_WEIGHT * halt
    if target is not None:
        assert step.q_continue is not None, "checked when training was set up"
        q_continue = step.q_continue.to(total.dtype)
        total = total + _HALT_WEIGHT * F.binary_cross_entropy_with_logits(
            q_continue, target.to(total.dtype), reduction="none"
        )
    halt_right = (step.q_hat.detach() > 0) == exact
    return StepLoss(total, answer_per_puzzle.detach(), halt.detach(), exact, cell, halt_right)
