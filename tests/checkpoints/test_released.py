"""Released classes open as the models that compute the same, or are named; saving is exact."""

import random
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
import yaml

import trm
from tests.conftest import tiny_model
from trm import InputError, TinyRecursiveModel, load, save_published
from trm.checkpoints.layouts import Published
from trm.checkpoints.opening import open_model
from trm.models import (
    DampedModel,
    DirectPrediction,
    HierarchicalReasoningModel,
    LocalModel,
    MultiScaleModel,
    SingleLatentModel,
    SymmetricModel,
)
from trm.models.recursion import Trained
from trm.tasks import Sudoku

SMALL = {"dim": 16, "heads": 2, "layers": 1, "expansion": 3}
ATTENTION = {"mixing": "attention", "positions": "rotary"}
MODELS = [
    (TinyRecursiveModel, {"n": 2, "T": 1}),
    (TinyRecursiveModel, {"prefix_len": 3, "identifiers": 4, "expansion": 2.5}),
    (TinyRecursiveModel, {"mixing": "mlp", "positions": "learned", "columns": 4}),
    (TinyRecursiveModel, {**ATTENTION, "n": 0, "prefix_len": 16, "identifier_dim": 40}),
    (TinyRecursiveModel, {"mixing": "attention", "positions": "none"}),
    (TinyRecursiveModel, {"mixing": "attention", "positions": "learned", "prefix_len": 1}),
    (HierarchicalReasoningModel, {"n": 3, "T": 1, "prefix_len": 1}),
    (HierarchicalReasoningModel, {"mixing": "mlp", "positions": "none"}),
    (SingleLatentModel, {**ATTENTION, "n": 2, "T": 2, "prefix_len": 2}),
    (MultiScaleModel, {**ATTENTION, "T": 2}),
    (MultiScaleModel, {"T": 2, "own_starts": True, "prefix_len": 2}),
    (DirectPrediction, {"carried": True, "layers": 2, "prefix_len": 1}),
    (DampedModel, {"random_start": True, "damping": 0.2, "noise": 0.1}),
    (DampedModel, {**ATTENTION, "random_start": True, "n": 2, "T": 1}),
]


def made(kind, **changes):
    torch.manual_seed(0)
    model = kind(6, 16, **SMALL | changes).eval()
    if model.identifiers is not None:
        model.identifiers.weights.normal_()
    return model


def y_hat(model, steps=2):
    x_input = torch.arange(32).view(2, 16) % 5 + 1
    with torch.no_grad():
        walked = trm.trajectory(model, x_input, torch.zeros(2, dtype=torch.int64), steps)
        return torch.stack([step.y_hat for step in walked])


@pytest.fixture(autouse=True)
def silent():
    """Nothing is assumed unless a test says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(("kind", "changes"), MODELS)
def test_save_then_load_is_the_identity(tmp_path, kind, changes):
    model = made(kind, **changes)
    save_published(model, tmp_path / "step_1")
    again = load(tmp_path / "step_1")
    assert again.settings() == model.settings()
    assert y_hat(again).equal(y_hat(model))


def test_how_it_was_trained_travels(tmp_path):
    how = Trained(5, "continue", "softmax")
    save_published(made(TinyRecursiveModel), tmp_path / "step_1", how)
    assert open_model(tmp_path / "step_1", {}).trained == how
    opened = open_model(tmp_path / "step_1", {})
    (tmp_path / "again").mkdir()
    Published().write(opened, tmp_path / "again" / "step_1")
    assert open_model(tmp_path / "again" / "step_1", {}).trained == how


@pytest.mark.parametrize("kind", [HierarchicalReasoningModel, DirectPrediction])
def test_what_always_halts_on_continue_says_so(tmp_path, kind):
    model = made(kind, **({"carried": True} if kind is DirectPrediction else {}))
    save_published(model, tmp_path / "step_1")
    assert open_model(tmp_path / "step_1", {}).trained == Trained(halting="continue")
    with pytest.raises(InputError, match=r"trained with train\.halting=solved has no published"):
        save_published(model, tmp_path / "step_1", Trained())


def any_size(kind):
    structure = {name: Sudoku(2, 2).structure[name] for name in ("vocab_size", "boxes")}
    if kind is LocalModel:
        return LocalModel(6, (4, 4), dim=8)
    return SymmetricModel(**structure, grid_shape=(4, 4), dim=8, hidden=8)


WIDE = {"hidden_multiple": 256}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: any_size(SymmetricModel), "SymmetricModel"),
        (lambda: any_size(LocalModel), "LocalModel"),
        (lambda: tiny_model(**WIDE, separate=True), r"model\.separate=true"),
        (lambda: tiny_model(**WIDE, gradient="one_step"), r"model\.gradient=one_step"),
        (lambda: tiny_model(**WIDE, convolution=3, columns=4), "a convolution"),
        (
            lambda: tiny_model(**WIDE, mixing="attention", positions="rotary_2d", columns=4),
            r"model\.positions=rotary_2d",
        ),
        (lambda: tiny_model(hidden_multiple=8), r"model\.hidden_multiple=8, not 256"),
        (lambda: made(DirectPrediction), r"DirectPrediction with model\.carried=false"),
        (lambda: made(DirectPrediction, carried=True, mixing="mlp", positions="none"), "mlp"),
        (lambda: made(DirectPrediction, carried=True, prefix_len=2), r"prefix_len=2"),
        (lambda: made(HierarchicalReasoningModel, n=0), r"model\.n=0"),
        (lambda: made(HierarchicalReasoningModel, prefix_len=4), r"prefix_len=4, more than a row"),
        (lambda: made(HierarchicalReasoningModel, positions="none"), r"positions=none"),
        (lambda: made(MultiScaleModel, n=4), r"model\.n=4, not 6"),
        (lambda: made(SingleLatentModel, separate=True), r"model\.separate=true"),
    ],
)
def test_what_the_released_code_lacks_is_refused(tmp_path, model, said):
    with pytest.raises(InputError, match=rf"{said}.* has no published layout") as caught:
        save_published(model(), tmp_path / "file")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_config_that_says_otherwise_is_left_alone(tmp_path):
    save_published(made(TinyRecursiveModel, n=2), tmp_path / "step_1")
    before = (tmp_path / "all_config.yaml").read_bytes()
    save_published(made(TinyRecursiveModel, n=2), tmp_path / "step_2")
    with pytest.raises(InputError, match=r"says L_cycles=2, where this model needs 3") as caught:
        save_published(made(TinyRecursiveModel, n=3), tmp_path / "step_3")
    assert "\n" not in str(caught.value)
    config = yaml.safe_load(before)
    del config["seq_len"]
    (tmp_path / "all_config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match="does not say seq_len"):
        save_published(made(TinyRecursiveModel, n=2), tmp_path / "step_3")
    (tmp_path / "all_config.yaml").write_text("mine: 1")
    with pytest.raises(InputError, match="cannot be read as a published config"):
        save_published(made(TinyRecursiveModel, n=2), tmp_path / "step_3")
    assert (tmp_path / "all_config.yaml").read_text() == "mine: 1"
    assert not (tmp_path / "step_3").exists()


def told(folder, **changes):
    """Change the config of a file that was saved: ``arch`` keys, or top keys with a ``_``."""
    config = yaml.safe_load((folder / "all_config.yaml").read_text())
    for name, value in changes.items():
        where = config if name.startswith("_") else config["arch"]
        if value is None:
            del where[name.removeprefix("_")]
        else:
            where[name.removeprefix("_")] = value
    (folder / "all_config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": 32}, "says hidden_size=32, and step_1 has 16; it is of another file"),
        ({"L_layers": 3}, "says L_layers=3, and step_1 has 1"),
        ({"name": "recursive_reasoning.trm_singlez@X"}, "is of trm_singlez, and step_1 has the k"),
        ({"name": "eqr@EqRModel"}, "is of eqr, and step_1 has the keys of trm"),
        ({"H_init_std": 0.5}, "says H_init_std=0.5, and models here have 1"),
        ({"rope_theta": 500.0}, r"says rope_theta=500.0, and models here have 10000"),
        ({"pos_encodings": "rope2d"}, "says pos_encodings=rope2d, which no model here computes"),
        ({"L_cycles": "many"}, "says L_cycles='many', which is no whole number"),
        ({"halt_max_steps": 0}, "says halt_max_steps=0; it must be 1 or more"),
    ],
)
def test_a_config_that_does_not_belong_is_named(tmp_path, changes, said):
    save_published(made(TinyRecursiveModel, **ATTENTION), tmp_path / "step_1")
    told(tmp_path, **changes)
    with pytest.raises(InputError, match=said) as caught:
        load(tmp_path / "step_1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "recursive_reasoning.mine@X"}, "mine@X computes what TinyRecursiveModel does"),
        ({"loss": {"loss_type": "focal"}}, "loss=stablemax .*focal"),
    ],
)
def test_what_a_config_names_and_nobody_knows_is_assumed(tmp_path, changes, said):
    save_published(made(TinyRecursiveModel), tmp_path / "step_1")
    told(tmp_path, **changes)
    with pytest.warns(UserWarning, match=said):
        load(tmp_path / "step_1")


@pytest.mark.parametrize(
    ("folder", "task"),
    [
        ("data/sudoku-extreme-1k-aug-1000", "sudoku_4x4"),
        ("data/maze-4x4-hard/", "maze_4x4"),
        ("data/maze-30x30-hard-1k", "maze_30x30"),
        ("data/arc1concept-aug-1000", None),
        ("data/search", None),
    ],
)
def test_six_tokens_are_a_maze_or_a_sudoku(tmp_path, folder, task):
    save_published(made(TinyRecursiveModel, **ATTENTION), tmp_path / "step_1")
    told(tmp_path, _seq_len=None, _data_paths=[folder])
    if task is None:
        with pytest.raises(InputError, match="give the task, maze_30x30 or sudoku_4x4"):
            load(tmp_path / "step_1")
        assert load(tmp_path / "step_1", seq_len=16).seq_len == 16
        assert load(tmp_path / "step_1", task=Sudoku(2, 2)).seq_len == 16
    else:
        opened = open_model(tmp_path / "step_1", {})
        assert opened.task.name == task
        assert opened.model.seq_len == opened.task.cells


def test_folders_of_data_that_do_not_fit_name_no_task(tmp_path):
    save_published(made(TinyRecursiveModel), tmp_path / "step_1")
    told(tmp_path, _data_paths=["maze-30x30-hard-1k"])
    assert open_model(tmp_path / "step_1", {}).task is None, "its grids have 16 cells"


@pytest.mark.parametrize("given", [{"heads": 4}, {"positions": "none"}])
def test_what_is_given_otherwise_than_the_config_says_is_refused(tmp_path, given):
    save_published(made(TinyRecursiveModel, **ATTENTION), tmp_path / "step_1")
    assert load(tmp_path / "step_1", n=1, T=1, heads=2, positions="rotary").n == 1
    with pytest.raises(InputError, match=f"{min(given)}=.* would compute something else"):
        load(tmp_path / "step_1", **given)


def test_latents_that_some_cycles_leave_alone_are_refused(tmp_path):
    save_published(made(MultiScaleModel, own_starts=True), tmp_path / "step_1")
    told(tmp_path, L_cycles=4)
    with pytest.raises(InputError, match="6 latent levels, and n=4 would update only some"):
        load(tmp_path / "step_1")


def test_an_hrm_of_unequal_depths_is_named(tmp_path):
    save_published(made(HierarchicalReasoningModel, layers=2), tmp_path / "step_1")
    state = torch.load(tmp_path / "step_1")
    low = "_orig_mod.model.inner.L_level.layers.1"
    torch.save({k: v for k, v in state.items() if not k.startswith(low)}, tmp_path / "step_1")
    with pytest.raises(InputError, match="2 layers in its H network and 1 in its L") as caught:
        load(tmp_path / "step_1")
    assert "truncated" not in str(caught.value)


def test_heads_that_do_not_divide_the_width_are_named(tmp_path):
    save_published(made(DirectPrediction, carried=True), tmp_path / "step_1")
    state = torch.load(tmp_path / "step_1")
    key = "_orig_mod.model.inner.H_level.layers.0.self_attn.qkv_proj.weight"
    torch.save(state | {key: torch.zeros(3 * 12, 16)}, tmp_path / "step_1")
    with pytest.raises(InputError, match="attends with 12 features in a network of 16"):
        load(tmp_path / "step_1")


@pytest.mark.parametrize(
    ("contents", "whose"),
    [
        ({"output_init_embed": 1, "latent_init_embed": 1, "network.0.0.fn.0.weight": 1}, "lucid"),
        (
            {"state_dict": {"z_H_init": 1, "z_L_init": 1, "lenet.layers.0.mlp.w": 1}, "epoch": 3},
            "nano-trm",
        ),
    ],
)
def test_files_of_relatives_are_named(tmp_path, contents, whose):
    torch.save(contents, tmp_path / "file")
    with pytest.raises(InputError, match=rf"is a file of {whose}.*trm opens state dicts"):
        load(tmp_path / "file")


def training_save(model, folder):
    """Save as EqR's training does, but for what it keeps of classes of its own."""
    save_published(model, folder / "state")
    weights = torch.load(folder / "state")
    config = yaml.safe_load((folder / "all_config.yaml").read_text())
    for name in ("state", "all_config.yaml"):
        (folder / name).unlink()
    starts = {name: weight for name, weight in weights.items() if name.endswith("_init")}
    blank = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    shadow = {k.replace("_orig_mod.", ""): v for k, v in weights.items() if k not in starts}
    return {
        "step": 7,
        "model": OrderedDict(blank | starts),
        "optimizers": [{"state": {}}],
        "ema": {"mu": 0.999, "shadow": shadow},
        "rng": {"torch": torch.random.get_rng_state(), "cuda": None},
        "numpy": np.random.get_state(),
        "python": random.getstate(),
        "config": config,
    }


def test_a_training_save_gives_its_ema(tmp_path):
    model = made(TinyRecursiveModel, **ATTENTION)
    save = training_save(model, tmp_path)
    torch.save(save, tmp_path / "step_7.pth")
    opened = open_model(tmp_path / "step_7.pth", {})
    assert (opened.layout, opened.step, opened.assumed) == ("EMA in a training save", 7, [])
    assert opened.model.settings() == model.settings()
    assert y_hat(opened.model).equal(y_hat(model))


def test_a_training_save_without_ema_or_config_gives_its_model(tmp_path):
    model = made(TinyRecursiveModel, **ATTENTION)
    save = training_save(model, tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "all_config.yaml").write_text(yaml.safe_dump(save.pop("config")))
    save["model"] |= save.pop("ema")["shadow"]
    torch.save(save, tmp_path / "checkpoints" / "step_7.pth")
    opened = open_model(tmp_path / "checkpoints" / "step_7.pth", {})
    assert (opened.layout, opened.assumed) == ("model in a training save", [])


class Calls:
    """Pickled as a call, under a name that the file chooses."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __reduce__(self):
        import sys
        from types import ModuleType

        module = sys.modules.setdefault(self.module, ModuleType(self.module))
        if not hasattr(module, self.name):
            function = type(self.name, (), {"__module__": self.module})
            setattr(module, self.name, function)
        return getattr(module, self.name), (1, 2)


def test_classes_in_a_training_save_are_skipped_and_code_is_refused(tmp_path, monkeypatch):
    import os
    import sys

    monkeypatch.setitem(sys.modules, "models.trm", None)
    monkeypatch.delitem(sys.modules, "models.trm")
    save = training_save(made(TinyRecursiveModel, **ATTENTION), tmp_path)
    torch.save(save | {"carry": Calls("models.trm", "ModelCarry")}, tmp_path / "step_7.pth")
    monkeypatch.delitem(sys.modules, "models.trm")
    assert open_model(tmp_path / "step_7.pth", {}).step == 7
    torch.save(save | {"carry": Calls(os.system.__module__, "system")}, tmp_path / "step_7.pth")
    with pytest.raises(InputError, match=r"wants to run code \(\w+\.system\)") as caught:
        open_model(tmp_path / "step_7.pth", {})
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "truncated" not in str(caught.value)
