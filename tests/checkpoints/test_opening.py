"""Folders with safetensors, and the description of a file."""

import json

import pytest
import torch

import trm
from tests.conftest import tiny_model
from trm import InputError, TinyRecursiveModel
from trm.describe import main as describe
from trm.models import DirectPrediction, HierarchicalReasoningModel, MultiScaleModel
from trm.tasks import Sudoku

SIZES = {"dim": 16, "heads": 2, "hidden_multiple": 8}


def same(one, other):
    assert type(one) is type(other)
    assert one.settings() == other.settings()
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(states[0][key].equal(states[1][key]) for key in states[0])


@pytest.mark.parametrize(
    "model",
    [
        TinyRecursiveModel(6, 16, n=2, T=1, **SIZES),
        TinyRecursiveModel(6, 16, mixing="attention", positions="learned", **SIZES),
        HierarchicalReasoningModel(6, 16, layers=1, **SIZES),
        DirectPrediction(6, 16, layers=2, **SIZES),
        MultiScaleModel(6, 16, n=3, **SIZES),
    ],
    ids=lambda model: type(model).__name__,
)
def test_save_then_load_is_the_identity(tmp_path, model):
    trm.save(model, tmp_path / "model", task=Sudoku(2, 2))
    assert (tmp_path / "model" / "model.safetensors").is_file()
    same(trm.load(tmp_path / "model"), model)
    same(type(model).from_pretrained(str(tmp_path / "model")), model)


def test_identifier_rows_travel_in_a_file_of_their_own(tmp_path):
    model = tiny_model(prefix_len=2, identifiers=7)
    model.identifiers.weights.normal_()
    model.save_pretrained(tmp_path / "plain")
    again = TinyRecursiveModel.from_pretrained(str(tmp_path / "plain"))
    assert again.identifiers.weights.equal(model.identifiers.weights)
    trm.save(model, tmp_path / "ours")
    assert trm.load(tmp_path / "ours").identifiers.weights.equal(model.identifiers.weights)


def test_a_copy_keeps_its_settings():
    import copy

    model = tiny_model()
    assert copy.deepcopy(model).settings() == model.settings()


@pytest.mark.parametrize(
    ("file", "contents", "said"),
    [
        ("config.json", None, "config.json cannot be read"),
        ("config.json", "[1, 2]", "config.json cannot be read"),
        ("config.json", '{"format": 99}', "has format 99, this version reads 1"),
        ("config.json", '{"format": 1, "_target_": "os.system"}', "is no RecursiveModel"),
        ("model.safetensors", "x" * 100, "does not fit config.json"),
    ],
)
def test_broken_folders_are_refused(tmp_path, file, contents, said):
    trm.save(tiny_model(), tmp_path)
    (tmp_path / file).unlink()
    if contents is not None:
        (tmp_path / file).write_text(contents)
    with pytest.raises(InputError, match=said):
        trm.load(tmp_path)


def test_weights_that_do_not_fit_their_config_are_refused(tmp_path):
    trm.save(tiny_model(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"dim": 32}))
    with pytest.raises(
        InputError, match="model.safetensors does not fit the model: .* in the file"
    ):
        trm.load(tmp_path)


def test_describe_says_what_a_file_holds(tmp_path, capsys):
    trm.save(tiny_model(n=2, T=3), tmp_path, task=Sudoku(2, 2))
    assert describe([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for said in ("TinyRecursiveModel", "sudoku_4x4", "18 blocks per", "not said"):
        assert said in printed


def test_describe_explains_what_it_cannot_open(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"PK\x03\x04 not really")
    for path in (tmp_path / "file", tmp_path / "nothing"):
        assert describe([str(path)]) == 2
        printed = capsys.readouterr().err
        assert printed.startswith("error: ")
        assert printed.count("\n") == 1


def test_published_assumptions_are_described(tmp_path, capsys):
    torch.manual_seed(0)
    trm.save_published(TinyRecursiveModel(11, 81, dim=64), tmp_path / "file")
    (tmp_path / "all_config.yaml").unlink()
    assert describe([str(tmp_path / "file")]) == 0
    printed = capsys.readouterr().out
    assert "published state dict" in printed
    assert "n=6" in printed
