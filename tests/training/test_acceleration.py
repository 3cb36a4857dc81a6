import shutil

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from tests.conftest import tiny_model
from trm import InputError
from trm.data import Batch
from trm.models import HierarchicalReasoningModel
from trm.models.likelihoods import stablemax_cross_entropy
from trm.training import acceleration
from trm.training.acceleration import compiling, training_flops
from trm.training.losses import step_loss

CPU = torch.device("cpu")


class Casts(TorchDispatchMode):
    """Counts how often a matrix is cast to bfloat16."""

    def __init__(self, shapes):
        super().__init__()
        self.shapes, self.count = shapes, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        to_bfloat16 = (kwargs or {}).get("dtype") == torch.bfloat16
        self.count += "_to_copy" in func.__name__ and to_bfloat16 and args[0].shape in self.shapes
        return func(*args, **(kwargs or {}))


def a_batch():
    tokens = torch.randint(1, 6, (3, 16))
    return Batch(tokens, tokens, torch.zeros(3, dtype=torch.int64))


def gradients(model, batch):
    model.zero_grad()
    step = model(batch.x_input, batch.puzzle_id, model.initial_state(len(batch)))
    step_loss(step, batch.y_true, stablemax_cross_entropy).total.sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def test_autocast_casts_every_matrix_once_per_step():
    # The network is applied T (n + 1) times. Autocast caches casts, without gradients too.
    model, batch = tiny_model(n=2, T=3, mixing="attention", positions="rotary"), a_batch()
    matrices = [m.weight.shape for m in model.modules() if isinstance(m, torch.nn.Linear)]
    with torch.autocast("cpu", torch.bfloat16), Casts(set(matrices)) as casts:
        model(batch.x_input, batch.puzzle_id, model.initial_state(3))
    assert casts.count == len(matrices)


def test_operations_are_those_of_the_matrix_products():
    for model in (
        tiny_model(),
        tiny_model(mixing="attention", positions="rotary", prefix_len=2),
        HierarchicalReasoningModel(6, 16, dim=16, heads=2, layers=1, hidden_multiple=8),
    ):
        with torch.device("meta"):
            empty = type(model)(**{k: v for k, v in model.settings().items() if k != "_target_"})
            tokens = torch.ones(5, 16, dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            step = empty(tokens, tokens[:, 0], empty.initial_state(5))
            (step.y_hat.sum() + step.q_hat.sum()).backward()
        assert training_flops(model, 5, 16) == counter.get_total_flops()


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
@pytest.mark.parametrize("wanted", ["default", pytest.param("max", marks=pytest.mark.slow)])
def test_compiled_steps_are_the_same_steps(wanted):
    model, batch = tiny_model(n=1, T=2), a_batch()
    expected = gradients(model, batch)
    compiled = compiling(wanted, model, batch.x_input.shape, CPU, steps=1)
    with compiled:
        found = gradients(model, batch)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert "forward" not in vars(model)
    assert "forward" not in vars(model.net)


def test_auto_compiles_long_runs_on_a_cpu_alone(monkeypatch):
    model, shape = tiny_model(), (3, 16)
    monkeypatch.setattr(acceleration.shutil, "which", lambda name: "/usr/bin/c++")
    step = training_flops(model, *shape)
    short = compiling("auto", model, shape, CPU, steps=10)
    assert not isinstance(short, acceleration.Compiled)
    long_run = int(acceleration.LONG_RUN / step) + 1
    assert isinstance(compiling("auto", model, shape, CPU, long_run), acceleration.Compiled)
    assert not isinstance(compiling("off", model, shape, CPU, long_run), acceleration.Compiled)


def test_without_a_compiler_auto_stays_eager_and_the_rest_is_refused(monkeypatch):
    monkeypatch.setattr(acceleration.shutil, "which", lambda name: None)
    eager = compiling("auto", tiny_model(), (3, 16), CPU, steps=10**12)
    assert not isinstance(eager, acceleration.Compiled)
    with pytest.raises(InputError, match="train.compile=max needs a C\\+\\+ compiler"):
        compiling("max", tiny_model(), (3, 16), CPU, steps=1)
