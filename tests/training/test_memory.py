"""A batch that does not fit into memory is refused before it is tried."""

import pytest
import torch

from tests.conftest import tiny_model
from trm import InputError
from trm.models import TinyRecursiveModel
from trm.train import run_training
from trm.training import memory
from trm.training.memory import free_bytes, kept_bytes


def test_a_batch_too_large_is_refused_with_what_fits(tiny_config, monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 3_000_000)
    with pytest.raises(InputError) as refused:
        run_training(tiny_config("train.batch_size=100000"))
    said = str(refused.value)
    assert said.startswith("train.batch_size=100000 needs about ")
    assert "0.0 GB are free; train.batch_size=" in said
    assert not (tmp_path / "run").exists()
    fits = said.partition("train.batch_size=100000")[2].partition("train.batch_size=")[2].split()[0]
    assert run_training(tiny_config(f"train.batch_size={fits}"))["steps"] == 6


def test_a_micro_batch_makes_room(tiny_config, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 8_000_000)
    with pytest.raises(InputError, match=r"or train.micro_batch=\d+, which learns the same, fits"):
        run_training(tiny_config("train.batch_size=256"))
    assert run_training(tiny_config("train.batch_size=256", "train.micro_batch=8"))["steps"] == 6


def test_what_is_kept_for_the_backward_pass_is_what_is_counted():
    """Each of n + 1 passes of the last cycle keeps as much; the cycles before keep nothing."""
    kept = [kept_bytes(tiny_model(n=n, T=T), 16) for n, T in ((1, 1), (2, 1), (3, 1), (3, 2))]
    assert kept[2] - kept[1] == kept[1] - kept[0] > 0
    assert kept[3] == kept[2]


def test_a_model_that_looks_at_values_is_let_through():
    class Looking(TinyRecursiveModel):
        def forward(self, x_input, puzzle_id, state):
            assert float(state.y.sum()) > -1e9
            return super().forward(x_input, puzzle_id, state)

    model = Looking(vocab_size=6, seq_len=16, dim=16, heads=2, hidden_multiple=8, n=1, T=1)
    assert kept_bytes(model, 16) is None


def test_some_memory_is_free():
    assert 0 < free_bytes(torch.device("cpu")) < 1e14
    assert free_bytes(torch.device("meta")) is None
