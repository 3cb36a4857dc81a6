"""Layouts: which claims what, in which order, and what is written is read again."""

from pathlib import Path

import pytest
import torch

import trm
from tests.conftest import tiny_model
from trm import InputError
from trm.checkpoints import native
from trm.checkpoints.layouts import BUILT_IN, Folder, Layout, Opened, Published, Run, Shipped
from trm.checkpoints.opening import open_model
from trm.tasks import Sudoku

CONFIG = {
    "task": {"_target_": "trm.tasks.Sudoku", "box_rows": 2, "box_cols": 2},
    "model": {"_target_": "trm.models.TinyRecursiveModel", "dim": 16, "heads": 2, "n": 1, "T": 2},
    "data": {},
    "train": {"N_sup": 3},
}


def write_run(path: Path) -> torch.nn.Module:
    model = native.build_model(CONFIG["model"], Sudoku(2, 2))
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    about = native.metadata(CONFIG, {"task": "sudoku_4x4"})
    torch.save({"trm": about, "state_dict": state, "global_step": 7}, path)
    return model


@pytest.fixture
def files(tmp_path, monkeypatch) -> dict[str, Path]:
    """One of each kind, by the name of its layout, and others."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    write_run(tmp_path / "run" / "checkpoints" / "best.ckpt")
    trm.save(tiny_model(), tmp_path / "folder", Sudoku(2, 2))
    trm.save_published(tiny_model(expansion=48, hidden_multiple=256), tmp_path / "published")
    (tmp_path / "cut.ckpt").write_bytes(b"")
    (tmp_path / "text").write_text("embed_tokens.embedding_weight")
    (tmp_path / "empty").mkdir()
    return {path.name: path for path in tmp_path.iterdir()} | {"shipped": Path("sudoku-6x6")}


def claimants(path: Path) -> list[type[Layout]]:
    return [type(layout) for layout in BUILT_IN if layout.claims(path)]


def test_each_kind_of_file_is_claimed_and_a_published_one_before_a_run(files):
    assert claimants(files["published"]) == [Published, Run]
    assert claimants(files["run"]) == [Run]
    assert claimants(files["run"] / "checkpoints" / "best.ckpt") == [Run]
    assert claimants(files["cut.ckpt"]) == [Run], "a broken one is told of as such"
    assert claimants(files["folder"]) == [Folder]
    assert claimants(files["shipped"]) == [Shipped]


@pytest.mark.parametrize("name", ["text", "empty", "nowhere", "", "\0", "a" * 999], ids=repr)
def test_nothing_else_is_claimed(files, name):
    assert claimants(Path(name)) == []
    with pytest.raises(InputError, match=r"does not exist|no known layout") as caught:
        open_model(name, {})
    assert "\n" not in str(caught.value)


def test_files_of_before_torch_1_6_are_claimed_alike(files, tmp_path):
    for name, claimed in (("published", [Published, Run]), ("run/checkpoints/best.ckpt", [Run])):
        contents = torch.load(name)
        torch.save(contents, tmp_path / "old", _use_new_zipfile_serialization=False)
        assert claimants(tmp_path / "old") == claimed


def test_the_error_names_what_was_tried(files):
    tried = "published state dict, checkpoint of a run, safetensors folder, model that comes"
    with pytest.raises(InputError, match=rf"text is of no known layout \(tried: {tried}"):
        trm.load("text")


@pytest.mark.parametrize("part", ["config.json", "model.safetensors"])
def test_the_folder_of_a_part_is_named(files, part):
    path = files["folder"] / part
    with pytest.raises(InputError, match=f"is a part of a model; give its folder, {path.parent}$"):
        trm.load(path)


def test_a_file_of_a_shipped_model_s_name_goes_first(files):
    trm.save(tiny_model(), "sudoku-6x6")
    assert trm.load("sudoku-6x6").seq_len == 16
    assert claimants(files["shipped"])[0] == Folder


def test_a_folder_of_puzzles_may_have_the_name_of_a_shipped_model(files, caplog):
    Path("maze").mkdir()
    Path("maze", "train.csv").touch()
    assert trm.load("maze").any_size
    assert "the folder maze here holds no model; maze of trm is taken" in caplog.text


def test_a_run_s_checkpoint_is_read(tmp_path):
    model = write_run(tmp_path / "file")
    opened = open_model(tmp_path / "file", {})
    states = model.state_dict(), opened.model.state_dict()
    assert all(states[0][name].equal(states[1][name]) for name in states[0])
    assert (opened.layout, opened.task.name, opened.step) == (Run.name, "sudoku_4x4", 7)
    assert (opened.trained.N_sup, opened.manifest) == (3, {"task": "sudoku_4x4"})


@pytest.mark.parametrize("layout", [Folder(), Published()])
def test_what_a_layout_writes_it_reads(tmp_path, layout):
    model = tiny_model(n=6, T=3, expansion=48, hidden_multiple=256).eval()
    trm.save(model, tmp_path / "file", layout=layout)
    assert layout.claims(tmp_path / "file")
    again = layout.read(tmp_path / "file", {"n": 6, "T": 3})
    assert again.layout == layout.name
    states = model.state_dict(), again.model.state_dict()
    assert all(states[0][name].equal(states[1][name]) for name in states[0])


class Always(Layout):
    name = "anything"

    def claims(self, path):
        return True

    def read(self, path, settings):
        return Opened(tiny_model(), self.name, assumed=[f"{path.name} {settings}"])


@pytest.mark.parametrize("layout", [Always(), "tests.checkpoints.test_layouts.Always"])
def test_a_layout_of_one_s_own_goes_first_and_gets_what_was_given(files, layout):
    opened = open_model(files["folder"], {"n": 3, "T": None}, [1], layout)
    assert opened.layout == "anything"
    assert opened.assumed == ["folder {'n': 3, 'identifiers': [1]}"]


@pytest.mark.parametrize("layout", [Always(), Run(), Shipped()])
def test_layouts_without_write_are_only_read(tmp_path, layout):
    with pytest.raises(InputError, match=f"a {layout.name} is only read"):
        trm.save(tiny_model(), tmp_path / "file", layout=layout)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["os.system", "trm.TinyRecursiveModel", "nowhere.Layout", "x"])
def test_a_name_that_is_no_layout_is_refused(files, target):
    with pytest.raises(InputError, match=r"is no Layout|cannot be imported"):
        trm.load(files["folder"], layout=target)


def test_a_run_becomes_a_folder_that_says_as_much(tmp_path):
    write_run(tmp_path / "file")
    run = open_model(tmp_path / "file", {})
    Folder().write(run, tmp_path / "folder")
    folder = open_model(tmp_path / "folder", {})
    assert (folder.step, folder.config, folder.manifest) == (7, run.config, run.manifest)
    assert folder.task.settings() == run.task.settings()
