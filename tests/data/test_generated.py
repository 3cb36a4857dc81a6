import numpy as np
import pytest

from trm import InputError
from trm.data import generated
from trm.tasks import Sudoku


@pytest.mark.parametrize("box", [(2, 2), (2, 3)])
def test_splits_share_no_puzzle_up_to_symmetry(box):
    task = Sudoku(*box)
    data = generated(task, train=150, val=30, test=30)
    assert data.manifest["counts"] == {"train": 150, "val": 30, "test": 30}
    assert set(data.manifest["shared_symmetry_classes"].values()) == {0}
    everything = np.concatenate([puzzles.x_input for puzzles in data.splits.values()])
    assert len(np.unique(everything, axis=0)) == 210


def test_the_puzzles_are_a_function_of_the_seed():
    one, same, other = (generated(Sudoku(2, 2), 20, 5, 5, clues=6, seed=seed) for seed in (0, 0, 1))
    assert one.manifest["sha256"] == same.manifest["sha256"] != other.manifest["sha256"]


def test_asking_for_more_puzzles_than_there_are_is_refused():
    with pytest.raises(InputError, match="does not have enough different puzzles"):
        generated(Sudoku(1, 2), train=10, val=10, test=10)


def test_an_empty_split_is_refused():
    with pytest.raises(InputError, match="data.test=0 must be at least 1"):
        generated(Sudoku(2, 2), train=10, val=10, test=0)
