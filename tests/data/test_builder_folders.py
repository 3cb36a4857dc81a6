"""Folders as the released builders write them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from trm import InputError
from trm.data import from_folder
from trm.tasks import Maze, Sudoku

SUDOKU = Sudoku(2, 3)
COPIES = 3


def write_split(folder: Path, task, x_input, y_true, copies: int = 1, **about) -> Path:
    """Write puzzles, each followed by symmetric copies, as the released builders do."""
    folder.mkdir(parents=True, exist_ok=True)
    symmetry = task.symmetries(torch.arange(copies * len(x_input)) % copies * 7)
    repeated = (np.repeat(grids, copies, axis=0) for grids in (x_input, y_true))
    grids = [symmetry(torch.from_numpy(each)).numpy() for each in repeated]
    rows = len(grids[0])
    arrays = {
        "inputs": grids[0],
        "labels": grids[1],
        "puzzle_identifiers": np.zeros(rows, dtype=np.int32),
        "puzzle_indices": np.arange(rows + 1, dtype=np.int32),
        "group_indices": np.arange(0, rows + 1, copies, dtype=np.int32),
    }
    for name, array in arrays.items():
        np.save(folder / f"all__{name}.npy", array)
    told = {
        "pad_id": 0,
        "ignore_label_id": 0,
        "blank_identifier_id": 0,
        "vocab_size": task.vocab_size,
        "seq_len": task.cells,
        "num_puzzle_identifiers": 1,
        "total_groups": len(x_input),
        "mean_puzzle_examples": 1.0,
        "total_puzzles": len(x_input),
        "sets": ["all"],
    }
    (folder / "dataset.json").write_text(json.dumps(told | about))
    (folder.parent / "identifiers.json").write_text('["<blank>"]')
    return folder


@pytest.fixture(scope="module")
def made():
    return SUDOKU.generator(0)(60)


@pytest.fixture
def folder(tmp_path, made) -> Path:
    x_input, y_true = made
    write_split(tmp_path / "built/train", SUDOKU, x_input[:40], y_true[:40], copies=COPIES)
    write_split(tmp_path / "built/test", SUDOKU, x_input[40:].astype(np.uint8), y_true[40:])
    return tmp_path / "built"


def test_each_group_gives_its_puzzle_and_no_copies(folder, made):
    data = from_folder(SUDOKU, str(folder), val_share=0.3)
    counts = data.manifest["counts"]
    assert counts["train"] + counts["val"] == 40
    assert counts["test"] == 20
    assert data.manifest["shared_symmetry_classes"]["train and val"] == 0
    for name in ("train", "val"):
        puzzles = data.splits[name]
        assert puzzles.x_input.dtype == np.uint8
        for grids, published in ((puzzles.x_input, made[0]), (puzzles.y_true, made[1])):
            assert {grid.tobytes() for grid in grids} <= {grid.tobytes() for grid in published}
    assert (data.splits["test"].x_input == made[0][40:]).all()
    assert "a builder's, one row of each group (train 120, test 20 rows)" in data.manifest["source"]


def test_several_sets_are_one_split(folder):
    about = json.loads((folder / "test/dataset.json").read_text())
    for file in (folder / "test").glob("all__*.npy"):
        (folder / "test" / file.name.replace("all", "more")).write_bytes(file.read_bytes())
    (folder / "test/dataset.json").write_text(json.dumps(about | {"sets": ["all", "more"]}))
    assert len(from_folder(SUDOKU, str(folder)).splits["test"]) == 40


def test_a_folder_of_mazes_is_read(tmp_path):
    task = Maze(6)
    x_input, y_true = task.generator(0, min_path=6)(30)
    write_split(tmp_path / "train", task, x_input, y_true, copies=2, ignore_label_id=None)
    counts = from_folder(task, str(tmp_path)).manifest["counts"]
    assert sum(counts.values()) == 30
    assert min(counts.values()) > 0


def test_a_folder_without_training_puzzles_can_be_evaluated(tmp_path, made):
    write_split(tmp_path / "test", SUDOKU, *made)
    assert from_folder(SUDOKU, str(tmp_path)).manifest["counts"] == {"test": 60}


def shifted(folder: Path) -> None:
    """Number tokens as another builder does, which writes files of the same names."""
    for name in ("inputs", "labels"):
        path = folder / "train" / f"all__{name}.npy"
        np.save(path, np.load(path) + 1)


def change(folder: Path, **about) -> None:
    path = folder / "train/dataset.json"
    told = json.loads(path.read_text()) | about
    path.write_text(json.dumps({key: value for key, value in told.items() if value != "gone"}))


@pytest.mark.parametrize("keys_left_out", [{}, {"pad_id": "gone", "sets": "gone"}])
def test_tokens_that_are_numbered_in_another_way_are_refused(folder, keys_left_out):
    shifted(folder)
    change(folder, vocab_size=SUDOKU.vocab_size + 1, **keys_left_out)
    with pytest.raises(InputError, match="vocab_size=9, but sudoku_6x6 has 8 tokens"):
        from_folder(SUDOKU, str(folder))


def test_shifted_tokens_are_refused_even_where_the_vocabulary_is_right(folder):
    shifted(folder)
    with pytest.raises(InputError, match="holds token 8; sudoku_6x6 knows 0 to 7"):
        from_folder(SUDOKU, str(folder))


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"pad_id": 1}, "pad_id=1"),
        ({"ignore_label_id": -100}, "ignore_label_id=-100"),
        ({"ignore_label_id": "gone"}, "has no 'ignore_label_id'"),
        ({"seq_len": 81}, "seq_len=81, but sudoku_6x6 has 36 cells"),
        ({"vocab_size": None}, "vocab_size=None"),
        ({"num_puzzle_identifiers": 41}, "num_puzzle_identifiers=41"),
        ({"sets": ["../../test/all"]}, "no list of names"),
        ({"sets": []}, "no list of names"),
        ({"sets": ["none"]}, "none__inputs.npy cannot be read"),
    ],
)
def test_what_is_not_as_the_released_builders_write_it_is_refused(folder, about, said):
    change(folder, **about)
    with pytest.raises(InputError, match="train") as error:
        from_folder(SUDOKU, str(folder))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("part", "array", "said"),
    [
        ("inputs", np.ones((120, 35), dtype=np.int64), "shape (120, 35)"),
        ("labels", np.ones((119, 36), dtype=np.int64), "shape (119, 36)"),
        ("labels", np.ones((120, 36), dtype=np.float32), "array of whole numbers with 2 axes"),
        ("labels", np.array([{}] * 120), "cannot be read as a NumPy array"),
        ("labels", np.zeros((120, 36), dtype=np.int64), "row 0: answer"),
        ("inputs", -np.ones((120, 36), dtype=np.int64), "holds token -1"),
        ("puzzle_identifiers", np.ones(120, dtype=np.int32), "must hold 0 for each of 120"),
        ("puzzle_indices", np.arange(0, 121, 2), "must count from 0 to 120"),
        ("group_indices", np.array([0, 60, 30, 120]), "must rise from 0 to 120"),
        ("group_indices", np.array([0, 119]), "must rise from 0 to 120"),
        ("group_indices", np.array([], dtype=np.int64), "all__group_indices.npy"),
    ],
)
def test_an_array_that_does_not_fit_is_named(folder, part, array, said):
    np.save(folder / "train" / f"all__{part}.npy", array)
    with pytest.raises(InputError) as error:
        from_folder(SUDOKU, str(folder))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_array_that_promises_more_than_it_holds_is_refused(folder):
    path = folder / "train/all__inputs.npy"
    path.write_bytes(path.read_bytes().replace(b"(120, 36)", b"(9999999999, 36)", 1)[:500])
    with pytest.raises(InputError, match="cannot be read as a NumPy array"):
        from_folder(SUDOKU, str(folder))


@pytest.mark.parametrize("contents", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"PK\x03\x04"])
@pytest.mark.parametrize("name", ["dataset.json", "all__labels.npy"])
def test_damaged_files_are_refused(folder, name, contents):
    (folder / "train" / name).write_bytes(contents)
    with pytest.raises(InputError, match=name) as error:
        from_folder(SUDOKU, str(folder))
    assert "\n" not in str(error.value)


def test_one_split_of_a_folder_is_no_folder(folder):
    with pytest.raises(InputError, match="is one split of a builder's folder; give"):
        from_folder(SUDOKU, str(folder / "train"))
