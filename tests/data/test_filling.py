"""Training puzzles that are filled in: rightly, the same answer; wrongly, none."""

import pytest
import torch

from trm.data.filling import Filling
from trm.data.generated import generated
from trm.data.sampler import Batch, Sampler
from trm.support.errors import InputError
from trm.tasks.base import PAD
from trm.tasks.maze import Maze
from trm.tasks.sudoku import Sudoku

TASK = Sudoku(2, 3)
DATA = generated(TASK, train=40, val=1, test=1)
ROWS = 600


def drawn(filling: Filling, **settings: int) -> Batch:
    train = DATA.splits["train"]
    return Sampler(train, TASK, ROWS, 0, 0, filling=filling).batch(5, **settings)


PLAIN = drawn(Filling())


def test_shares_are_those_asked_for() -> None:
    batch = drawn(Filling(untouched=0.3, wrong=0.2))
    untouched = (batch.x_input == PLAIN.x_input).all(1)
    dead = (batch.y_true == PAD).all(1)
    # Of the wrong ones some get no wrong entry by chance, and of the others some no entry at all.
    assert 0.3 <= untouched.float().mean() < 0.42
    assert 0.05 < dead.float().mean() < 0.2
    assert not (untouched & dead).any()


def test_right_entries_are_those_of_the_answer() -> None:
    batch = drawn(Filling(untouched=0.0))
    assert batch.y_true.equal(PLAIN.y_true)
    new = batch.x_input != PLAIN.x_input
    assert (batch.x_input[new] == PLAIN.y_true[new]).all()
    assert (PLAIN.x_input[new] == TASK.blank).all()
    share = new.sum(1) / (PLAIN.x_input == TASK.blank).sum(1)
    assert share.min() < 0.1
    assert share.max() > 0.9


def test_wrong_entries_make_a_puzzle_without_answer() -> None:
    batch = drawn(Filling(untouched=0.0, wrong=1.0))
    dead = (batch.y_true == PAD).all(1)
    wrong = (batch.x_input != TASK.blank) & (batch.x_input != PLAIN.y_true)
    assert wrong.any(1).equal(dead)
    assert batch.y_true[~dead].equal(PLAIN.y_true[~dead])
    assert (PLAIN.x_input[wrong] == TASK.blank).all(), "what is given stays"
    assert {*batch.x_input.unique().tolist()} <= {*TASK.symbols.values()}


def test_filling_is_a_function_of_seed_and_step() -> None:
    filling = Filling(0.2, 0.3)
    whole = drawn(filling)
    parts = [drawn(filling, rank=rank, world_size=2) for rank in range(2)]
    assert Batch.cat(parts).x_input.equal(whole.x_input)
    assert Batch.cat(parts).y_true.equal(whole.y_true)


def test_fillings_that_cannot_be() -> None:
    with pytest.raises(InputError, match="more than all"):
        Filling(untouched=0.8, wrong=0.3)
    with pytest.raises(InputError, match=r"train\.filling\.wrong=-1"):
        Filling(wrong=-1)
    with pytest.raises(InputError, match="maze_5x5 has no open cells"):
        Filling(untouched=0.5).check(Maze(5))
    assert torch.equal(drawn(Filling()).x_input, PLAIN.x_input)
