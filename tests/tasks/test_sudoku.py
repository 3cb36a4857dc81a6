import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trm import InputError
from trm.tasks import Sudoku
from trm.tasks.sudoku_generator import SudokuGenerator

BOXES = [(2, 2), (2, 3), (3, 2), (3, 3), (4, 4)]
SOLVED_4 = "1234341221434321"


def pattern(task: Sudoku) -> np.ndarray:
    """One solved grid: each row is the one before, shifted by a box, a band by one more."""
    rows = np.arange(task.size)
    shift = rows % task.box_rows * task.box_cols + rows // task.box_rows
    return ((shift[:, None] + rows) % task.size).ravel().astype(np.uint8) + 2


@pytest.mark.parametrize("box", BOXES)
@given(keys=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_symmetry_then_inverse_is_the_identity(box, keys):
    task = Sudoku(*box)
    symmetry = task.symmetries(torch.tensor(keys))
    grids = torch.randint(0, task.vocab_size, (len(keys), task.cells))
    assert symmetry.inverse()(symmetry(grids)).equal(grids)
    assert symmetry(symmetry.inverse()(grids)).equal(grids)


@pytest.mark.parametrize("box", BOXES)
def test_symmetries_keep_the_rules(box):
    task = Sudoku(*box)
    y = torch.from_numpy(pattern(task)).expand(200, -1)
    assert task.is_valid(torch.ones_like(y), y).all()
    images = task.symmetries(torch.arange(200))(y)
    assert task.is_valid(torch.ones_like(images), images).all()
    assert images[0].equal(y[0].long()), "key 0 is the identity"
    assert len(images.unique(dim=0)) > 100


def test_symmetries_reach_the_whole_group():
    # 4x4: 4! digits x (2!^2 2!)^2 rows and columns x 2 transpositions = 3072 elements.
    task = Sudoku(2, 2)
    symmetry = task.symmetries(torch.arange(40_000))
    assert len(torch.cat([symmetry.cells, symmetry.tokens], 1).unique(dim=0)) == 3072


@pytest.mark.parametrize("box", [(2, 2), (2, 3), (3, 3)])
def test_the_class_key_survives_every_symmetry(box):
    task = Sudoku(*box)
    generator = SudokuGenerator(task.box_rows, task.box_cols, seed=1)
    puzzles = torch.from_numpy(np.stack([generator.puzzle()[0] for _ in range(5)]))
    keys = task.symmetry_class(puzzles.numpy())
    images = task.symmetries(torch.arange(1, 6))(puzzles).to(torch.uint8)
    assert (task.symmetry_class(images.numpy()) == keys).all()
    assert len(set(keys.tolist())) == 5 or box == (2, 2)


def test_the_class_key_separates_all_36_classes_of_minimal_4x4_puzzles():
    # 13 classes with 4 clues, 22 with 5 and 1 with 6, as known from exhaustive enumeration.
    task = Sudoku(2, 2)
    generator = SudokuGenerator(task.box_rows, task.box_cols, seed=0)
    x_input = np.stack([generator.puzzle()[0] for _ in range(700)])
    keys, first = np.unique(task.symmetry_class(x_input), return_index=True)
    clues = (x_input[first] > 1).sum(1)
    assert len(keys) == 36
    assert np.bincount(clues).tolist() == [0, 0, 0, 0, 13, 22, 1]


@pytest.mark.parametrize(
    ("box", "clues"), [((2, 2), None), ((2, 2), 7), ((2, 3), 14), ((3, 3), 30)]
)
def test_generated_puzzles_have_exactly_one_solution(box, clues):
    task = Sudoku(*box)
    generator = SudokuGenerator(task.box_rows, task.box_cols, seed=5)
    for _ in range(3):
        x_input, y_true = generator.puzzle(clues)
        assert list(generator.solutions((x_input - 1).tolist())) == [(y_true - 1).tolist()]
        assert task.explain(x_input, y_true) is None
        assert clues is None or (x_input > 1).sum() == clues
        if clues is None:  # then no clue can be spared
            for cell in np.flatnonzero(x_input > 1):
                fewer = x_input.copy()
                fewer[cell] = 1
                assert generator.count_solutions((fewer - 1).tolist()) == 2


def test_the_solver_counts_all_288_grids_of_4x4():
    assert SudokuGenerator(2, 2, seed=0).count_solutions([0] * 16, at_most=1000) == 288


def test_whether_there_is_an_answer_is_known_unless_it_takes_too_long(monkeypatch):
    task = Sudoku(2, 2)
    assert task.has_answer(task.encode("1" + "." * 15)) is True
    assert task.has_answer(task.encode("123." + "...4" + "." * 8)) is False
    monkeypatch.setattr("trm.tasks.sudoku_generator._MAX_BRANCHES", 1)
    assert task.has_answer(task.encode("." * 16)) is None


def test_too_few_clues_are_refused():
    with pytest.raises(InputError, match="clues=3"):
        SudokuGenerator(2, 2, seed=0).puzzle(3)


def test_text_round_trip_with_the_released_vocabulary():
    task = Sudoku(3, 3)
    text = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
    tokens = task.encode(text)
    assert tokens[:4].tolist() == [6, 4, 1, 1]
    assert task.vocab_size == 11
    assert task.decode(tokens) == text
    assert (task.encode(text.replace(".", "0")) == tokens).all()
    assert (task.encode(text.replace(".", "_")) == tokens).all()
    assert Sudoku(4, 4).encode("G" * 256).tolist() == [17] * 256


@pytest.mark.parametrize(
    ("text", "said"), [("12", "2 symbols"), ("1234341x21434321", "row 2 column 4 holds 'x'")]
)
def test_bad_text_is_explained(text, said):
    with pytest.raises(InputError, match=said):
        Sudoku(2, 2).encode(text)


@pytest.mark.parametrize(
    ("puzzle", "answer", "said"),
    [
        ("1...............", SOLVED_4, None),
        ("11..............", None, "row 1 holds the digit 1 twice"),
        ("1...1...........", None, "column 1 holds the digit 1 twice"),
        ("1....1..........", None, "box 1 holds the digit 1 twice"),
        ("2...............", SOLVED_4, "row 1 column 1 is 2 in the puzzle but 1 in the answer"),
        ("1...............", SOLVED_4[:-1] + ".", "row 4 column 4 is empty"),
        ("1...............", SOLVED_4[:-1] + "2", "row 4 of the answer holds the digit 2 twice"),
    ],
)
def test_rules_are_checked_and_explained(puzzle, answer, said):
    task = Sudoku(2, 2)
    x_input, y = task.encode(puzzle), None if answer is None else task.encode(answer)
    explained = task.explain(x_input, y)
    assert explained is None if said is None else said in explained
    if y is not None:
        valid = task.is_valid(torch.from_numpy(x_input)[None], torch.from_numpy(y)[None])
        assert valid.item() == (said is None)


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_validity_agrees_with_the_explanation(seed):
    task = Sudoku(2, 2)
    rng = np.random.default_rng(seed)
    y = task.encode(SOLVED_4)
    y[rng.integers(16)] = rng.integers(0, 6)
    x_input = np.where(rng.random(16) < 0.3, task.encode(SOLVED_4), 1).astype(np.uint8)
    valid = task.is_valid(torch.from_numpy(x_input)[None], torch.from_numpy(y)[None]).item()
    assert valid == (task.explain(x_input, y) is None)


def test_wrong_cells_are_marked_without_colour():
    task = Sudoku(2, 2)
    y_true = task.encode(SOLVED_4)
    y = y_true.copy()
    y[0] = 5
    picture = task.render(task.encode("." * 16), y, y_true).plain
    assert picture.splitlines()[0] == "4!2 │3 4 "
    assert picture.count("!") == 1


@pytest.mark.parametrize("box", [(0, 3), (1, 1), (6, 6)])
def test_impossible_boxes_are_refused(box):
    with pytest.raises(InputError, match=f"task.box_rows={box[0]}"):
        Sudoku(*box)


@pytest.mark.parametrize("box", BOXES)
def test_contradictions_are_seen_where_nothing_is_left(box):
    task = Sudoku(*box)
    solved = torch.from_numpy(pattern(task)).long()
    twice = solved.clone()
    twice[0] = twice[1]
    no_candidate = torch.ones_like(solved)  # the first cell sees every digit, from three sides
    no_candidate[1 : task.size] = solved[1 : task.size]
    no_candidate[0] = 1
    below = task.size * task.box_rows  # in the first column, below the first box
    no_candidate[below] = solved[0]
    homeless = torch.ones_like(solved)  # a digit in every row and column but one, that is filled
    homeless[0] = 2
    digit = (solved == 3).nonzero().flatten()
    free = digit != digit[0]
    homeless[digit[free]] = 3
    homeless[digit[0]] = 2 if digit[0] != 0 else 4
    grids = torch.stack([torch.ones_like(solved), solved, twice, no_candidate])
    assert task.contradicts(grids).tolist() == [False, False, True, True]
    assert task.contradicts(homeless[None]).item()


def test_nothing_that_has_an_answer_is_called_a_contradiction():
    task = Sudoku(2, 3)
    x_input, y_true = (torch.from_numpy(part).long() for part in task.generator(3)(60))
    share = torch.linspace(0, 1, 60)[:, None]
    drawn = torch.rand(60, 36, generator=torch.Generator().manual_seed(0))
    partly = torch.where(drawn < share, y_true, x_input)
    assert not task.contradicts(partly).any()


@pytest.mark.parametrize(
    ("cells", "box"),
    [(16, (2, 2)), (36, (2, 3)), (64, (2, 4)), (81, (3, 3)), (256, (4, 4)), (625, (5, 5))],
)
def test_sudoku_of_a_number_of_cells(cells, box):
    task = Sudoku(3, 3).of_size(cells)
    assert (task.box_rows, task.box_cols) == box
    assert Sudoku(3, 2).of_size(36).box_rows == 3, "its own size stays as it is"


@pytest.mark.parametrize("cells", [0, 1, 4, 9, 25, 49, 80, 82, 1296])
def test_no_sudoku_has_so_many_cells(cells):
    assert Sudoku(3, 3).of_size(cells) is None
