import json
from pathlib import Path

import pytest
import torch

from tests.conftest import same, tiny_model
from tests.parity.arrays import Published, error
from trm import InputError
from trm.models.identifiers import IdentifierTable
from trm.train import run_training
from trm.training.optimizers import AdamATan2, CompositeOptimizer, SignSGD, lr_scale, muon


def test_adam_atan2_updates_are_the_published_ones():
    published = Published("adam_atan2")
    hyper = json.loads(str(published.arrays["adam/hyper"]))
    p = torch.nn.Parameter(published["adam/param0"].clone())
    optimizer = AdamATan2([p], **hyper)
    for k in range(1, 6):
        p.grad = published[f"adam/grad{k}"]
        optimizer.step()
        assert error(p, published[f"adam/param{k}"]) < 1e-12


def test_adam_atan2_steps_alike_for_gradients_of_any_scale():
    updates = []
    for scale in (1e-6, 1.0, 1e6):
        p = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        optimizer = AdamATan2([p], lr=1e-3)
        for _ in range(3):
            p.grad = scale * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
            optimizer.step()
        updates.append(p.detach())
    torch.testing.assert_close(updates[0], updates[1])
    torch.testing.assert_close(updates[1], updates[2])


def test_warm_up_from_zero_is_legal_and_a_negative_rate_is_not():
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = AdamATan2([p], lr=0.0, weight_decay=1.0)
    p.grad = torch.ones(2)
    optimizer.step()
    assert p.tolist() == [1, 1]
    with pytest.raises(InputError, match="lr=-1"):
        AdamATan2([p], lr=-1)


@pytest.mark.parametrize("kind", ["one", "composite"])
def test_an_optimizer_continues_from_its_state_dict(kind):
    def make():
        torch.manual_seed(0)
        layer, table = torch.nn.Linear(3, 2).double(), IdentifierTable(4, 2)
        table.weights = table.weights.double()
        network = AdamATan2(layer.parameters(), lr=0.1, weight_decay=0.1)
        optimizer = CompositeOptimizer(network, SignSGD(table, 0.01, 0.1))
        return layer, table, optimizer if kind == "composite" else network

    def run(layer, table, optimizer, steps):
        for k in steps:
            optimizer.zero_grad()
            x = torch.arange(3.0, dtype=torch.float64) + k
            (layer(x) + table.rows(torch.tensor([k % 4]))).square().sum().backward()
            optimizer.step()

    layer, table, optimizer = make()
    run(layer, table, optimizer, range(3))
    saved = [layer.state_dict(), table.weights.clone(), optimizer.state_dict()]
    saved = [torch.load(_saved(part), weights_only=True) for part in saved]
    run(layer, table, optimizer, range(3, 6))
    layer2, table2, optimizer2 = make()
    layer2.load_state_dict(saved[0])
    table2.weights.copy_(saved[1])
    optimizer2.load_state_dict(saved[2])
    run(layer2, table2, optimizer2, range(3, 6))
    assert layer2.weight.equal(layer.weight)
    assert table2.weights.equal(table.weights)


def _saved(thing):
    import io

    buffer = io.BytesIO()
    torch.save(thing, buffer)
    buffer.seek(0)
    return buffer


def test_a_schedule_reaches_every_part_of_a_composite_optimizer():
    p, table = torch.nn.Parameter(torch.ones(2)), IdentifierTable(2, 2)
    optimizer = CompositeOptimizer(AdamATan2([p], lr=1.0), SignSGD(table, 0.5, 0.0))
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.1)
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == [0.1, 0.05]


def test_warm_up_then_constant_or_cosine():
    constant = [lr_scale(k, 4, 10, 1.0) for k in range(10)]
    assert constant == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1]
    cosine = [lr_scale(k, 2, 10, 0.2) for k in (0, 1, 2, 6, 10, 99)]
    assert cosine == pytest.approx([0.5, 1.0, 1.0, 0.6, 0.2, 0.2])


def test_muon_takes_the_matrices_and_adamw_the_rest():
    model = tiny_model(mixing="attention", positions="learned")
    optimizer = muon(model.named_parameters())
    matrices, rest = (part.param_groups[0]["param_names"] for part in optimizer.parts)
    assert all(name.startswith("net.") for name in matrices)
    assert len(matrices) == 2 * 4  # in each block: queries with keys and values, out, and SwiGLU
    assert {"embedding.weight", "positions", "answer_head.weight", "halt_head.bias"} <= {*rest}
    assert len(matrices) + len(rest) == len([*model.parameters()])


def test_muon_needs_a_matrix():
    with pytest.raises(InputError, match="the network has none; take adamw"):
        muon([("embedding.weight", torch.nn.Parameter(torch.ones(2, 2)))])


def test_a_run_with_muon_learns_and_resumes_to_the_bit(tiny_config, tmp_path):
    changes = "optimizer=muon", "checkpoint.every_n_steps=3", "model.prefix_len=1"
    whole = run_training(tiny_config(*changes))
    first = run_training(
        tiny_config(*changes, f"run_dir={tmp_path / 'cut'}", "trainer.max_steps=3")
    )
    folder = first["config"]["run_dir"]
    rest = run_training(tiny_config(*changes, f"ckpt_path={folder}", f"run_dir={folder}"))
    assert rest["steps"] == 6
    ends = [
        torch.load(Path(run["config"]["run_dir"], "checkpoints", "last.ckpt"), weights_only=True)
        for run in (whole, rest)
    ]
    for name in ("state_dict", "optimizer_states", "carry"):
        assert same(ends[0][name], ends[1][name])
