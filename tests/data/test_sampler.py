import pytest
import torch

from trm.data import Batch, Sampler, generated
from trm.data.sampler import MixedSampler
from trm.tasks import Sudoku


def make(puzzles, sudoku, augmentations=None, batch_size=12):
    return Sampler(puzzles.splits["train"], sudoku, batch_size, 7, augmentations)


def same(a: Batch, b: Batch) -> bool:
    return a.x_input.equal(b.x_input) and a.y_true.equal(b.y_true)


@pytest.mark.parametrize("augmentations", [None, 0, 5])
def test_batch_k_does_not_depend_on_the_batches_before_it(puzzles, sudoku, augmentations):
    one, other = (make(puzzles, sudoku, augmentations) for _ in range(2))
    batches = [one.batch(k) for k in range(40)]
    for k in (39, 0, 17, 18, 3):
        assert same(other.batch(k), batches[k])
    assert not same(batches[0], batches[1])


def test_ranks_slice_the_same_global_batch(puzzles, sudoku):
    sampler = make(puzzles, sudoku)
    parts = [sampler.batch(4, rank, 3) for rank in range(3)]
    assert torch.cat([part.x_input for part in parts]).equal(sampler.batch(4).x_input)


def test_copies_are_puzzles_with_their_solutions(puzzles, sudoku):
    batch = make(puzzles, sudoku, batch_size=500).batch(0)
    assert sudoku.is_valid(batch.x_input, batch.y_true).all()
    assert len(batch.x_input.unique(dim=0)) > 450


def test_augmentations_are_a_fixed_set_with_the_puzzle_itself(puzzles, sudoku):
    sampler = Sampler(puzzles.splits["train"][:1], sudoku, 2000, 7, augmentations=5)
    drawn = torch.cat([sampler.batch(k).x_input for k in range(3)]).unique(dim=0)
    assert len(drawn) == 6
    original = torch.from_numpy(puzzles.splits["train"].x_input[0]).long()
    assert (drawn == original).all(dim=1).any()


def test_without_augmentations_only_the_puzzles_themselves_appear(puzzles, sudoku):
    train = puzzles.splits["train"]
    drawn = make(puzzles, sudoku, augmentations=0, batch_size=500).batch(0).x_input.unique(dim=0)
    assert drawn.equal(torch.from_numpy(train.x_input).long().unique(dim=0))


def sizes(steps: int | None = None) -> MixedSampler:
    samplers = []
    for box_cols in (3, 2):
        task = Sudoku(2, box_cols)
        train = generated(task, train=20, val=1, test=1).splits["train"]
        samplers.append(Sampler(train, task, 72 // task.cells, 7, None))
    return MixedSampler(samplers, 7, steps)


def test_a_batch_of_several_sizes_has_one_drawn_by_seed_and_step():
    one, other = sizes(), sizes()
    cells = [one.batch(k).x_input.shape for k in range(200)]
    assert {*cells} == {(4, 16), (2, 36)}
    assert 70 < cells.count((4, 16)) < 130
    for k in (150, 3, 77):
        assert same(other.batch(k), one.batch(k))
        parts = [one.batch(k, rank, 2) for rank in range(2)]
        assert torch.cat([part.x_input for part in parts]).equal(one.batch(k).x_input)


def test_small_sizes_can_come_first():
    mixed = sizes(steps=300)
    small = torch.tensor([mixed.batch(k).x_input.shape[1] == 16 for k in range(300)]).float()
    early, late = small[:60].mean(), small[240:].mean()
    assert early > 0.7
    assert 0.02 < late < 0.3, "no size ever ends"
    assert mixed.shares(0).argmax() == 0
    assert mixed.shares(200).equal(mixed.shares(300))
