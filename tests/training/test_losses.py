import pytest
import torch

from trm import InputError
from trm.models import State, Step
from trm.models.likelihoods import answer_loss, softmax_cross_entropy, stablemax_cross_entropy
from trm.training.losses import step_loss


def a_step(y_hat, q_hat=0.0):
    batch = len(y_hat)
    state = State(torch.zeros(batch, 1, 1), torch.zeros(batch, 1, 1))
    return Step(y_hat, torch.full((batch,), q_hat), state)


def test_stablemax_is_its_definition():
    y_hat, y_true = torch.randn(3, 5, 7, dtype=torch.float64), torch.randint(0, 7, (3, 5))
    s = torch.where(y_hat < 0, 1 / (1 - y_hat), y_hat + 1)
    share = (s / s.sum(-1, keepdim=True)).gather(-1, y_true[..., None])[..., 0]
    torch.testing.assert_close(stablemax_cross_entropy(y_hat, y_true), -share.log())


@pytest.mark.parametrize("confidence", [1.0, 1e3, 1e6, 1e9])
def test_stablemax_in_float32_is_as_good_as_in_float64(confidence):
    # The published formula, in float64: a difference of logarithms.
    torch.manual_seed(0)
    y_hat, y_true = torch.randn(64, 11), torch.randint(0, 11, (64,))
    y_hat += confidence * (2 * torch.nn.functional.one_hot(y_true, 11) - 1)
    ours, published = y_hat.clone().requires_grad_(), y_hat.double().requires_grad_()
    loss = stablemax_cross_entropy(ours, y_true)
    s = torch.where(published < 0, 1 / (1 - published.clamp(max=0)), published + 1)
    expected = s.sum(-1).log() - s.gather(-1, y_true[:, None])[:, 0].log()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-15)
    loss.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad.double(), published.grad, rtol=1e-5, atol=1e-15)


def test_stablemax_gradient_is_finite_at_one():
    # 1 / (1 - x) is infinite there, although that branch is not taken.
    y_hat = torch.tensor([[1.0, 0.0, -1.0]], requires_grad=True)
    stablemax_cross_entropy(y_hat, torch.tensor([0])).sum().backward()
    assert y_hat.grad.isfinite().all()


def test_softmax_is_torch_cross_entropy():
    y_hat, y_true = torch.randn(3, 5, 7), torch.randint(0, 7, (3, 5))
    expected = -y_hat.log_softmax(-1).gather(-1, y_true[..., None])[..., 0]
    torch.testing.assert_close(softmax_cross_entropy(y_hat, y_true), expected)


@pytest.mark.parametrize("answer", [stablemax_cross_entropy, softmax_cross_entropy])
def test_masked_cells_do_not_move_the_loss(answer):
    y_hat = torch.randn(2, 6, 5)
    y_true = torch.randint(1, 5, (2, 6))
    y_true[:, 3:] = 0
    moved = y_hat.clone()
    moved[:, 3:] += 10
    one, other = step_loss(a_step(y_hat), y_true, answer), step_loss(a_step(moved), y_true, answer)
    assert one.total.equal(other.total)
    assert one.cell.equal(other.cell)
    short = step_loss(a_step(y_hat[:, :3]), y_true[:, :3], answer)
    torch.testing.assert_close(one.total, short.total)


def test_hits_and_halting_target():
    y_true = torch.tensor([[1, 2, 0], [1, 2, 0]])
    y_hat = torch.nn.functional.one_hot(torch.tensor([[1, 2, 2], [1, 1, 0]]), 3).float()
    loss = step_loss(a_step(y_hat, q_hat=3.0), y_true, softmax_cross_entropy)
    assert loss.exact.tolist() == [True, False]
    assert loss.cell.tolist() == [1.0, 0.5]
    assert loss.halt_right.tolist() == [True, False]
    assert loss.losses["halt"][0] < 0.1 < 3 < loss.losses["halt"][1]
    torch.testing.assert_close(loss.total, loss.losses["answer"] + loss.losses["halt"] / 2)


def test_an_unknown_loss_is_refused():
    with pytest.raises(InputError, match="train.loss=mse must be one of stablemax, softmax"):
        answer_loss("mse")
