"""What came since the paper: each idea does what its formula says, and nothing where it is off."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.conftest import tiny_model
from trm import InputError
from trm.models import (
    CompetingModel,
    DampedModel,
    FeedbackModel,
    FlowModel,
    MultiScaleModel,
    TinyRecursiveModel,
    trajectory,
)
from trm.models.competing import chosen
from trm.models.flow import noise
from trm.tasks import Sudoku
from trm.tasks.base import PAD

TASK = Sudoku(2, 2)
X_INPUT = torch.tensor([[1, 2, 3, 4, 5, 1] + [1] * 10, [2, 1, 1, 5] + [1] * 12])
IDS = torch.zeros(2, dtype=torch.int64)


def like(model, kind, **options):
    """Make a model of another kind with the weights of a tiny one."""
    arguments = {k: v for k, v in model.settings().items() if k != "_target_"}
    other = kind(**arguments | options)
    own = {name: weight.shape for name, weight in other.state_dict().items()}
    same = {k: v for k, v in model.state_dict().items() if v.shape == own.get(k)}
    other.load_state_dict(same, strict=False)
    return other.eval()


def last(model, steps=3):
    return list(trajectory(model, X_INPUT, IDS, steps))[-1]


def test_normed_queries_and_keys_have_no_scale():
    model = tiny_model(mixing="attention", qk_norm=True).double()
    before = last(model)
    for block in model.net.blocks:
        block.mixing.qkv.weight.data[:32] *= 7  # queries and keys; values follow them
    torch.testing.assert_close(last(model).y_hat, before.y_hat, rtol=0, atol=1e-3)
    plain = tiny_model(mixing="attention").double()
    other = last(plain).y_hat
    for block in plain.net.blocks:
        block.mixing.qkv.weight.data[:32] *= 7
    assert (last(plain).y_hat - other).abs().max() > 1e-2, "which is not so without"


def test_a_norm_within_swiglu_takes_the_scale_of_what_it_gates():
    layer = tiny_model(inner_norm=True).net.blocks[0].mlp.double()
    h = torch.randn(5, 16, dtype=torch.float64)
    before, along_first = layer(h), layer.on_first_axis(h.T)
    torch.testing.assert_close(along_first.T, before)
    layer.gate_up.weight.data[len(layer.gate_up.weight) // 2 :] *= 50
    torch.testing.assert_close(layer(h), before, rtol=0, atol=1e-3)
    assert tiny_model(inner_norm=True).net.blocks[0].mixing.mlp.inner_norm


def test_position_tables_add_the_vectors_of_row_column_and_box():
    model = tiny_model(group_tables=True, groups=TASK.groups).double()
    tables = model.group_embedding.tables
    assert {name: len(table) for name, table in tables.items()} == {
        "rows": 4,
        "columns": 4,
        "boxes": 4,
    }
    plain = like(model, TinyRecursiveModel, group_tables=False).double()
    added = (model.embed(X_INPUT, IDS) - plain.embed(X_INPUT, IDS)) / 16**0.5
    assert TASK.groups["boxes"][1] == [2, 3, 6, 7]
    expected = tables["rows"][1] + tables["columns"][2] + tables["boxes"][1]
    torch.testing.assert_close(added[0, 6], expected)


def test_position_tables_need_groups_that_part_the_grid():
    with pytest.raises(InputError, match="gives each cell the vector of its group"):
        tiny_model(group_tables=True, groups={"pairs": [[0, 1], [1, 2]]})


def test_a_random_start_is_each_entry_s_own_and_each_puzzle_s_alike():
    state = tiny_model(random_start=True).initial_state(3)
    assert state.y[0].equal(state.y[2])
    assert not state.y[0, 0].equal(state.y[0, 1])
    assert not state.y.equal(state.z)
    assert state.z.std().item() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("kind", [DampedModel, FeedbackModel])
def test_what_adds_nothing_at_first_is_the_plain_model(kind):
    plain = tiny_model()
    same = like(plain, kind, **{"damping": 0.0} if kind is DampedModel else {"blank": 1})
    assert last(same).y_hat.equal(last(plain).y_hat)


def test_full_damping_stays_where_it_is():
    model = like(tiny_model(), DampedModel, damping=1.0)
    state = model.initial_state(2)
    step = model(X_INPUT, IDS, state)
    assert step.state.y.equal(state.y)
    assert step.state.z.equal(state.z)


def test_noise_is_of_training_alone_and_of_each_puzzle_alone():
    model = like(tiny_model(), DampedModel, noise=0.01)
    start = model.initial_state(2)
    start = replace(start, key=torch.tensor([7, 8]))
    calm = model(X_INPUT, IDS, start).state
    assert calm.key.equal(start.key)
    model.train()
    noisy = model(X_INPUT, IDS, start).state
    assert noisy.z.equal(model(X_INPUT, IDS, start).state.z), "a function of the key"
    assert not noisy.z.equal(calm.z)
    assert not noisy.key.equal(start.key), "the next step draws others"
    alone = model(X_INPUT[1:], IDS[1:], start[1:]).state.z
    torch.testing.assert_close(alone[0], noisy.z[1], rtol=0, atol=1e-3)
    model.options = replace(model.options, noise=0.5, damping=0.0)
    model._key, h = torch.arange(400), torch.randn(400, 16, 16)
    moved = model.update(torch.nn.Identity(), h, torch.zeros(())) - h
    assert moved.std().item() == pytest.approx(0.5, rel=0.05)


def test_feedback_shows_the_last_answer_and_keeps_what_is_given():
    model = like(tiny_model(), FeedbackModel, blank=1)
    torch.nn.init.normal_(model.feedback_embedding.weight)
    state = model.initial_state(2)
    assert (state.answer == PAD).all()
    step = model(X_INPUT, IDS, state)
    assert step.state.answer.equal(step.y_hat.argmax(-1))
    one = replace(state, answer=torch.full_like(X_INPUT, 2))
    other = replace(state, answer=torch.where(X_INPUT == 1, 2, 3))  # differs where it is given
    assert model.see(X_INPUT, IDS, one).equal(model.see(X_INPUT, IDS, other))
    assert not model.see(X_INPUT, IDS, one).equal(model.see(X_INPUT, IDS, state))


def test_the_winner_hands_on_its_answer_and_each_chain_keeps_its_latent():
    torch.manual_seed(0)
    model = like(tiny_model(), CompetingModel, chains=3)
    torch.nn.init.normal_(model.halt_head.weight)
    model.z_init.copy_(torch.randn(3, 16))
    step = model(X_INPUT, IDS, model.initial_state(2))
    each = step.chains
    assert each.y_hat.shape == (2, 3, 16, 6)
    winner = each.q_hat.argmax(1)
    assert step.state.winner.equal(winner)
    assert step.q_hat.equal(each.q_hat.max(1).values)
    # By hand: a plain model from the winner's y and the z of chain 1.
    plain = tiny_model()
    plain.load_state_dict(model.state_dict() | {"z_init": plain.z_init})
    y, z = step.state.y[torch.arange(2), winner], step.state.z[:, 1]
    expected = plain(X_INPUT, IDS, type(plain.initial_state(2))(y, z))
    after = model(X_INPUT, IDS, step.state).chains
    torch.testing.assert_close(after.y_hat[:, 1], expected.y_hat)
    torch.testing.assert_close(after.state.z[:, 1], expected.state.z)


def test_only_the_chosen_chain_learns():
    model = like(tiny_model(), CompetingModel, chains=3).train()
    starts = model.initial_state(2)
    starts = replace(starts, z=starts.z.clone().requires_grad_())
    model.T = 1
    step = chosen(model(X_INPUT, IDS, starts).chains, torch.tensor([2, 0]))
    (gradient,) = torch.autograd.grad(step.y_hat.sum(), starts.z)
    assert (gradient.flatten(2).abs().sum(2) > 0).tolist() == [
        [False, False, True],
        [True, False, False],
    ]


def test_a_flow_ends_at_what_is_answered_and_is_as_noisy_as_its_time_says():
    torch.manual_seed(0)
    cells, vocab = 16, 6
    model = FlowModel(vocab, cells, dim=16, hidden_multiple=8, flow_steps=8, churn=1.0).eval()
    state = model.initial_state(500, torch.Generator().manual_seed(0))
    answer = F.one_hot(torch.randint(vocab, (500, cells)), vocab).float()
    for _ in range(7):
        state = model._moved(state, answer)
        error = state.noisy - state.time[:, None, None] * answer
        expected = (1 - state.time[0].item()) / vocab**0.5
        assert error.std().item() == pytest.approx(expected, rel=0.03)
    model.options = replace(model.options, churn=0.0)
    torch.testing.assert_close(model._moved(state, answer).noisy, answer)


def test_a_flow_s_noise_is_of_its_key():
    like_this = torch.empty(2, 16, 6)
    both = noise(torch.tensor([3, 4]), like_this)
    assert both[1:].equal(noise(torch.tensor([4]), like_this[1:]))
    assert not both[0].equal(both[1])


@pytest.mark.parametrize("kind", [CompetingModel, DampedModel, FeedbackModel, FlowModel])
def test_they_are_saved_and_made_again(kind, tmp_path):
    model = kind(6, 16, dim=16, hidden_multiple=8, random_start=True).eval()
    model.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path).eval()
    assert again.settings() == model.settings()
    assert last(again).y_hat.equal(last(model).y_hat)


def test_latents_with_starts_of_their_own_may_be_drawn_too():
    model = MultiScaleModel(6, 16, n=3, dim=16, hidden_multiple=8, own_starts=True)
    fixed = model.initial_state(2)
    assert fixed.z.shape == (2, 3, 16, 16)
    assert fixed.z[0, 1, 5].equal(model.z_init[1])
    drawn = model.initial_state(2, torch.Generator().manual_seed(0)).z
    assert drawn.shape == fixed.z.shape
    assert not drawn[:, 0].equal(drawn[:, 1])
