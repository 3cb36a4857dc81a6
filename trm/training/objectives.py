"""How a trajectory learns: where it starts, what disturbs it, what it is scored by."""

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from trm.data.sampler import Batch
from trm.models.likelihoods import AnswerLoss
from trm.models.recursion import RecursiveModel, Step
from trm.support.batched import Batched, disturbed
from trm.support.errors import InputError, check_at_least, check_choice
from trm.tasks.base import PAD
from trm.training.losses import StepLoss, step_loss

Start = Literal["fixed", "random"]


class Objective:
    """Deep supervision as published: a loss after every supervision step, its gradient within it.

    A class derived from this one changes what it names. Random numbers come from the keys that a
    method is given, one for each puzzle, and from nothing else: then a resumed run is the same run,
    however many processes share the batch.

    Args:
        unroll: supervision steps that carry gradient together, with a loss after each of them; more
            than one needs ``recursion.T=1``, for cycles without gradient would cut it
        start: ``fixed`` as the model starts in inference, ``random`` with a standard normal of the
            puzzle's own for every entry of the state
        halt_weight: of the halting loss beside the answer loss
        contradiction_weight: of the loss that teaches to say of a puzzle without any label, as
            ``train.filling`` makes them, that it has no answer; for models that can say it

    Raises:
        InputError: a value out of range
    """

    def __init__(
        self,
        unroll: int = 1,
        start: Start = "fixed",
        halt_weight: float = 0.5,
        contradiction_weight: float = 0.0,
    ) -> None:
        check_at_least(1, "objective.", unroll=unroll)
        check_choice(get_args(Start), "objective.", start=start)
        check_at_least(
            0,
            "objective.",
            halt_weight=halt_weight,
            contradiction_weight=contradiction_weight,
        )
        self.unroll, self.start = unroll, start
        self.halt_weight, self.contradiction_weight = halt_weight, contradiction_weight

    def initial_state(self, model: RecursiveModel, keys: Tensor) -> Batched:
        """Return the states in which fresh puzzles start, one for each of the (batch,) keys."""
        state = model.initial_state(len(keys))
        return state if self.start == "fixed" else disturbed(state, keys, 0.0, 1.0)

    def before_step(self, state: Batched, keys: Tensor) -> Batched:
        """Return the state from which a supervision step is taken; the same unless disturbed.

        Args:
            state: where the puzzles stand, with the gradient of earlier steps of the window
            keys: others at every step, (batch,) int64
        """
        return state

    def score(
        self, step: Step, puzzles: Batch, answer: AnswerLoss, target: Tensor | None
    ) -> StepLoss:
        """Score a supervision step; ``StepLoss.plus`` adds losses of one's own, by name.

        Args:
            step: what the model gave
            puzzles: with labels
            answer: cross-entropy per cell
            target: value of going on, for models that learn it (``halting=continue``)
        """
        loss = step_loss(step, puzzles.y_true, answer, target, self.halt_weight)
        if not self.contradiction_weight:
            return loss
        if step.contradiction is None:
            raise InputError(
                f"objective.contradiction_weight={self.contradiction_weight} is for models that "
                f"say whether a puzzle contradicts itself, and this one does not; take 0"
            )
        contradicts = (puzzles.y_true == PAD).all(1)
        said = F.binary_cross_entropy_with_logits(
            step.contradiction.to(loss.total.dtype),
            contradicts.to(loss.total.dtype),
            reduction="none",
        )
        return loss.plus(contradiction=self.contradiction_weight * said)
