"""What objectives draw, choose and add to the loss."""

from dataclasses import replace

import pytest
import torch

from trm import InputError
from trm.data.sampler import Batch
from trm.models import CompetingModel, FeedbackModel, FlowModel, TinyRecursiveModel
from trm.models.flow import noise
from trm.models.likelihoods import softmax_cross_entropy
from trm.tasks import Sudoku
from trm.tasks.base import PAD
from trm.training.curriculum import DepthCurriculum
from trm.training.objectives import DenoisingTargets, FeedbackRepair, Objective, WinnerTakesAll

TASK = Sudoku(2, 2)
SOLUTION = torch.tensor([int(d) + 1 for d in "1234341221434321"])
KEYS = torch.arange(200)


def puzzles(count):
    y_true = SOLUTION.expand(count, -1)
    return Batch(torch.ones_like(y_true), y_true, torch.zeros(count, dtype=torch.int64))


def tiny(kind, **options):
    return kind(6, 16, dim=16, hidden_multiple=8, n=1, T=1, **options)


def logits_of(y, height=30.0):
    return height * torch.nn.functional.one_hot(y, 6).float()


def inconsistency(y_hat, y_true=None):
    objective = Objective(consistency_weight=1.0, groups=TASK.groups)
    return objective._inconsistency(y_hat, SOLUTION[None] if y_true is None else y_true)


def test_an_answer_that_has_each_token_as_often_as_the_label_is_consistent():
    assert inconsistency(logits_of(SOLUTION[None])).item() == pytest.approx(0, abs=1e-9)
    other_digits = torch.where(SOLUTION == 2, 3, torch.where(SOLUTION == 3, 2, SOLUTION))
    assert inconsistency(logits_of(other_digits[None])).item() == pytest.approx(0, abs=1e-9)


def test_a_wrong_digit_is_inconsistent_in_its_row_column_and_box():
    wrong = SOLUTION.clone()
    wrong[0] = 3  # for a 2: in three groups one token too much and one too few
    errors = 3 * 2 / (3 * 4 * 5)  # over three kinds of four groups and five tokens
    assert inconsistency(logits_of(wrong[None])).item() == pytest.approx(errors, rel=1e-5)


def test_puzzles_without_a_label_cannot_be_inconsistent():
    assert inconsistency(torch.randn(1, 16, 6), torch.full((1, 16), PAD)).item() == 0


def test_consistency_needs_groups_of_the_size_at_hand():
    with pytest.raises(InputError, match="needs groups"):
        Objective(consistency_weight=0.3)
    with pytest.raises(InputError, match="groups of 16 cells alone"):
        inconsistency(torch.zeros(1, 36, 6), torch.ones(1, 36, dtype=torch.int64))


def test_repair_damages_the_share_it_is_told_and_no_first_answer():
    objective, batch = FeedbackRepair(share=0.5, cells=0.25), puzzles(200)
    first = tiny(FeedbackModel).initial_state(200)
    assert objective.before_step(first, batch, KEYS).answer.equal(first.answer)
    answered = replace(first, answer=torch.full_like(first.answer, 5))
    damaged = objective.before_step(answered, batch, KEYS).answer != 5
    touched = damaged.any(1)
    assert touched.float().mean().item() == pytest.approx(0.5, abs=0.1)
    # A fourth of the new tokens is the old one: a cell of the label, of which each digit has four.
    assert damaged[touched].float().mean().item() == pytest.approx(0.25 * 0.75, abs=0.03)


def test_the_chain_whose_answer_is_best_wins():
    model = tiny(CompetingModel, chains=3)
    batch = puzzles(2)
    step = model(batch.x_input, batch.puzzle_id, model.initial_state(2))
    y_hat = torch.randn(2, 3, 16, 6)
    y_hat[0, 2] = logits_of(SOLUTION)
    y_hat[1, 0] = logits_of(SOLUTION)
    step = replace(step, chains=replace(step.chains, y_hat=y_hat))
    settled = WinnerTakesAll().settle(step, batch, softmax_cross_entropy)
    assert settled.state.winner.tolist() == [2, 0]
    assert settled.y_hat[1].equal(y_hat[1, 0])


def test_targets_are_denoised_step_by_step_with_one_noise():
    objective, batch = DenoisingTargets(steps=8, pseudo=0.0), puzzles(200)
    state = objective.initial_state(tiny(FlowModel), KEYS)
    times, starts = [], []
    label = logits_of(batch.y_true, 1.0)
    for taken in range(8):
        state = replace(state, taken=torch.full_like(state.taken, taken))
        state = objective.before_step(state, batch, KEYS + taken)
        times.append(state.time)
        time = state.time[:, None, None]
        start = (state.noisy - time * label) / (1 - time)
        assert start.std().item() == pytest.approx(6**-0.5, rel=0.05)
        starts.append(start)
    torch.testing.assert_close(starts[0], starts[-1], atol=1e-2, rtol=1e-2)
    rising = torch.stack(times)
    assert (rising.diff(dim=0) >= 0).all()
    assert rising.mean(1)[[0, 7]].tolist() == pytest.approx([1 / 10, 8 / 10], abs=0.05)


def test_some_puzzles_are_led_by_what_the_model_answered():
    objective, batch = DenoisingTargets(steps=8, pseudo=0.5), puzzles(200)
    state = objective.initial_state(tiny(FlowModel), KEYS)
    own = torch.zeros_like(state.clean)
    own[..., 3] = 1
    state = replace(state, clean=own, taken=torch.ones_like(state.taken))
    late = objective.before_step(state, batch, KEYS)
    led = torch.lerp(noise(state.key, own), own, late.time[:, None, None])
    own_share = (late.noisy == led).flatten(1).all(1).float().mean()
    assert own_share.item() == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("kind", [FeedbackRepair, WinnerTakesAll, DenoisingTargets])
def test_objectives_that_need_a_model_of_their_own_say_so(kind):
    batch, model = puzzles(2), tiny(TinyRecursiveModel)
    objective = kind()

    def take_a_step():
        state = objective.initial_state(model, KEYS[:2])
        state = objective.before_step(state, batch, KEYS[:2])
        step = model(batch.x_input, batch.puzzle_id, state)
        objective.settle(step, batch, softmax_cross_entropy)

    with pytest.raises(InputError, match="take ablation="):
        take_a_step()


class Trainer:
    """As much of one as a curriculum looks at."""

    max_steps = 10
    global_step = 0


class Module:
    """Likewise."""

    model = tiny(TinyRecursiveModel)


def test_a_curriculum_recurs_less_at_first_and_in_full_between_steps():
    trainer, module = Trainer(), Module()
    module.model.n, module.model.T = 3, 3
    curriculum = DepthCurriculum(until=(0.3, 0.6), n=(2, 4), T=(1, 2))
    curriculum.on_fit_start(trainer, module)
    seen = []
    for trainer.global_step in range(10):
        curriculum.on_train_batch_start(trainer, module, None, 0)
        seen.append((module.model.n, module.model.T))
        curriculum.on_train_batch_end(trainer, module, None, None, 0)
        assert (module.model.n, module.model.T) == (3, 3)
    assert seen == [(2, 1)] * 3 + [(3, 2)] * 3 + [(3, 3)] * 4


def test_a_curriculum_of_stages_that_cannot_be_is_refused():
    with pytest.raises(InputError, match="must rise"):
        DepthCurriculum(until=(0.6, 0.3))
