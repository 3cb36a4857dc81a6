import logging
from pathlib import Path

import pytest
import torch

from trm import InputError
from trm.data.sampler import Batch
from trm.models import State
from trm.train import run_training
from trm.training.carry import Carry
from trm.training.guards import HaltingWatch, all_finite, check_lag
from trm.training.losses import StepLoss
from trm.training.module import DeepSupervision
from trm.training.tally import Measured, Tally, first_bad_step


def measured(says_stop: float, solved: float) -> Measured:
    return Measured({}, 64, 0, solved, says_stop)


def warnings_of(caplog, *readings: Measured) -> list[str]:
    watch = HaltingWatch()
    with caplog.at_level(logging.WARNING, "trm"):
        for step, reading in enumerate(readings, start=1):
            watch.look(reading, step)
    return [record.message for record in caplog.records]


@pytest.mark.parametrize(
    ("stuck", "said"),
    [
        (measured(says_stop=0, solved=0.8), "stop for no puzzle, and 80 % of those in hand"),
        (measured(says_stop=1, solved=0.1), "stop for every puzzle, and 10 % of those in hand"),
    ],
)
def test_a_stuck_halting_head_is_told_once(caplog, stuck, said):
    messages = warnings_of(caplog, *[stuck] * 12)
    assert len(messages) == 1
    assert said in messages[0]
    assert "step 5" in messages[0]


@pytest.mark.parametrize(
    "healthy",
    [
        measured(says_stop=0, solved=0.2),  # nothing to stop for yet
        measured(says_stop=1, solved=0.9),
        measured(says_stop=0.5, solved=0.5),
    ],
)
def test_a_halting_head_that_learns_is_left_alone(caplog, healthy):
    stuck = measured(says_stop=0, solved=0.8)
    assert warnings_of(caplog, *[healthy] * 12) == []
    assert warnings_of(caplog, *[stuck, stuck, stuck, healthy] * 5) == [], "only for a moment"


def test_an_average_too_slow_for_the_run_is_told_with_one_that_is_not(caplog):
    with caplog.at_level(logging.WARNING, "trm"):
        check_lag(0.99, 600)
        assert not caplog.records
        check_lag(0.999, 600)
    assert "still holds 55 % of the initial weights; ema.decay=0.99 forgets" in caplog.text


@pytest.mark.parametrize(("bad", "step"), [(1, 20), (8, 20), (9, 19), (24, 18), (20, 18)])
def test_the_first_step_that_was_not_finite_is_found(bad, step):
    reading = Measured({}, 80, bad, 0.0, 0.0)
    assert first_bad_step(reading, step=20, batch_size=8) == step


def test_a_tally_without_steps_has_nothing_to_tell():
    assert Tally().read() is None
    assert Tally().state() is None


def test_a_tally_is_exact_under_autocast():
    ones, halted = torch.ones(768), torch.arange(768) < 701
    right = halted.new_ones(768)
    loss = StepLoss(ones, {"answer": ones, "halt": ones}, right, ones, right)
    empty = torch.zeros(768, 1)
    carry = Carry(Batch(empty, empty, empty[:, 0]), State(empty, empty), 3 * ones.long(), halted)
    tally = Tally()
    with torch.autocast("cpu", torch.bfloat16):
        tally.add([loss], ones, carry)
    measured = tally.read()
    assert measured is not None
    assert measured.logged["exact_accuracy"] == 1
    assert measured.logged["steps"] == 3


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_one_value_that_is_not_finite_is_found(bad):
    fine = torch.randn(3, 5), torch.zeros(0), torch.full((2,), 3e38)
    assert all_finite(fine)
    assert all_finite(())
    spoilt = torch.randn(4, 4)
    spoilt[2, 1] = bad
    assert not all_finite([*fine, spoilt])


@pytest.fixture
def blow_up_at(monkeypatch):
    """Make the loss of a step, or the weights after it, not a number."""
    original = DeepSupervision.training_step

    def arrange(step: int, what: str) -> None:
        def training_step(self, batch, batch_idx):
            if self.global_step == step - 1 and what == "loss":
                self.model.answer_head.weight.data.fill_(float("nan"))
            original(self, batch, batch_idx)
            if self.global_step == step and what == "weights":
                self.model.answer_head.weight.data[0, 0] = float("inf")

        monkeypatch.setattr(DeepSupervision, "training_step", training_step)

    return arrange


@pytest.mark.parametrize("what", ["loss", "weights"])
@pytest.mark.parametrize("log_every", [2, 100], ids=["seen in the log", "seen at a save"])
def test_a_run_that_diverges_stops_and_keeps_its_last_good_checkpoint(
    tiny_config, blow_up_at, what, log_every
):
    blow_up_at(7, what)
    cfg = tiny_config(
        f"train.log_every_n_steps={log_every}",
        "trainer.val_check_interval=4",
        "trainer.max_steps=12",
        "optimizer.lr=0.003",
    )
    step = 8 if what == "weights" else 7  # bad weights show in the next loss
    with pytest.raises(InputError) as caught:
        run_training(cfg)
    said = str(caught.value)
    last = Path(cfg.run_dir) / "checkpoints" / "last.ckpt"
    assert f"not finite at step {step} (learning rate " in said
    assert said.endswith(f"The last good checkpoint: {last} (step 4)")
    saved = torch.load(last)
    assert saved["global_step"] == 4
    assert all(tensor.isfinite().all() for tensor in saved["current_model_state"].values())


def test_weights_that_are_not_finite_are_never_saved(tiny_config, blow_up_at):
    blow_up_at(8, "weights")  # the very step after which a checkpoint is due
    cfg = tiny_config("trainer.val_check_interval=4", "trainer.max_steps=12")
    with pytest.raises(InputError, match="the weights are not finite at step 8"):
        run_training(cfg)
    for name in ("last.ckpt", "best.ckpt"):
        saved = torch.load(Path(cfg.run_dir) / "checkpoints" / name)
        assert saved["global_step"] == 4


def test_too_early_for_a_checkpoint_is_said(tiny_config, blow_up_at):
    blow_up_at(2, "loss")
    with pytest.raises(InputError, match="The last good checkpoint: none, it was too early"):
        run_training(tiny_config("train.log_every_n_steps=2"))
