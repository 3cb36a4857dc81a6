from dataclasses import dataclass

import torch

from tests.conftest import same
from trm.data import Batch
from trm.models import State
from trm.support.batched import Batched
from trm.training.carry import Carry, should_halt, steps_to_take

CPU = torch.device("cpu")


def batch_of(value, size=4):
    grid = torch.full((size, 6), value)
    return Batch(grid, grid + 1, torch.full((size,), value))


def state_of(value, size=4):
    return State(torch.full((size, 6, 2), value), torch.full((size, 6, 2), -value))


def test_an_empty_carry_takes_every_puzzle():
    carry = Carry.empty(batch_of(7), state_of(0.0)).admit(batch_of(3), state_of(1.0))
    assert carry.puzzles.x_input.equal(batch_of(3).x_input)
    assert carry.state.y.equal(state_of(1.0).y)
    assert carry.steps.tolist() == [0] * 4
    assert not carry.halted.any()


def test_only_halted_slots_take_fresh_puzzles_from_the_initial_state():
    carry = Carry.empty(batch_of(1), state_of(1.0)).admit(batch_of(1), state_of(1.0))
    q_hat = torch.tensor([-1.0, 2.0, -1.0, 2.0])
    carry = carry.advance(state_of(5.0), q_hat, N_sup=9, must_take=torch.zeros(4))
    assert carry.halted.tolist() == [False, True, False, True]
    carry = carry.admit(batch_of(8), state_of(2.0))
    assert carry.puzzles.x_input[:, 0].tolist() == [1, 8, 1, 8]
    assert carry.puzzles.y_true[:, 0].tolist() == [2, 9, 2, 9]
    assert carry.puzzles.puzzle_id.tolist() == [1, 8, 1, 8]
    assert carry.state.y[:, 0, 0].tolist() == [5, 2, 5, 2]
    assert carry.state.z[:, 0, 0].tolist() == [-5, -2, -5, -2]
    assert carry.steps.tolist() == [1, 0, 1, 0]


def test_halting_waits_for_the_fewest_steps_a_puzzle_must_take():
    carry = Carry.empty(batch_of(1), state_of(1.0)).admit(batch_of(1), state_of(1.0))
    must_take = torch.tensor([0, 1, 2, 3])
    carry = carry.advance(state_of(1.0), torch.ones(4), N_sup=3, must_take=must_take)
    assert carry.halted.tolist() == [True, True, False, False]


def test_a_puzzle_halts_when_judged_solved_or_out_of_steps():
    q_hat, step = torch.tensor([0.1, -0.1, -0.1]), torch.tensor([1, 2, 3])
    assert should_halt(q_hat, step, N_sup=3).tolist() == [True, False, True]


def test_exploration_is_rare_uniform_and_a_function_of_its_arguments():
    slots = torch.arange(50_000)
    fewest = steps_to_take(0, 11, slots, N_sup=16, exploration=0.1)
    assert fewest.equal(steps_to_take(0, 11, slots, N_sup=16, exploration=0.1))
    assert not fewest.equal(steps_to_take(0, 12, slots, N_sup=16, exploration=0.1))
    counts = fewest.bincount(minlength=17)
    assert counts[1] == 0
    assert abs(counts[0] / 50_000 - 0.9) < 0.007
    assert ((counts[2:] - 5000 / 15).abs() < 5 * (5000 / 15) ** 0.5).all()
    assert steps_to_take(0, 1, slots, N_sup=16, exploration=0.0).eq(0).all()
    assert steps_to_take(0, 1, slots, N_sup=1, exploration=1.0).eq(1).all()


def test_a_carry_survives_its_state_dict():
    carry = Carry.empty(batch_of(7), state_of(3.0))
    again = Carry.empty(batch_of(0, 1), state_of(0.0, 1)).restored(carry.state_dict(), CPU)
    assert same(dict(again.tensors()), dict(carry.tensors()))


def test_a_carry_of_a_state_of_any_form_survives():
    @dataclass(frozen=True)
    class Sites(Batched):
        sites: torch.Tensor

    carry = Carry.empty(batch_of(7), Sites(torch.randn(4, 6, 3)))
    form = Carry.empty(batch_of(0, 1), Sites(torch.zeros(1, 1)))
    assert form.restored(carry.state_dict(), CPU).state.sites.equal(carry.state.sites)


def test_carries_of_older_checkpoints_are_read():
    carry = Carry.empty(batch_of(7), state_of(3.0))
    saved = {name.rpartition(".")[2]: tensor for name, tensor in carry.state_dict().items()}
    form = Carry.empty(batch_of(0, 1), state_of(0.0, 1))
    assert same(dict(form.restored(saved, CPU).tensors()), dict(carry.tensors()))
