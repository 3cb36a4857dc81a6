"""Test-time compute: the batch engine, what is read off a record, and the choices."""

from dataclasses import replace

import pytest
import torch

from tests.conftest import tiny_model
from trm.inference.compute import Compute
from trm.inference.evaluation import evaluate
from trm.inference.record import record_evaluation
from trm.inference.selectors import Signals, select_trajectory
from trm.inference.starts import views
from trm.models.recursion import Trained
from trm.support.errors import InputError
from trm.tasks import Arc, Maze, Sudoku

TRAINED = Trained(N_sup=6)


@pytest.fixture
def model():
    """A model whose puzzles halt at different steps, some of them never.

    In float64: an untrained recursion is chaotic, and rounding depends on the size of the batch.
    """
    model = tiny_model().double().eval()
    torch.manual_seed(1)
    torch.nn.init.normal_(model.halt_head.weight, std=0.3)
    torch.nn.init.constant_(model.halt_head.bias, -0.5)
    return model


@pytest.fixture
def recorded(model, puzzles, sudoku):
    def run(batch_size=256, split="train", **compute):
        split = puzzles.splits[split]
        return record_evaluation(model, sudoku, split, Compute(**compute), TRAINED, batch_size)

    return run


def equal(one, other):
    assert all(one.hits[name].equal(other.hits[name]) for name in one.hits)
    torch.testing.assert_close(one.cell, other.cell)
    assert one.steps.equal(other.steps)


def test_the_plain_trajectory_is_the_papers_evaluation(recorded, model, puzzles, sudoku):
    paper = evaluate(model, sudoku, puzzles.splits["train"], 6, batch_size=7)
    ours = recorded().by_step()
    assert ours.hits == paper.hits
    assert ours.cell == pytest.approx(paper.cell)
    assert ours.first_answers[:, :7].equal(paper.first_answers)


def test_an_answer_that_has_settled_is_not_judged_again(model, puzzles, monkeypatch):
    class Counting(Sudoku):
        judged = 0

        def judge(self, x_input, y, y_true):
            self.judged += len(y)
            return super().judge(x_input, y, y_true)

    def settled(x_input, puzzle_id, state):
        step = forward(x_input, puzzle_id, state)
        return replace(step, y_hat=torch.nn.functional.one_hot(x_input, 6).float())

    forward, split = model.forward, puzzles.splits["val"]
    monkeypatch.setattr(model, "forward", settled)
    for run in (
        lambda task: evaluate(model, task, split, 6),
        lambda task: record_evaluation(model, task, split, Compute(), TRAINED),
    ):
        run(task := Counting(2, 2))
        assert task.judged == len(split)


@pytest.mark.parametrize("compute", [{}, {"rollouts": 3, "noise": 0.5}, {"views": 4}])
def test_leaving_early_gives_what_is_read_off_a_run_to_the_end(recorded, compute):
    early = recorded(stop="first_halted", **compute)
    full = recorded(**compute)
    assert len(early.end.unique()) > 1
    equal(early.outcome(), full.outcome(stop="first_halted"))
    assert early.end.sum() < full.end.sum()
    for k in range(1, early.steps + 1):
        equal(early.outcome(steps=k), full.outcome(steps=k, stop="first_halted"))


def test_other_puzzles_in_the_batch_do_not_matter(recorded):
    compute = {"rollouts": 2, "noise": 0.3, "views": 2, "stop": "first_halted"}
    one, other = (recorded(batch_size, **compute) for batch_size in (1, 20))
    assert one.end.equal(other.end)
    equal(one.outcome(), other.outcome())
    torch.testing.assert_close(one.signals.halting, other.signals.halting, rtol=1e-4, atol=1e-5)


def test_more_trajectories_only_add_to_the_plain_one(recorded):
    plain, many = recorded(), recorded(rollouts=3, views=2)
    torch.testing.assert_close(
        plain.signals.halting[..., 0], many.signals.halting[..., 0], rtol=1e-4, atol=1e-5
    )
    equal(plain.outcome(), many.outcome(trajectories=1))
    assert not torch.allclose(many.signals.halting[..., 0], many.signals.halting[..., 2])
    assert many.outcome().steps.eq(6 * 6).all()


def test_seeds_differ_and_repeat(recorded):
    first, again, other = (recorded(rollouts=2, noise=0.2, seed=seed) for seed in (1, 1, 2))
    assert first.signals.halting.equal(again.signals.halting)
    assert not first.signals.halting[..., 1].equal(other.signals.halting[..., 1])


def test_views_are_undone_by_their_inverses(puzzles):
    task = Sudoku(2, 2)
    x_input = torch.from_numpy(puzzles.splits["train"].x_input).long()
    symmetry = views(task, 5, seed=0)
    for k in range(5):
        one = type(symmetry)(symmetry.cells[[k]], symmetry.tokens[[k]])
        turned = one(x_input[:1])
        assert one.inverse()(turned).equal(x_input[:1])
        assert (k == 0) == bool(turned.equal(x_input[:1]))


def test_views_are_different_and_no_more_than_there_are():
    eight = views(Maze(5), 8, seed=3)
    assert len(eight.cells.unique(dim=0)) == 8
    assert eight.cells[0].equal(torch.arange(25))
    with pytest.raises(InputError, match="views=9: maze_5x5 has 8 symmetric views"):
        views(Maze(5), 9, seed=3)


def signals(**given):
    plain = {
        "halting": torch.tensor([0.1, 2.0, -3.0, 1.0]),
        "residuals": torch.tensor([[0.5, 0.0], [0.1, 0.3], [0.0, 0.1], [0.4, 0.5]]),
        "confidence": torch.tensor([0.7, 0.6, 0.5, 0.9]),
        "valid": torch.tensor([True, False, False, True]),
        "answer": torch.tensor([7, 5, 7, 8]),
    }
    return Signals(**(plain | given))


@pytest.mark.parametrize(
    ("select", "expected"),
    [("halting", 1), ("residual", 2), ("confidence", 3), ("validity", 3), ("majority", 0)],
)
def test_each_selector_takes_the_trajectory_it_says(select, expected):
    every = torch.ones(4, dtype=torch.bool)
    assert select_trajectory(select, signals(), every) == expected


def test_only_candidates_are_chosen_and_of_equal_majorities_the_surer():
    among = torch.tensor([True, False, True, False])
    assert select_trajectory("halting", signals(), among) == 0
    assert select_trajectory("halting", signals(), torch.zeros(4, dtype=torch.bool)) == 1, (
        "no candidate: all"
    )
    pairs = signals(answer=torch.tensor([1, 2, 1, 2]))
    assert select_trajectory("majority", pairs, torch.ones(4, dtype=torch.bool)) == 1


def test_a_surer_model_is_believed_later(recorded):
    full = recorded()
    steps = [full.outcome(stop="first_halted", sure=sure).steps.sum() for sure in (0.3, 0.5, 0.6)]
    assert steps[0] < steps[1] < steps[2]


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        ({"rollouts": 0}, "rollouts=0 must be at least 1"),
        ({"max_steps": -1}, "max_steps=-1 must be at least 1"),
        ({"noise": -0.1}, "noise=-0.1 must be 0 or a positive number"),
        ({"noise": 0.1}, "noise=0.1 is for rollouts beyond the first"),
        ({"views": 10**8}, "views=100000000 must lie between 1 and"),
        ({"sure": 1.0}, "sure=1.0 must lie between 0 and 1"),
        ({"select": "best"}, "select=best must be one of halting, residual"),
        ({"select": "no.such"}, "select=no.such cannot be imported: No module named 'no'"),
        ({"select": "math.no"}, "select=math.no cannot be imported: .*no attribute 'no'"),
        ({"select": "math.pi"}, "select=math.pi is no function of signals and a mask, but 3.14"),
        ({"stop": "soon"}, "stop=soon must be one of all, first_halted, first_valid"),
        ({"rollouts": 2, "start": "fixed"}, "would all be equal; choose start=random"),
    ],
)
def test_what_cannot_be_is_refused(compute, message):
    with pytest.raises(InputError, match=message):
        Compute(**compute)


def test_validity_needs_rules():
    model = tiny_model(vocab_size=12, seq_len=900).eval()
    for compute in (Compute(select="validity"), Compute(stop="first_valid")):
        with pytest.raises(InputError, match="arc has no rules"):
            compute.for_model(Arc(), model, 16)
