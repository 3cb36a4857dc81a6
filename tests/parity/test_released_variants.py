"""Released variants of TRM: their files, and their recursion spelled out under its own names."""

import warnings

import pytest
import torch
import yaml

from tests.parity.arrays import error
from trm import TinyRecursiveModel, load, trajectory

ARCH = {
    "hidden_size": 16,
    "num_heads": 2,
    "expansion": 4,
    "pos_encodings": "rope",
    "H_cycles": 2,
    "H_layers": 2,
    "L_cycles": 3,
    "L_layers": 2,
    "puzzle_emb_len": 3,
    "puzzle_emb_ndim": 16,
}
SIX = [f"L{i}_init" for i in range(1, 7)]
X_INPUT = torch.arange(32).view(2, 16) % 5 + 1


def single_z(net, x, starts):
    z_L = starts["L_init"]
    while True:
        for _ in range(ARCH["H_cycles"]):
            for _ in range(ARCH["L_cycles"]):
                z_L = net(z_L + x)
            z_L = net(z_L)
        yield z_L


def six_levels(net, x, starts):
    z_H, z_L = starts["H_init"], [starts[name] for name in SIX]
    while True:
        for _ in range(ARCH["H_cycles"]):
            for i in range(6):
                z_L[i] = net(sum(z_L) + z_H + x)
            z_H = net(z_H + sum(z_L))
        yield z_H


def baseline(net, x, starts):
    z_H = starts["H_init"]
    while True:
        z_H = net(z_H + x)
        yield z_H


VARIANTS = {
    "trm_singlez": (single_z, ["L_init"], {}),
    "trm_hier6": (six_levels, ["H_init", *SIX], {"L_cycles": 6}),
    "transformers_baseline": (baseline, ["H_init"], {}),
}


def network(prefix_len):
    """Make what all variants share, embedding, network and heads: float32 values in float64."""
    torch.manual_seed(0)
    sizes = {"dim": 16, "heads": 2, "mixing": "attention", "positions": "rotary"}
    parts = TinyRecursiveModel(6, 16, **sizes, prefix_len=prefix_len).eval()
    parts.identifiers.weights.normal_()
    parts.halt_head.weight.data.normal_()
    return parts.double()


def released_state(parts, starts, level):
    """Give its weights the released names, with other initial states."""
    state = {"puzzle_emb.weights": parts.identifiers.weights, **starts}
    state["embed_tokens.embedding_weight"] = parts.embedding.weight
    state["lm_head.weight"] = parts.answer_head.weight
    state |= {f"q_head.{name}": weight for name, weight in parts.halt_head.named_parameters()}
    for i, block in enumerate(parts.net.blocks):
        layer = f"{level}.layers.{i}"
        state[f"{layer}.self_attn.qkv_proj.weight"] = block.mixing.qkv.weight
        state[f"{layer}.self_attn.o_proj.weight"] = block.mixing.out.weight
        state[f"{layer}.mlp.gate_up_proj.weight"] = block.mlp.gate_up.weight
        state[f"{layer}.mlp.down_proj.weight"] = block.mlp.down.weight
    return {f"_orig_mod.model.inner.{name}": tensor.detach() for name, tensor in state.items()}


@pytest.mark.parametrize("module", VARIANTS)
def test_a_released_variant_computes_the_same_here(tmp_path, module):
    recursion, names, changes = VARIANTS[module]
    is_baseline = recursion is baseline
    parts = network(1 if is_baseline else ARCH["puzzle_emb_len"])
    starts = {name: torch.randn(16).double() for name in names}
    level = "H_level" if is_baseline else "L_level"
    torch.save(released_state(parts, starts, level), tmp_path / "step_1")
    arch = {**ARCH, **changes, "name": f"recursive_reasoning.{module}@Class"}
    (tmp_path / "all_config.yaml").write_text(
        yaml.safe_dump({"arch": arch, "data_paths": ["sudoku"]})
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load(tmp_path / "step_1").double()
    assert not model.one_pass
    puzzle_id = torch.zeros(2, dtype=torch.int64)
    with torch.no_grad():
        expected = recursion(parts.net, parts.embed(X_INPUT, puzzle_id), starts)
        for step, state in zip(trajectory(model, X_INPUT, puzzle_id, 3), expected, strict=False):
            y_hat, halting = parts.read(state)
            assert error(step.y_hat, y_hat) < 1e-9
            assert error(step.q_hat, halting[:, 0]) < 1e-9
