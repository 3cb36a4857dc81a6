"""Files in the published layouts: written and read at full size, cut, and refused when unlike."""

import json
import warnings

import pytest
import torch
import yaml

from tests.conftest import tiny_model
from tests.parity.arrays import Published, error
from trm import (
    HierarchicalReasoningModel,
    InputError,
    TinyRecursiveModel,
    load,
    save_published,
    trajectory,
)
from trm.tasks import Sudoku

FULL_SIZE = [
    (TinyRecursiveModel, {"mixing": "mlp", "prefix_len": 16}, 5_028_866),
    (
        TinyRecursiveModel,
        {"mixing": "attention", "positions": "rotary", "prefix_len": 16},
        6_828_034,
    ),
    (HierarchicalReasoningModel, {"prefix_len": 1}, 27_275_266),
]


def logits(model, batch=1):
    x_input = torch.arange(batch * model.seq_len).view(batch, -1) % 5 + 1
    with torch.no_grad():
        return next(trajectory(model, x_input, torch.zeros(batch, dtype=torch.int64), 1)).y_hat


@pytest.mark.parametrize(("kind", "settings", "parameters"), FULL_SIZE)
def test_released_sizes_round_trip(tmp_path, kind, settings, parameters):
    torch.manual_seed(0)
    model = kind(11, 81, **settings).eval()
    model.identifiers.weights.normal_()
    save_published(model, tmp_path / "step_1")
    (tmp_path / "all_config.yaml").unlink()
    with pytest.warns(UserWarning, match="assumed"):
        again = load(tmp_path / "step_1", task=Sudoku())
    assert type(again) is kind
    assert sum(p.numel() for p in again.parameters()) == parameters
    assert (again.n, again.T) == (model.n, model.T)
    assert logits(again).equal(logits(model))


@pytest.mark.parametrize("prefix", ["", "_orig_mod.model.", "module._orig_mod.model."])
@pytest.mark.parametrize("name", ["trm_att", "trm_mlp", "trm_att_learned_positions", "hrm"])
def test_the_published_arrays_load_as_files(tmp_path, name, prefix):
    arrays = Published(name)
    state = {
        prefix + key.removeprefix("sd/"): arrays[key]
        for key in arrays.arrays.files
        if key.startswith("sd/")
    }
    for init in ("H_init", "L_init"):
        state[f"{prefix}inner.{init}"] = state[f"{prefix}inner.{init}"].double()
    torch.save(state, tmp_path / "step_5")
    (tmp_path / "all_config.yaml").write_text(yaml.safe_dump({"arch": arrays.config}))
    (tmp_path / "identifiers.json").write_text(json.dumps(["<blank>", "a", "b"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # with its config beside it, nothing is assumed
        model = load(tmp_path / "step_5", seq_len=16).double()
    batch = arrays.batch()
    with torch.no_grad():
        for k, step in enumerate(trajectory(model, batch.x_input, batch.puzzle_id, 3), start=1):
            assert error(step.y_hat, arrays[f"eval/step{k}/logits"]) < 1e-9


def test_bfloat16_initial_states_are_read(tmp_path):
    model = tiny_model(expansion=48, hidden_multiple=256)
    model.y_init.data = model.y_init.bfloat16().float()
    save_published(model, tmp_path / "file")
    state = torch.load(tmp_path / "file")
    key = "_orig_mod.model.inner.H_init"
    state[key] = state[key].bfloat16()
    torch.save(state, tmp_path / "file")
    again = load(tmp_path / "file")
    assert again.y_init.equal(model.y_init)
    assert again.y_init.dtype == torch.float32


def write_with_table(path, rows=5):
    model = tiny_model(prefix_len=2, identifiers=rows, expansion=48, hidden_multiple=256)
    model.identifiers.weights.copy_(torch.arange(rows * 16.0).view(rows, 16))
    save_published(model, path)
    (path.parent / "all_config.yaml").unlink()
    return model


GIVEN = {"n": 2, "T": 3, "prefix_len": 2}


def test_identifier_rows_can_be_chosen_by_number_or_name(tmp_path):
    table = write_with_table(tmp_path / "file").identifiers.weights
    with pytest.warns(UserWarning, match=r"identifiers.json of its training data"):
        assert load(tmp_path / "file", **GIVEN).identifiers.weights.equal(table)
    assert load(tmp_path / "file", **GIVEN, identifiers=[3, 1]).identifiers.weights.equal(
        table[[3, 1]]
    )
    with pytest.warns(UserWarning, match="no identifier rows were kept"):
        assert load(tmp_path / "file", **GIVEN, identifiers=[]).identifiers.weights.eq(0).all()
    with pytest.raises(InputError, match=r"put the identifiers.json of the training data beside"):
        load(tmp_path / "file", **GIVEN, identifiers=["b"])
    with pytest.raises(InputError, match="identifier 5 is not a row of the 5"):
        load(tmp_path / "file", **GIVEN, identifiers=[5])
    (tmp_path / "identifiers.json").write_text(json.dumps(["<blank>", "a", "b", "c", "d"]))
    chosen = load(tmp_path / "file", **GIVEN, identifiers=["b", 4]).identifiers.weights
    assert chosen.equal(table[[2, 4]])


def changed(path, change):
    write_with_table(path)
    state = torch.load(path)
    change(state)
    torch.save(state, path)


INNER = "_orig_mod.model.inner."
NET = f"{INNER}L_level.layers.0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop(f"{NET}.mlp.down_proj.weight"), "has no key .*down_proj.weight"),
        (
            lambda s: s.pop(f"{NET.replace('0', '1')}.mlp.down_proj.weight"),
            r"lacks the key 'L_level.layers.1.mlp.down_proj.weight' \(16, 512\)",
        ),
        (
            lambda s: s.update({f"{NET}.conv.weight": torch.zeros(3)}),
            r"surplus key 'L_level.layers.0.conv.weight' \(3,\)",
        ),
        (
            lambda s: s.update({f"{NET}.mlp.gate_up_proj.weight": torch.zeros(7, 16)}),
            r"gate_up_proj.weight' is \(7, 16\), where the other shapes ask for \(1024, 16\)",
        ),
        (
            lambda s: [s.pop(INNER + key) for key in ("H_init", "L_init")],
            "has no key 'H_init'|has L_level, which no model here has together",
        ),
        (lambda s: s.update({"optimizer": {"step": 3}}), "nested training save"),
        (
            lambda s: s.update({f"{INNER}L_level.layers.0.self_attn.q_norm": torch.zeros(3)}),
            "surplus key .*q_norm",
        ),
        (lambda s: s.pop(f"{INNER}lm_head.weight"), "has no key 'lm_head.weight'"),
        (lambda s: s.update({f"{INNER}Z_init": torch.zeros(3)}), "no model here has together"),
    ],
)
def test_what_is_no_plain_trm_is_refused_with_the_reason(tmp_path, change, said):
    changed(tmp_path / "file", change)
    with pytest.raises(InputError, match=said) as caught:
        load(tmp_path / "file", **GIVEN)
    assert "\n" not in str(caught.value)
    assert "truncated" not in str(caught.value), "the file is whole"


def test_cells_that_cannot_be_told_must_be_given(tmp_path):
    model = TinyRecursiveModel(7, 16, dim=16, heads=8, mixing="attention", positions="rotary")
    save_published(model, tmp_path / "file")
    (tmp_path / "all_config.yaml").unlink()
    with pytest.raises(InputError, match="give seq_len or a task"):
        load(tmp_path / "file")
