"""Losses of one supervision step, per puzzle."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from trm.data.sampler import Batch
from trm.models.likelihoods import AnswerLoss
from trm.models.recursion import RecursiveModel, Step
from trm.support.batched import Batched
from trm.tasks.base import PAD


@dataclass(frozen=True)
class StepLoss:
    """Losses and hits of one supervision step, or means over several; all (batch,).

    Attributes:
        total: of all losses; alone carries gradient
        losses: by name; ``answer`` is the mean cross-entropy of the labelled cells, ``halt`` the
            binary cross-entropy of ``q_hat`` against ``exact``
        exact: bool, every labelled cell right
        cell: share of labelled cells right
        halt_right: bool, ``q_hat > 0`` agrees with ``exact``
    """

    total: Tensor
    losses: dict[str, Tensor]
    exact: Tensor
    cell: Tensor
    halt_right: Tensor

    def plus(self, **losses: Tensor) -> "StepLoss":
        """Add further losses, weighted as they are, (batch,) each."""
        detached = {name: loss.detach() for name, loss in losses.items()}
        total = sum(losses.values(), self.total)
        return replace(self, total=total, losses=self.losses | detached)

    @classmethod
    def mean(cls, steps: Sequence["StepLoss"]) -> "StepLoss":
        """Average the losses of steps that learn together; the hits are those of the last."""
        if len(steps) == 1:
            return steps[0]
        losses = {
            name: torch.stack([step.losses[name] for step in steps]).mean(0)
            for name in steps[0].losses
        }
        total = torch.stack([step.total for step in steps]).mean(0)
        return replace(steps[-1], total=total, losses=losses)


@torch.no_grad()
def continue_target(model: RecursiveModel, puzzles: Batch, state: Batched, last: Tensor) -> Tensor:
    """Look one supervision step ahead for the value of going on, (batch,) in [0, 1].

    The sigmoid of the next step's halting logit where it is the ``last``, else of the better of
    halting and going on: Q-learning without replay (HRM, arXiv 2506.21734, section 2).
    """
    ahead = model(puzzles.x_input, puzzles.puzzle_id, state)
    assert ahead.q_continue is not None, "checked when training was set up"
    return torch.where(last, ahead.q_hat, torch.maximum(ahead.q_hat, ahead.q_continue)).sigmoid()


def step_loss(
    step: Step,
    y_true: Tensor,
    answer: AnswerLoss,
    target: Tensor | None = None,
    halt_weight: float = 0.5,
) -> StepLoss:
    """Score one supervision step against (batch, cells) labels; PAD cells do not count.

    Args:
        step: what the model gave
        y_true: labels, (batch, cells) int64
        answer: cross-entropy per cell
        target: of ``continue_target``, for models that learn to continue
        halt_weight: of the halting loss beside the answer loss; as in the published code
    """
    labelled = y_true != PAD
    cells = labelled.sum(1).clamp(min=1)
    per_cell = torch.where(labelled, answer(step.y_hat, y_true), 0)
    answer_per_puzzle = per_cell.sum(1) / cells
    with torch.no_grad():
        right = (step.y_hat.argmax(-1) == y_true) & labelled
        cell = right.sum(1) / cells
        exact = (right | ~labelled).all(1) & labelled.any(1)
    q_hat = step.q_hat.to(answer_per_puzzle.dtype)
    halt = F.binary_cross_entropy_with_logits(q_hat, exact.to(q_hat.dtype), reduction="none")
    total = answer_per_puzzle + halt_weight * halt
    if target is not None:
        assert step.q_continue is not None, "checked when training was set up"
        q_continue = step.q_continue.to(total.dtype)
        total = total + halt_weight * F.binary_cross_entropy_with_logits(
            q_continue, target.to(total.dtype), reduction="none"
        )
    halt_right = (step.q_hat.detach() > 0) == exact
    losses = {"answer": answer_per_puzzle.detach(), "halt": halt.detach()}
    return StepLoss(total, losses, exact, cell, halt_right)
