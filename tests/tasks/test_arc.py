import numpy as np
import pytest
import torch

from trm import Arc, InputError
from trm.tasks.arc import (
    augmented,
    augmented_name,
    crop,
    parsed_name,
    to_canvas,
    turned,
    undone,
)


def some_grid(seed: int, rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 10, (rows, columns), dtype=np.uint8)


def test_the_dihedral_group_is_numbered_as_released():
    grid = some_grid(0, 2, 3)
    released = [
        *(np.rot90(grid, k) for k in range(4)),
        np.fliplr(grid),
        np.flipud(grid),
        grid.T,
        np.fliplr(np.rot90(grid)),
    ]
    for which, expected in enumerate(released):
        assert np.array_equal(turned(grid, which), expected), which


@pytest.mark.parametrize("shape", [(1, 1), (30, 30), (1, 30), (30, 2), (7, 5)])
def test_encode_augment_undo_decode_is_the_identity(shape):
    draw = np.random.default_rng(1)
    grid = some_grid(2, *shape)
    assert np.array_equal(crop(to_canvas(grid)), grid)
    for which in range(8):
        colours = np.concatenate([[0], draw.permutation(9) + 1])
        there = crop(to_canvas(augmented(grid, which, colours)))
        assert np.array_equal(undone(there, which, colours), grid)


def test_end_markers_stand_under_and_right_of_the_grid_where_they_fit():
    canvas = to_canvas(some_grid(0, 2, 30)).reshape(30, 30)
    assert (canvas[2] == 1).all()
    assert (canvas == 1).sum() == 30
    canvas = to_canvas(some_grid(0, 2, 3)).reshape(30, 30)
    assert np.argwhere(canvas == 1).tolist() == [[0, 3], [1, 3], [2, 0], [2, 1], [2, 2]]


def test_crop_takes_the_largest_rectangle_and_the_first_of_equal_ones():
    canvas = np.zeros((30, 30), dtype=np.uint8)
    canvas[0, :4] = canvas[1, :2] = 5  # 1 x 4 and 2 x 2 are equally large
    assert crop(canvas.ravel()).shape == (1, 4)
    canvas[2, :2] = 5  # 3 x 2
    assert crop(canvas.ravel()).shape == (3, 2)
    canvas[0, 0] = 1
    assert crop(canvas.ravel()).size == 0


def test_names_are_those_of_the_released_data():
    colours = np.array([0, 3, 2, 1, 4, 5, 6, 7, 8, 9])
    assert augmented_name("abc", 3, colours) == "abc|||t3|||0321456789"
    assert augmented_name("abc", 0, np.arange(10)) == "abc"
    assert parsed_name("abc")[:2] == ("abc", 0)
    name, which, back = parsed_name("abc|||t3|||0321456789")
    assert (name, which, back.tolist()) == ("abc", 3, colours.tolist())
    for bad in ("abc|||t8|||0123456789", "abc|||t1", "abc|||t1|||0123456788", "a|||b|||c|||d"):
        with pytest.raises(InputError, match="is no augmented task"):
            parsed_name(bad)


def test_exact_needs_a_label():
    task = Arc()
    x = torch.from_numpy(to_canvas(some_grid(0, 3, 3))).long()[None]
    assert task.judge(x, x, x)["exact"].item()
    assert not task.judge(x, x, torch.zeros_like(x))["exact"].item()
    elsewhere = x.clone()
    elsewhere[0, -1] = 7  # where the label is PAD
    assert task.judge(x, elsewhere, x)["exact"].item()


def test_grids_are_drawn_with_their_errors():
    grid = np.array([[1, 2], [3, 4]], dtype=np.uint8)
    wrong = np.array([[1, 2], [3, 5]], dtype=np.uint8)
    task = Arc()
    assert task.render(to_canvas(grid)).plain == "1 2 \n3 4"
    assert task.render(to_canvas(grid), to_canvas(wrong), to_canvas(grid)).plain == "1 2 \n3 5!"
    with pytest.raises(InputError, match="does not fit a canvas"):
        to_canvas(np.zeros((31, 2), dtype=np.uint8))


def test_a_grid_can_be_given_as_json():
    tokens = Arc().encode("[[0, 7], [7, 7]]")
    assert (tokens == to_canvas(np.array([[0, 7], [7, 7]]))).all()
    assert (Arc().encode(Arc().decode(tokens)) == tokens).all()
    for text in ("[[0, 7], [7]]", "[[0, 10]]", "[", "[]", '["a"]', "[" * 100_000):
        with pytest.raises(InputError, match="arc puzzle"):
            Arc().encode(text)
