"""What only a GPU can show: ``pytest -m gpu``. TRM_TEST_DEVICE=cpu tries the tests themselves."""

import os

import pytest
import torch
from lightning import Trainer

from tests.conftest import tiny_model
from tests.parity.arrays import Published, error
from tests.training.test_module import Given, some_batches
from trm.data import Batch, Sampler
from trm.models import TinyRecursiveModel, trajectory
from trm.models.likelihoods import stablemax_cross_entropy
from trm.tasks import Sudoku
from trm.train import run_training
from trm.training.acceleration import compiling
from trm.training.carry import Carry, steps_to_take
from trm.training.losses import step_loss
from trm.training.module import DeepSupervision
from trm.training.objectives import Objective
from trm.training.optimizers import AdamATan2
from trm.training.tally import Tally

DEVICE = torch.device(os.environ.get("TRM_TEST_DEVICE", "cuda"))

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE.type == "cuda" and not torch.cuda.is_available(), reason="there is no GPU"
    ),
]


@pytest.fixture(autouse=True)
def _exact_products():
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = allowed


def moved(batch: Batch) -> Batch:
    return Batch(*(t.to(DEVICE) for t in (batch.x_input, batch.y_true, batch.puzzle_id)))


def train(model, batches, tally=None):
    """Take the training steps by hand, without a trainer; return the losses."""
    model = model.to(DEVICE)
    optimizer = AdamATan2(model.parameters(), lr=1e-3, weight_decay=0.1)
    carry, losses, tally = None, [], tally or Tally()
    for k, batch in enumerate(batches):
        initial = model.initial_state(len(batch))
        carry = (carry or Carry.empty(batch, initial)).admit(batch, initial)
        optimizer.zero_grad()
        step = model(carry.puzzles.x_input, carry.puzzles.puzzle_id, carry.state)
        loss = step_loss(step, carry.puzzles.y_true, stablemax_cross_entropy)
        (loss.total.sum() / len(batch)).backward()
        optimizer.step()
        slots = torch.arange(len(batch), device=DEVICE)
        must_take = steps_to_take(0, k, slots, 4, 0.1)
        carry = carry.advance(step.state, step.q_hat.detach(), 4, must_take)
        tally.add([loss], step.q_hat.detach(), carry)
        losses.append(loss.total.detach().sum())
    return torch.stack(losses).cpu()


@pytest.mark.parametrize("name", ["trm_att", "trm_mlp", "trm_att_learned_positions", "hrm"])
def test_the_published_numbers_in_float32(name):
    published = Published(name)
    model, batch = published.model(torch.float32).to(DEVICE), moved(published.batch())
    with torch.no_grad():
        step = next(trajectory(model, batch.x_input, batch.puzzle_id, 1))
    assert error(step.y_hat.cpu(), published["eval/step1/logits"]) < 1e-5
    assert error(step.state.z.cpu(), published["eval/step1/z_L"]) < 1e-5


def test_eight_training_steps_are_those_of_a_cpu(puzzles, sudoku, monkeypatch):
    sampler = Sampler(puzzles.splits["train"], sudoku, 16, 0, None)
    batches = [sampler.batch(k) for k in range(8)]
    found = train(tiny_model(), [moved(batch) for batch in batches])
    monkeypatch.setattr(f"{__name__}.DEVICE", torch.device("cpu"))
    expected = train(tiny_model(), batches)
    torch.testing.assert_close(found[:3], expected[:3], rtol=1e-4, atol=1e-4)
    # The sign of a gradient near 0 is rounding's, and a step of this optimizer follows the sign.
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0)


@pytest.mark.parametrize("mixing", ["mlp", "attention"])
def test_bfloat16_gives_the_answers_of_float32(mixing):
    torch.manual_seed(0)
    positions = "rotary" if mixing == "attention" else "none"
    model = TinyRecursiveModel(11, 81, dim=128, n=2, mixing=mixing, positions=positions).to(DEVICE)
    tokens = torch.randint(1, 11, (8, 81), device=DEVICE)
    ids = torch.zeros(8, dtype=torch.int64, device=DEVICE)
    with torch.no_grad():
        exact = model(tokens, ids, model.initial_state(8)).y_hat
        with torch.autocast(DEVICE.type, torch.bfloat16):
            found = model(tokens, ids, model.initial_state(8)).y_hat
    assert error(found, exact) < 0.1
    assert (found.argmax(-1) == exact.argmax(-1)).float().mean() > 0.9


def test_a_training_step_never_waits_for_the_device(puzzles, sudoku):
    if DEVICE.type != "cuda":
        pytest.skip("torch watches CUDA alone")
    sampler = Sampler(puzzles.splits["train"], sudoku, 16, 0, None, DEVICE)
    model, tally = tiny_model(prefix_len=2, identifiers=3), Tally()
    train(model, [sampler.batch(0)], tally)  # what is made once may wait
    batches = [sampler.batch(k) for k in (1, 2)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        sampler.batch(3)
        model.zero_grad()
        batch = batches[0]
        initial = model.initial_state(16)
        carry = Carry.empty(batch, initial).admit(batch, initial)
        step = model(carry.puzzles.x_input, carry.puzzles.puzzle_id, carry.state)
        loss = step_loss(step, carry.puzzles.y_true, stablemax_cross_entropy)
        loss.total.sum().backward()
        model.identifiers.update(0.1, 0.1)
        must_take = steps_to_take(0, 0, torch.arange(16, device=DEVICE), 4, 0.1)
        carry = carry.advance(step.state, step.q_hat.detach(), 4, must_take)
        tally.add([loss], step.q_hat.detach(), carry)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("wanted", ["default"] if DEVICE.type == "cuda" else ["default", "max"])
def test_compiled_steps_are_the_same_steps(wanted):
    model = tiny_model().to(DEVICE)
    tokens = torch.randint(1, 6, (16, 16), device=DEVICE)
    ids = torch.zeros(16, dtype=torch.int64, device=DEVICE)
    state = model.initial_state(16)

    def gradients():
        model.zero_grad()
        step = model(tokens, ids, state)
        step_loss(step, tokens, stablemax_cross_entropy).total.sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    expected = gradients()
    with compiling(wanted, model, tokens.shape, DEVICE, steps=1):
        for one, other in zip(gradients(), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("unroll", [1, 3])
def test_recorded_training_is_training(puzzles, unroll):
    def trained(compiling):
        torch.manual_seed(0)
        module = DeepSupervision(
            tiny_model(n=1, T=1),
            Sudoku(2, 2),
            lambda params: AdamATan2(params, lr=1e-3),
            Objective(unroll=unroll, start="random"),
            N_sup=3,
            compile=compiling,
        )
        trainer = Trainer(
            max_steps=6,
            accelerator={"cuda": "gpu"}.get(DEVICE.type, DEVICE.type),
            precision="bf16-mixed" if DEVICE.type == "cuda" else "32-true",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        trainer.fit(module, Given([moved(batch) for batch in some_batches(puzzles, 6)]))
        return [p.detach().cpu() for p in module.parameters()]

    for one, other in zip(trained("max"), trained("default"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_run_from_its_start_to_its_result(tiny_config):
    kind = {"cuda": "gpu"}.get(DEVICE.type, DEVICE.type)
    result = run_training(tiny_config(f"trainer.accelerator={kind}"))
    assert result["device"].startswith(DEVICE.type)
    assert result["test"][-1]["n"] > 0
