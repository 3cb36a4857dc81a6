"""Test-time compute: the batch engine, what is read off a record, and the choices."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.conftest import tiny_model
from trm.data.puzzles import PuzzleSet
from trm.inference.compute import Compute
from trm.inference.evaluation import evaluate
from trm.inference.record import record_evaluation
from trm.inference.selectors import Signals, select_trajectory
from trm.inference.solver import Solver
from trm.inference.starts import views
from trm.models.recursion import RecursiveModel, State, Step, Trained
from trm.support.errors import InputError
from trm.tasks import Arc, Maze, Sudoku
from trm.tasks.maze import PATH, SPACE, START

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
        "cost": torch.tensor([5.0, 1.0, 2.0, 5.0]),
        "answer": torch.tensor([7, 5, 7, 8]),
    }
    return Signals(**(plain | given))


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("halting", 1),
        ("residual", 2),
        ("confidence", 3),
        ("validity", 3),
        ("majority", 0),
        ("cost", 0),
    ],
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


def test_the_valid_answer_that_costs_least_is_chosen():
    every = torch.ones(4, dtype=torch.bool)
    assert select_trajectory("cost", signals(cost=torch.tensor([5.0, 1, 2, 4])), every) == 3
    assert select_trajectory("cost", signals(valid=torch.zeros(4).bool()), every) == 0


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
    for changes in (
        {"select": "validity"},
        {"select": "cost"},
        {"stop": "first_valid"},
        {"stop": "all_valid"},
    ):
        compute = Compute(**changes)
        with pytest.raises(InputError, match="arc has no rules"):
            compute.for_model(Arc(), model, 16)


class Wanderer(RecursiveModel):
    """Knows two ways through a maze: the long one at step 2, the short at 3, the long again at 4.

    Later by two steps where the start is not in the first cell, as in a turned view.
    """

    def __init__(self, task: Maze) -> None:
        super().__init__()
        self.task, self.weight = task, torch.nn.Parameter(torch.zeros(1))

    def initial_state(self, batch_size, generator=None):
        return State(torch.zeros(batch_size, 1, 1), torch.zeros(batch_size, 1, 1))

    def forward(self, x_input, puzzle_id, state):
        taken = state.y + 1
        short = self.task.shortest_path(x_input)
        long = torch.where((x_input == SPACE) & (short != PATH), PATH, x_input)
        time = (taken[:, 0] - 2 * (x_input[:, :1] != START)).long()
        y = torch.where(time == 3, short, torch.where((time == 2) | (time == 4), long, x_input))
        y_hat = 9 * torch.nn.functional.one_hot(y, self.task.vocab_size).float()
        return Step(y_hat, torch.zeros(len(y)), State(taken, state.z))


@pytest.mark.parametrize(
    ("views", "max_steps", "steps", "answer"),
    [
        (1, 9, 2, "S Gooo###"),  # the first that is valid
        (2, 9, 4, "SoG   ###"),  # the other view has its first: this one had the short way before
        (2, 3, 3, "SoG   ###"),  # the other view has none yet
        (2, 1, 1, "S G   ###"),
    ],
)
def test_each_trajectory_keeps_its_best_answer_until_all_have_one(views, max_steps, steps, answer):
    task, trained = Maze(3), Trained(loss="softmax")
    compute = Compute(max_steps, views=views, stop="all_valid", select="cost")
    maze, path = task.encode("S G   ###"), task.encode("SoG   ###")
    (solution,) = Solver(Wanderer(task), task, compute, trained).solve("S G   ###")
    assert (solution.answer, solution.steps) == (answer, steps)
    puzzles = PuzzleSet(maze[None], path[None], np.zeros(1, dtype=np.int64))
    record = record_evaluation(Wanderer(task), task, puzzles, compute, trained)
    found = record.outcome()
    assert found.hits["optimal"].item() == (answer == "SoG   ###")
    assert found.steps.item() == steps * views
    with pytest.raises(AssertionError, match="kept"):
        replace(record, compute=Compute(9, views=views)).outcome(stop="all_valid")
