"""How a trajectory learns: where it starts, what disturbs it, what it is scored by."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from trm.data.sampler import Batch
from trm.models.competing import chosen
from trm.models.feedback import FeedbackState
from trm.models.flow import FlowState, noise
from trm.models.likelihoods import AnswerLoss
from trm.models.recursion import KeyedState, RecursiveModel, Step
from trm.support import counter_rng
from trm.support.batched import Batched, disturbed
from trm.support.errors import InputError, check_at_least, check_between, check_choice
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
        consistency_weight: of the squared error of how often, by its probabilities, an answer has a
            token in each of ``groups``, as a label does (the CSP loss of priml's experiment 7)
        groups: named groups of cells; the task's, where it is made from a config

    Raises:
        InputError: a value out of range
    """

    def __init__(
        self,
        unroll: int = 1,
        start: Start = "fixed",
        halt_weight: float = 0.5,
        contradiction_weight: float = 0.0,
        consistency_weight: float = 0.0,
        groups: Mapping[str, Sequence[Sequence[int]]] | None = None,
    ) -> None:
        check_at_least(1, "objective.", unroll=unroll)
        check_choice(get_args(Start), "objective.", start=start)
        check_at_least(
            0,
            "objective.",
            halt_weight=halt_weight,
            contradiction_weight=contradiction_weight,
            consistency_weight=consistency_weight,
        )
        if consistency_weight and not groups:
            raise InputError(
                f"objective.consistency_weight={consistency_weight} needs groups of cells; take 0"
            )
        self.unroll, self.start = unroll, start
        self.halt_weight, self.contradiction_weight = halt_weight, contradiction_weight
        self.consistency_weight = consistency_weight
        known = groups.values() if groups and consistency_weight else ()
        self._groups = [torch.tensor(cells) for cells in known]

    def initial_state(self, model: RecursiveModel, keys: Tensor) -> Batched:
        """Return the states in which fresh puzzles start, one for each of the (batch,) keys."""
        state = model.initial_state(len(keys))
        if isinstance(state, KeyedState):
            state = replace(state, key=keys)
        return state if self.start == "fixed" else disturbed(state, keys, 0.0, 1.0)

    def before_step(self, state: Batched, puzzles: Batch, keys: Tensor) -> Batched:
        """Return the state from which a supervision step is taken; the same unless disturbed.

        Args:
            state: where the puzzles stand, with the gradient of earlier steps of the window
            puzzles: with labels
            keys: others at every step, (batch,) int64
        """
        return state

    def settle(self, step: Step, puzzles: Batch, answer: AnswerLoss) -> Step:
        """Return the step that is scored and goes on; the same unless several compete.

        Args:
            step: what the model gave
            puzzles: with labels
            answer: cross-entropy per cell
        """
        return step

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
        if self.consistency_weight:
            error = self._inconsistency(step.y_hat, puzzles.y_true)
            loss = loss.plus(consistency=self.consistency_weight * error)
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

    def _inconsistency(self, y_hat: Tensor, y_true: Tensor) -> Tensor:
        """Compare the tokens of each group with those of its label, (batch,)."""
        cells = self._groups[0].numel()
        if cells != y_true.shape[1]:
            raise InputError(
                f"objective.consistency_weight={self.consistency_weight} knows the groups of "
                f"{cells} cells alone, and there are puzzles of {y_true.shape[1]}; take sizes=null"
            )
        p = y_hat.float().softmax(-1)
        labelled = (y_true != PAD)[..., None]
        excess = torch.where(labelled, p - F.one_hot(y_true, p.shape[-1]), 0)
        self._groups = [cells.to(y_true.device) for cells in self._groups]  # copied once
        counts = [excess[:, cells].sum(2)[..., 1:] for cells in self._groups]
        return torch.stack([off.square().flatten(1).mean(1) for off in counts]).mean(0)


class FeedbackRepair(Objective):
    """Damage now and then the answer that ``FeedbackModel`` is shown, so that it learns to mend it.

    priml's experiment 8: of every second puzzle and step, one cell in seven is replaced by a random
    token, here by that of a random cell of the label.

    Args:
        share: of the puzzles whose answer is damaged before a step
        cells: share of the cells that are replaced
        others: see ``Objective``

    Raises:
        InputError: a value out of range
    """

    options_class = Objective  # of its further arguments

    def __init__(self, share: float = 0.5, cells: float = 12 / 81, **others: Any) -> None:
        super().__init__(**others)
        check_between(0, 1, "objective.", share=share, cells=cells)
        self.share, self.cells = share, cells

    def before_step(self, state: Batched, puzzles: Batch, keys: Tensor) -> Batched:
        """Return the state with some answers damaged."""
        if not isinstance(state, FeedbackState):
            raise _for_other_models(self, "models that see their answer", "feedback_repair")
        count = puzzles.y_true.shape[1]
        chosen_puzzles = counter_rng.uniform(counter_rng.key(keys, 0)) < self.share
        chosen_cells = counter_rng.uniforms(counter_rng.key(keys, 1), count) < self.cells
        other = counter_rng.draws(counter_rng.key(keys, 2), count) % count
        damaged = chosen_puzzles[:, None] & chosen_cells & (state.answer != PAD)
        answer = torch.where(damaged, puzzles.y_true.gather(1, other), state.answer)
        return replace(state, answer=answer)


class WinnerTakesAll(Objective):
    """Of the chains of a ``CompetingModel`` the one whose answer is best learns, and goes on."""

    def settle(self, step: Step, puzzles: Batch, answer: AnswerLoss) -> Step:
        """Return the step of the chain with the lowest cross-entropy."""
        if step.chains is None:
            raise _for_other_models(self, "models with several chains", "winner_takes_all")
        y_hat = step.chains.y_hat.detach()
        y_true = puzzles.y_true[:, None].expand(y_hat.shape[:-1])
        loss = torch.where(y_true != PAD, answer(y_hat, y_true), 0).sum(-1)
        return chosen(step.chains, loss.argmin(1))


class DenoisingTargets(Objective):
    """Show ``FlowModel`` answers with less and less of one noise (looped flows, 2609.11801).

    The times at which a puzzle's steps see the interpolant are uniform draws, sorted. Of some
    puzzles it leads, from the second step on, not to the label but to what the model answered last
    ("pseudotargets"), as it will be in inference; the released recipe lets their share grow from 0
    to 1 over training, here it is constant. The loss is that of the label always.

    Args:
        steps: supervision steps, ``train.N_sup``
        pseudo: share of the puzzles that are led by the model's own answers
        others: see ``Objective``

    Raises:
        InputError: a value out of range
    """

    options_class = Objective  # of its further arguments

    def __init__(self, steps: int = 16, pseudo: float = 0.5, **others: Any) -> None:
        super().__init__(**others)
        check_at_least(1, "objective.", steps=steps)
        check_between(0, 1, "objective.", pseudo=pseudo)
        self.steps, self.pseudo = steps, pseudo

    def initial_state(self, model: RecursiveModel, keys: Tensor) -> Batched:
        """Return the states in which fresh puzzles start, of a model that denoises."""
        state = super().initial_state(model, keys)
        if not isinstance(state, FlowState):
            raise _for_other_models(self, "models that denoise", "denoising_targets")
        return state

    def before_step(self, state: Batched, puzzles: Batch, keys: Tensor) -> Batched:
        """Return the state with the interpolant of this step."""
        assert isinstance(state, FlowState), "checked at the start"
        draws = counter_rng.uniforms(counter_rng.key(state.key, -1), self.steps + 1)
        number = state.taken.clamp(max=self.steps)[:, None]
        time = draws.sort(1).values.gather(1, number).squeeze(1)
        own = counter_rng.uniform(counter_rng.key(state.key, -2)) < self.pseudo
        own &= state.taken > 0
        label = F.one_hot(puzzles.y_true, state.clean.shape[-1]).to(state.clean.dtype)
        target = torch.where(own[:, None, None], state.clean, label)
        start = noise(state.key, state.clean)
        return replace(state, time=time, noisy=torch.lerp(start, target, time[:, None, None]))


def _for_other_models(objective: Objective, models: str, ablation: str) -> InputError:
    return InputError(
        f"{type(objective).__name__} is an objective for {models}; take ablation={ablation}, which "
        f"changes the model, too"
    )
