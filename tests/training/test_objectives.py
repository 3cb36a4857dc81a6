"""How a trajectory learns, and that what is drawn depends on (seed, step, slot) alone."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.conftest import same, tiny_model
from trm import InputError
from trm.data import Batch
from trm.models import SymmetricModel
from trm.models.likelihoods import answer_loss
from trm.support import counter_rng
from trm.support.batched import disturbed
from trm.tasks import Sudoku
from trm.train import run_training
from trm.training.losses import StepLoss
from trm.training.objectives import Objective

UNROLLED = "objective=unroll", "objective.unroll=3", "recursion.T=1", "objective.start=random"


def saved(result) -> dict:
    return torch.load(
        Path(result["config"]["run_dir"], "checkpoints", "last.ckpt"), weights_only=True
    )


def test_a_random_start_is_a_standard_normal_of_each_puzzle_alone():
    model, keys = tiny_model(), counter_rng.key(3, torch.arange(40))
    objective = Objective(start="random")
    state = objective.initial_state(model, keys)
    assert abs(state.y.mean()) < 0.05
    assert abs(state.z.std() - 1) < 0.05
    assert not state.y.equal(state.z)
    alone = objective.initial_state(model, keys[7:8])
    assert alone.y.equal(state.y[7:8])


def test_disturbing_keeps_a_share_and_adds_noise():
    state = tiny_model().initial_state(2)
    keys = torch.arange(2)
    assert same(dict(disturbed(state, keys, 0.5, 0.0).tensors())["y"], 0.5 * state.y)
    noisy = disturbed(state, keys, 1.0, 0.1)
    assert 0.05 < (noisy.z - state.z).std() < 0.2


def test_gradient_flows_through_all_steps_that_learn_together():
    model, batch = tiny_model(T=1), 2
    x_input, ids = torch.ones(batch, 16, dtype=torch.int64), torch.zeros(batch, dtype=torch.int64)
    start = model.initial_state(batch).map(lambda h: h.clone().requires_grad_())
    state = start
    for _ in range(3):
        state = model(x_input, ids, state).state
    (gradient,) = torch.autograd.grad(state.y.square().sum(), start.z, allow_unused=True)
    assert gradient is not None


@pytest.mark.parametrize("changes", [UNROLLED, ("objective.start=random",)])
def test_a_run_resumes_to_the_bit(tiny_config, tmp_path, changes):
    changes = *changes, "checkpoint.every_n_steps=3", "train.halt_exploration=0.5"
    whole = run_training(tiny_config(*changes))
    folder = tmp_path / "cut"
    run_training(tiny_config(*changes, f"run_dir={folder}", "trainer.max_steps=3"))
    rest = run_training(tiny_config(*changes, f"ckpt_path={folder}", f"run_dir={folder}"))
    for name in ("state_dict", "optimizer_states", "carry", "tally"):
        assert same(saved(whole).get(name), saved(rest).get(name)), name


def test_slices_of_a_batch_draw_what_the_whole_would(tiny_config, tmp_path):
    exact = *UNROLLED, "trainer.precision=32-true"  # products of slices round in other places
    whole = run_training(tiny_config(*exact))
    elsewhere = f"run_dir={tmp_path / 'sliced'}"
    sliced = run_training(tiny_config(*exact, "train.micro_batch=3", elsewhere))
    for one, other in zip(
        saved(whole)["carry"].values(), saved(sliced)["carry"].values(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_losses_of_steps_that_learn_together_are_averaged_by_name():
    ones = torch.ones(2)
    steps = [StepLoss(k * ones, {"answer": k * ones}, ones > 0, ones, ones > 0) for k in (1, 3)]
    mean = StepLoss.mean(steps)
    assert mean.total.tolist() == [2, 2]
    assert mean.losses["answer"].tolist() == [2, 2]
    more = mean.plus(entropy=0.5 * ones)
    assert more.total.tolist() == [2.5, 2.5]
    assert list(more.losses) == ["answer", "entropy"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("objective.unroll=2",), "objective.unroll=2 needs one cycle .* the first of T=2"),
        (("objective.unroll=2", "recursion.T=1"), "train.N_sup=3 must be a multiple of objective"),
        (
            ("objective.unroll=3", "recursion.T=1", "ablation=one_step_gradient"),
            "objective.unroll=3 needs gradient through the whole cycle",
        ),
        (("objective.unroll=0",), "objective.unroll=0 must be at least 1"),
        (("objective.start=cold",), "objective.start=cold must be one of fixed, random"),
        (("objective._target_=trm.train.run_training",), "is no Objective"),
    ],
)
def test_an_impossible_objective_is_refused(tiny_config, changes, message):
    with pytest.raises(InputError, match=message):
        run_training(tiny_config(*changes))


def test_what_has_no_label_teaches_contradiction_and_is_never_exact():
    torch.manual_seed(0)
    task = Sudoku(2, 2)
    structure = {name: task.structure[name] for name in ("vocab_size", "grid_shape", "boxes")}
    model = SymmetricModel(**structure, dim=8, hidden=8)
    x_input = torch.ones(3, 16, dtype=torch.int64)
    y_true = torch.full((3, 16), 2)
    y_true[1] = 0
    puzzles = Batch(x_input, y_true, x_input[:, 0])
    step = model(x_input, puzzles.puzzle_id, model.initial_state(3))
    answer = answer_loss("softmax")
    plain = Objective(halt_weight=0.0).score(step, puzzles, answer, None)
    assert plain.total[1] == 0
    assert not plain.exact[1]
    taught = Objective(halt_weight=0.0, contradiction_weight=2.0).score(step, puzzles, answer, None)
    said = F.binary_cross_entropy_with_logits(
        step.contradiction, torch.tensor([0.0, 1.0, 0.0]), reduction="none"
    )
    torch.testing.assert_close(taught.total - plain.total, 2 * said)
    assert taught.losses["contradiction"].equal((2 * said).detach())
    (gradient,) = torch.autograd.grad(taught.total[1], model.halt_head.weight)
    assert gradient[2].abs().max() > 0, "the third row says contradiction"
    assert gradient[:2].abs().max() == 0


def test_a_model_that_cannot_say_contradiction_is_not_asked_to():
    model, grid = tiny_model(), torch.ones(2, 16, dtype=torch.int64)
    step = model(grid, grid[:, 0], model.initial_state(2))
    objective = Objective(contradiction_weight=0.1)
    with pytest.raises(InputError, match="for models that say whether a puzzle contradicts"):
        objective.score(step, Batch(grid, grid, grid[:, 0]), answer_loss("softmax"), None)
