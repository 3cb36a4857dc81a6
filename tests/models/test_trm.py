import copy

import pytest
import torch

from tests.conftest import tiny_model
from trm import InputError
from trm.models import State, TinyRecursiveModel, trajectory
from trm.models.layers import GridConvolution, Rotary


def states(batch=2, dim=16, seed=0):
    torch.manual_seed(seed)
    return torch.randn(3, batch, 16, dim)


@pytest.mark.parametrize("mixing", ["mlp", "attention"])
def test_only_the_last_cycle_carries_gradient(mixing):
    x, y, z = states().requires_grad_()
    y_out, _ = tiny_model(n=2, T=3, mixing=mixing).deep_recursion(x, y, z)
    dx, dy, dz = torch.autograd.grad(y_out.sum(), (x, y, z), allow_unused=True)
    assert dx is not None
    assert dy is None
    assert dz is None


def test_with_one_cycle_the_start_carries_gradient_too():
    x, y, z = states().requires_grad_()
    y_out, _ = tiny_model(T=1).deep_recursion(x, y, z)
    dy, dz = torch.autograd.grad(y_out.sum(), (y, z))
    assert dy.abs().sum() > 0
    assert dz.abs().sum() > 0


@pytest.mark.parametrize("mixing", ["mlp", "attention"])
def test_puzzles_in_a_batch_do_not_affect_each_other(mixing):
    model = tiny_model(mixing=mixing).double()
    x_input = torch.randint(1, 6, (5, 16))
    ids = torch.zeros(5, dtype=torch.int64)
    together = list(trajectory(model, x_input, ids, 3))[-1]
    alone = list(trajectory(model, x_input[2:3], ids[:1], 3))[-1]
    torch.testing.assert_close(together.y_hat[2:3], alone.y_hat, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(together.q_hat[2:3], alone.q_hat, rtol=1e-9, atol=1e-9)


def test_a_trajectory_is_the_chain_of_its_steps():
    model = tiny_model()
    x_input, ids = torch.randint(1, 6, (2, 16)), torch.zeros(2, dtype=torch.int64)
    state = model.initial_state(2)
    for step in trajectory(model, x_input, ids, 3):
        expected = model(x_input, ids, state)
        assert step.y_hat.equal(expected.y_hat)
        state = expected.state


def test_solved_puzzles_can_leave():
    state = State(*torch.randn(2, 4, 16, 8))
    rest = state[torch.tensor([True, False, False, True])]
    assert rest.y.equal(state.y[[0, 3]])
    assert rest.z.equal(state.z[[0, 3]])


def test_a_fresh_model_never_believes_that_it_is_done():
    model = tiny_model()
    step = model(torch.ones(2, 16, dtype=torch.int64), torch.zeros(2), model.initial_state(2))
    assert step.q_hat.tolist() == [-5, -5]


def test_initial_states_are_fixed_or_drawn_from_the_generator():
    model = tiny_model()
    fixed = model.initial_state(3)
    assert fixed.y[0].equal(fixed.y[2])
    one, same, other = (
        model.initial_state(3, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert one.y.equal(same.y)
    assert not one.y.equal(other.y)
    assert not one.y[0].equal(one.y[1])


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({"mixing": "mlp"}, 4_855_298),
        ({"mixing": "mlp", "prefix_len": 16}, 5_028_866),
        ({"mixing": "attention", "positions": "rotary"}, 6_828_034),
        ({"mixing": "attention", "positions": "rotary", "prefix_len": 16}, 6_828_034),
    ],
)
def test_published_sizes(settings, parameters):
    with torch.device("meta"):
        model = TinyRecursiveModel(11, 81, **settings)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_the_identifier_table_is_shared_by_copies_and_no_part_of_the_weights():
    model = tiny_model(prefix_len=2, identifiers=3)
    assert not any("identif" in name for name in model.state_dict())
    assert copy.deepcopy(model).identifiers is model.identifiers


def test_the_prefix_shows_the_identifier():
    model = tiny_model(prefix_len=2, identifiers=3)
    model.identifiers.weights.normal_()
    x_input = torch.ones(2, 16, dtype=torch.int64)
    step = model(x_input, torch.tensor([0, 2]), model.initial_state(2))
    assert step.y_hat.shape == (2, 16, 6)
    assert not torch.allclose(step.y_hat[0], step.y_hat[1])


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_convolution_lets_cells_see_their_neighbours_on_the_grid_only(batch_first):
    convolve = GridConvolution(3, side=3, columns=5, prefix_len=2, batch_first=batch_first)
    h = torch.randn(2, 2 + 4 * 5, 3)  # a grid of 4 rows and 5 columns behind 2 positions

    def convolved(h):
        return convolve(h).detach() if batch_first else convolve(h.transpose(0, 1)).transpose(0, 1)

    changed = h.clone()
    changed[0, 2 + 5] += 1  # the first cell of the second row
    moved = (convolved(changed) - convolved(h)).abs().amax(-1) > 0
    assert moved[0].nonzero().flatten().tolist() == [2 + cell for cell in (0, 1, 5, 6, 10, 11)]
    assert not moved[1].any()
    assert convolved(h)[:, :2].equal(h[:, :2])


def test_rotary_2d_depends_on_the_distance_along_rows_and_columns_alone():
    rotary = Rotary(8, 3 + 4 * 5, columns=5, prefix_len=3)  # 4 rows of 5 behind 3 positions
    q, k = torch.randn(2, 1, 8).expand(2, 23, 8).unbind()
    scores = (rotary(q) @ rotary(k).T)[3:, 3:].view(4, 5, 4, 5)
    torch.testing.assert_close(scores[0, 0, 1, 2], scores[2, 1, 3, 3])  # one down, two right
    torch.testing.assert_close(scores[:-1, :-1, :-1, :-1], scores[1:, 1:, 1:, 1:])
    assert not torch.allclose(scores[0, 0, 0, 1], scores[0, 0, 1, 0])
    assert not torch.allclose(scores[0, 4, 1, 0], scores[0, 0, 0, 1])  # no wrapping around


@pytest.mark.parametrize("mixing", ["mlp", "attention"])
def test_a_kernel_that_sees_the_cell_alone_changes_nothing(mixing):
    plain = tiny_model(mixing=mixing, prefix_len=1)
    model = tiny_model(mixing=mixing, prefix_len=1, convolution=3, columns=4)
    identity = torch.zeros(3, 3)
    identity[1, 1] = 1
    model.load_state_dict(plain.state_dict(), strict=False)
    for block in model.net.blocks:
        block.mlp.convolution.weight.data[:] = identity
    x_input, ids = torch.randint(1, 6, (2, 16)), torch.zeros(2, dtype=torch.int64)
    one, other = (m(x_input, ids, m.initial_state(2)).y_hat for m in (plain, model))
    torch.testing.assert_close(one, other)


def test_autocast_keeps_the_gradient_of_weights_first_used_without_one():
    # A cast cached in the no-gradient cycles would silently cut the last cycle's gradient.
    model = tiny_model(n=1, T=2)
    x_input, ids = torch.randint(1, 6, (2, 16)), torch.zeros(2, dtype=torch.int64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x_input, ids, model.initial_state(2)).y_hat.float().square().sum().backward()
    for name, parameter in model.net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mixing": "attention", "dim": 20, "heads": 3}, "model.dim=20 .* model.heads=3"),
        ({"mixing": "convolution"}, "model.mixing=convolution must be"),
        ({"mixing": "mlp", "positions": "rotary"}, "model.positions=rotary has no effect"),
        ({"positions": "sinus"}, "model.positions=sinus must be one of rotary, "),
        ({"convolution": 2}, "model.convolution=2 must be odd"),
        ({"convolution": 3}, "model.columns=None must divide"),
        ({"convolution": 3, "columns": 5}, "model.columns=5 must divide its 16 cells"),
        ({"mixing": "attention", "positions": "rotary_2d"}, "model.columns=None must divide"),
        (
            {"mixing": "attention", "positions": "rotary_2d", "columns": 4, "heads": 8},
            "rotary_2d halves each head",
        ),
        ({"T": 0}, "model.T=0 must be at least 1"),
        ({"prefix_len": 1, "identifier_dim": 100}, "model.identifier_dim=100 does not fit"),
    ],
)
def test_impossible_sizes_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        tiny_model(**settings)


@pytest.mark.parametrize("token", [-1, 6, 1.5])
def test_a_trajectory_refuses_what_is_no_token(token):
    x_input = torch.full((1, 16), token)
    with pytest.raises(InputError, match=f"from {token} to {token}; .* whole numbers from 0 to 5"):
        next(trajectory(tiny_model(), x_input, torch.zeros(1).long(), 1))


def test_a_trajectory_refuses_other_shapes():
    model, grid = tiny_model(), torch.ones(2, 16, dtype=torch.int64)
    for x_input, ids in ((grid[0], grid[:, 0]), (grid[:, :9], grid[:, 0]), (grid, grid[:1, 0])):
        with pytest.raises(InputError, match=r"takes \(batch, 16\) and \(batch,\)"):
            next(trajectory(model, x_input, ids, 1))
    assert len(list(trajectory(model, grid, grid[:, 0], 2))) == 2
