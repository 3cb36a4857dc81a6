"""The models compute the function and the gradient of the published code."""

import pytest
import torch

from tests.parity.arrays import Published, error
from trm.models import trajectory
from trm.models.likelihoods import stablemax_cross_entropy
from trm.training.losses import continue_target, step_loss

MODELS = ["trm_att", "trm_mlp", "trm_att_learned_positions", "hrm"]


@pytest.mark.parametrize("name", MODELS)
def test_three_supervision_steps(name):
    published = Published(name)
    model, batch = published.model(), published.batch()
    with torch.no_grad():
        steps = trajectory(model, batch.x_input, batch.puzzle_id, 3)
        for k, step in enumerate(steps, start=1):
            loss = step_loss(step, batch.y_true, stablemax_cross_entropy)
            computed = {
                "logits": step.y_hat,
                "q_halt_logits": step.q_hat,
                "q_continue_logits": step.q_continue,
                "z_H": step.state.y,
                "z_L": step.state.z,
                "loss": loss.total.sum(),
                "lm_loss": loss.losses["answer"].sum(),
                "q_halt_loss": loss.losses["halt"].sum(),
            }
            for key, value in computed.items():
                assert error(value, published[f"eval/step{k}/{key}"]) < 1e-9, (k, key)


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_every_gradient_of_one_training_step(name):
    published = Published(name)
    model, batch = published.model(), published.batch()
    step = model(batch.x_input, batch.puzzle_id, model.initial_state(len(batch)))
    target = None
    if model.halting == "continue":
        last = torch.zeros(len(batch), dtype=torch.bool)
        target = continue_target(model, batch, step.state.detach(), last)
    loss = step_loss(step, batch.y_true, stablemax_cross_entropy, target).total.sum()
    (loss / len(batch)).backward()
    assert error(loss, published["train/loss_sum"]) < 1e-9
    gradients = published.below("grad/")
    rows = gradients.pop("puzzle_emb.local_weights")
    assert error(model.identifiers.gradient()[1], rows) < 1e-9
    assert gradients.keys() == {name for name, _ in model.named_parameters()}
    for key, expected in gradients.items():
        assert error(model.get_parameter(key).grad, expected) < 1e-9, key


@pytest.mark.parametrize("name", MODELS)
def test_the_first_step_in_float32(name):
    published = Published(name)
    model, batch = published.model(torch.float32), published.batch()
    with torch.no_grad():
        step = next(trajectory(model, batch.x_input, batch.puzzle_id, 1))
    assert error(step.y_hat, published["eval/step1/logits"]) < 1e-5
    assert error(step.state.z, published["eval/step1/z_L"]) < 1e-5
