"""One rule decides in which precision a model runs, wherever it runs."""

import pytest
import torch

import trm
from tests.conftest import compose, tiny_model
from tests.training.test_acceleration import Casts
from trm import InputError
from trm.evaluate import run_evaluation
from trm.inference.evaluation import evaluate
from trm.support import devices
from trm.support.devices import autocast, keep_freed_memory, pick_precision
from trm.support.operations import Products
from trm.train import run_training

CPU = torch.device("cpu")


@pytest.fixture(params=[True, False])
def native(request, monkeypatch):
    """A CPU with and one without fast products of bfloat16."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: request.param)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(devices, "_bfloat16_gain", lambda: 5.0)
    return request.param


def test_auto_goes_by_what_the_cpu_can(native):
    assert pick_precision("auto", CPU) == ("bf16-mixed" if native else "32-true")
    assert pick_precision("32-true", CPU) == "32-true"
    assert pick_precision("auto", torch.device("mps")) == "32-true"


def test_instructions_that_are_slow_are_not_used(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(devices, "_bfloat16_gain", lambda: 0.5)
    assert pick_precision("auto", CPU) == "32-true"


def test_what_is_timed_does_not_depend_on_the_caller():
    devices._bfloat16_gain.cache_clear()
    with torch.device("meta"), torch.autocast("cpu", torch.bfloat16), Products() as products:
        gain = devices._bfloat16_gain()
    assert 0 < gain < 1000
    assert not products.counts


def test_what_asks_for_bfloat16_gets_it_for_products_alone(native):
    model, x = torch.nn.Linear(4, 4), torch.ones(2, 4)
    with autocast(CPU, "auto"):
        assert model(x).dtype == (torch.bfloat16 if native else torch.float32)
    with autocast(CPU, "32-true"):
        assert model(x).dtype == torch.float32


def test_training_validation_and_test_run_alike(native, tiny_config, capsys):
    result = run_training(tiny_config())
    assert result["precision"] == ("bf16-mixed" if native else "32-true")
    said = capsys.readouterr().out
    assert f"{result['precision']} (bfloat16 products are {'' if native else 'not '}fast" in said
    path = result["config"]["run_dir"]
    asked = compose("evaluate", f"checkpoint={path}", "device=cpu")
    found = run_evaluation(asked)
    assert found["precision"] == result["precision"]
    assert found["evaluation"] == result["test"]
    assert trm.Solver.load(path).precision == result["precision"]


def test_a_precision_asked_for_is_the_one_used(native, tiny_config):
    assert run_training(tiny_config("trainer.precision=32-true"))["precision"] == "32-true"


def dtype_of_products(model, work) -> torch.dtype:
    seen = set()
    hook = model.net.blocks[0].mlp.down.register_forward_hook(lambda *call: seen.add(call[2].dtype))
    work()
    hook.remove()
    (dtype,) = seen
    return dtype


def test_solving_and_evaluating_follow_the_rule(native, puzzles, sudoku):
    model, test = tiny_model(), puzzles.splits["test"]
    expected = torch.bfloat16 if native else torch.float32
    solver, exact = trm.Solver(model, sudoku), trm.Solver(model, sudoku, precision="32-true")
    assert dtype_of_products(model, lambda: solver.solve(test.x_input[:2])) == expected
    assert dtype_of_products(model, lambda: exact.solve(test.x_input[:2])) == torch.float32
    assert dtype_of_products(model, lambda: evaluate(model, sudoku, test, 1)) == expected


def test_an_unknown_precision_is_refused_in_words(sudoku):
    with pytest.raises(InputError, match="precision=16 must be one of auto, bf16-mixed, 32-true"):
        trm.Solver(tiny_model(), sudoku, precision="16")
    with pytest.raises(InputError, match="precision=16 must be"):
        run_evaluation(compose("evaluate", "checkpoint=sudoku-4x4", "precision='16'"))


@pytest.mark.parametrize("name", ["sudoku-4x4", "sudoku-6x6", "maze-10x10"])
def test_a_shipped_model_is_as_good_in_bfloat16(name):
    model = trm.load(name)
    task = trm.Solver.load(name).task
    settings = {"min_path": 10} if task.name.startswith("maze") else {}
    data = trm.data.generated(task, train=10, val=10, test=24, seed=5, **settings)
    exact, narrow = (
        evaluate(model, task, data.splits["test"], 4, precision=precision).hits["valid"][-1]
        for precision in ("32-true", "bf16-mixed")
    )
    assert abs(exact - narrow) <= 2


@pytest.mark.parametrize("seq", [16, 300])
def test_plain_attention_is_attention(seq, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(devices, "_bfloat16_gain", lambda: 5.0)
    model = tiny_model(seq_len=seq, mixing="attention", positions="rotary", n=1, T=1)
    mixing = model.net.blocks[0].mixing
    q, k, v = torch.randn(3, 2, 4, seq, 8, dtype=torch.bfloat16)
    found = mixing._attend(q, k, v)
    exact = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float())
    torch.testing.assert_close(found.float(), exact, atol=0.03, rtol=0.03)


def test_cycles_without_gradient_cast_once_even_where_lightning_keeps_no_cache():
    model = tiny_model(n=2, T=3, mixing="attention", positions="rotary")
    x_input, ids = torch.ones(2, 16, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)

    def step():
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            out = model(x_input, ids, model.initial_state(2))
        out.y_hat.float().square().sum().backward()

    blocks, passes = len(model.net.blocks), model.n + 1
    with Casts({torch.Size((48, 16))}) as casts:  # queries, keys and values of each block
        step()
    assert casts.count == blocks * (1 + passes)  # once before, then in each with gradient
    assert all(p.grad.abs().sum() > 0 for p in model.net.parameters())


def test_memory_is_kept_where_the_c_library_can(monkeypatch):
    assert isinstance(keep_freed_memory(), bool)
    monkeypatch.setattr(devices.sys, "platform", "win32")
    assert keep_freed_memory() is False
