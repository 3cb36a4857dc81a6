"""Search: what is pinned, what is taken back, and that it only adds to the plain trajectory."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from trm.data.generated import generated
from trm.inference.compute import Compute
from trm.inference.rollouts import rollout
from trm.inference.search import Search, Searching, Sought, cell_to_guess
from trm.inference.solver import Solver, default_compute
from trm.models.recursion import RecursiveModel, State, Step, Trained
from trm.support.batched import Batched
from trm.support.errors import InputError
from trm.tasks.maze import Maze
from trm.tasks.sudoku import Sudoku

TASK = Sudoku(2, 3)
TRAINED = Trained(N_sup=4, loss="softmax")
PUZZLES = generated(TASK, train=40, val=40, test=40).splits["test"]


@dataclass(frozen=True)
class Thought(Batched):
    noise: Tensor


class Guesser(RecursiveModel):
    """Knows what the rules forbid at once and nothing more: it must guess, and errs.

    Args:
        says_contradiction: whether it has a head for it
    """

    def __init__(self, says_contradiction: bool = False) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.says_contradiction = says_contradiction
        self.seen: list[Tensor] = []

    def initial_state(self, batch_size: int, generator: Any = None) -> State:
        noise = torch.zeros(batch_size, 3) if generator is None else torch.rand(batch_size, 3)
        return State(noise, noise)

    def forward(self, x_input: Tensor, puzzle_id: Tensor, state: State) -> Step:
        self.seen.append(x_input.clone())
        digits = torch.arange(2, TASK.vocab_size)
        here = x_input[:, :, None] == digits
        taken = here[:, torch.from_numpy(TASK.units)].any(2)  # (batch, units, digits)
        free = ~taken[:, torch.from_numpy(TASK.units_of_cell)].any(2) & (x_input == 1)[..., None]
        likely = torch.where(here, 30.0, torch.where(free, 0.0, -30.0))
        y_hat = torch.nn.functional.pad(likely, (2, 0), value=-40.0)
        dead = TASK.contradicts(x_input).float() * 2 - 1
        q = torch.full((len(x_input),), -1.0)
        return Step(y_hat, q, state, None, dead if self.says_contradiction else None)


def search(**settings: Any) -> Compute:
    return default_compute(TASK, 4, **{"search": Search(think=2, every=1), **settings})


def sought(*puzzles: list[int]) -> Sought:
    x_input, none = torch.tensor(puzzles), torch.zeros(len(puzzles), dtype=torch.int64)
    thoughts = Thought(torch.arange(float(len(puzzles)))[:, None])
    return Sought(torch.arange(len(puzzles)), x_input, x_input, thoughts, none, none, none)


class Row(Sudoku):
    """Four cells that must differ."""

    def __init__(self) -> None:
        super().__init__(2, 2)

    def contradicts(self, x_input: Tensor) -> Tensor:
        written = [row[row > 1].tolist() for row in x_input]
        return torch.tensor([len({*row}) < len(row) for row in written])


def test_what_is_sure_is_pinned_at_once() -> None:
    likely = torch.full((1, 4, 6), 0.01)
    likely[0, 0, 5] = likely[0, 3, 2] = 0.99
    decided = Searching(Search(think=8, every=3), Row(), 1, 0).decide(
        sought([1, 1, 3, 1]), likely, None
    )
    assert decided.x_input.tolist() == [[5, 1, 3, 2]]
    assert (decided.wait.tolist(), decided.guesses.tolist()) == ([3], [0])


def test_after_each_fresh_start_less_is_certain() -> None:
    """What is wrong once in fifty is pinned at first, in two hundred after a fresh start."""
    likely = torch.zeros(1, 4, 6)
    likely[0, :, 2:4] = torch.tensor([0.99, 0.01])
    likely[0, 1, 2:4] = torch.tensor([0.996, 0.004])
    searching = Searching(Search(think=8, every=3), Row(), 1, 0)
    first = sought([1, 1, 1, 1])
    assert searching.decide(first, likely, None).x_input.tolist() == [[2, 2, 2, 2]]
    again = replace(first, restarts=first.restarts + 1)
    assert searching.decide(again, likely, None).x_input.tolist() == [[1, 2, 1, 1]]
    later = searching.decide(replace(first, restarts=first.restarts + 9), likely, None)
    assert (later.x_input > 1).sum() == 1, "a guess"
    later = searching.decide(later, likely, torch.tensor([True]))
    assert later.x_input[0, 0] == 3, "and the other symbol, of one in a hundred, is tried as well"


def test_the_least_decided_of_two_symbols_is_guessed() -> None:
    likely = torch.tensor([[0.7, 0.299, 0.001], [0.52, 0.479, 0.001], [0.5, 0.25, 0.25]])
    is_open = torch.tensor([True, True, True])
    assert cell_to_guess(is_open, likely) == 1
    assert cell_to_guess(torch.tensor([True, False, True]), likely) == 0
    likely = torch.tensor([[0.4, 0.3, 0.3], [0.5, 0.3, 0.2], [0.6, 0.1, 0.3]])
    assert cell_to_guess(is_open, likely) == 2, "none has two: the two likeliest have most"


def test_a_guess_is_taken_back_with_all_that_came_after_it() -> None:
    """The tree of one puzzle, node by node: guess, guess within it, back, back, and anew."""
    searching, none = Searching(Search(think=9, every=2), Row(), 1, 0), None
    open_ended = torch.tensor([[[0, 0, 0.6, 0.39, 0, 0.01]] * 4])
    here = searching.decide(sought([1, 1, 1, 1]), open_ended, none)
    assert (here.x_input.tolist(), here.wait.tolist()) == ([[2, 1, 1, 1]], [4])
    thinking = replace(here, state=Thought(torch.full((1, 1), 7.0)))
    inner = torch.tensor([[[0, 0, 0, 0, 0.5, 0.5]] * 4])
    here = searching.decide(thinking, inner, none)
    assert here.x_input.tolist() == [[2, 4, 1, 1]]

    dead = torch.tensor([True])
    here = searching.decide(here, open_ended, dead)
    assert here.x_input.tolist() == [[2, 5, 1, 1]], "the other symbol of the last guess"
    assert here.state.noise.item() == 7, "from the state in which it was guessed"
    here = searching.decide(here, open_ended, dead)
    assert here.x_input.tolist() == [[3, 1, 1, 1]], "the other symbol of the first guess"
    assert here.state.noise.item() == 0
    assert (here.guesses.tolist(), here.restarts.tolist()) == ([4], [0])
    here = searching.decide(here, open_ended, dead)
    assert here.x_input.equal(here.question), "nothing is left to change"
    assert (here.wait.tolist(), here.guesses.tolist(), here.restarts.tolist()) == ([3], [4], [1])
    assert here.state.noise.item() not in (0, 7)


def test_each_search_takes_back_its_own_guesses() -> None:
    searching = Searching(Search(think=9, every=2), Row(), 1, 0)
    likely = torch.tensor([[[0, 0, 0.6, 0.39, 0, 0.01]] * 4, [[0, 0, 0, 0, 0.7, 0.3]] * 4])
    here = searching.decide(sought([1, 1, 1, 1], [1, 1, 1, 1]), likely, None)
    assert here.x_input[:, 0].tolist() == [2, 4]
    here = searching.decide(here, likely, torch.tensor([True, True]))
    assert here.x_input[:, 0].tolist() == [3, 5]
    searching.forget([0])
    here = searching.decide(here, likely, torch.tensor([True, True]))
    assert here.restarts.tolist() == [1, 1]


def test_a_full_grid_that_is_no_answer_is_taken_back() -> None:
    searching = Searching(Search(think=9, every=2), Row(), 1, 0)
    here = searching.decide(sought([2, 3, 4, 5]), torch.full((1, 4, 6), 0.2), None)
    assert here.restarts.tolist() == [1]


@pytest.mark.parametrize("says_contradiction", [False, True])
def test_guesses_become_answers(says_contradiction: bool) -> None:
    """Without search hardly a puzzle ends; with it all do, whatever is known of contradictions."""
    model = Guesser(says_contradiction)
    texts = [TASK.decode(x) for x in PUZZLES.x_input]
    plain = Solver(model, TASK, search(search=None, max_steps=600), TRAINED).solve(texts)
    found = Solver(model, TASK, search(max_steps=600), TRAINED).solve(texts)
    assert sum(bool(s.valid) for s in plain) < 30
    assert all(s.valid for s in found)
    labels = [TASK.decode(y) for y in PUZZLES.y_true]
    assert [s.answer for s in found] == labels, "the puzzles have one solution"
    assert max(s.guesses for s in found) > 2
    assert max(s.pins for s in found) > 3
    for before, after in zip(plain, found, strict=True):
        if before.valid:
            assert (after.steps, after.pins, after.guesses) == (before.steps, 0, 0)


@pytest.mark.parametrize("says_contradiction", [False, True])
def test_a_puzzle_without_an_answer_ends_when_its_search_has_failed(
    says_contradiction: bool,
) -> None:
    """Row 1 lacks 5 and 6, column 5 has the 5 and box 2 the 6: no rule is broken yet."""
    puzzle = "1234.." + "...6.." + "......" + "....5." + "......" * 2
    model = Guesser(says_contradiction)
    (solution,) = Solver(model, TASK, search(max_steps=4000, rollouts=2), TRAINED).solve(puzzle)
    assert (solution.answer, solution.valid) == (None, False)
    assert solution.problem == "unsolvable: no answer keeps what is given and the rules"
    assert solution.steps < 4000
    assert len(model.seen) == solution.steps
    plain = Solver(model, TASK, search(search=None, max_steps=20), TRAINED).solve(puzzle)
    assert (plain[0].problem, plain[0].steps) == (solution.problem, 20), "said of it all the same"


def test_a_search_goes_on_where_nobody_knows_whether_there_is_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    puzzle = "1234.." + "...6.." + "......" + "....5." + "......" * 2
    monkeypatch.setattr(Sudoku, "has_answer", lambda self, x_input: None)
    (solution,) = Solver(Guesser(), TASK, search(max_steps=400), TRAINED).solve(puzzle)
    assert solution.steps == 400
    assert solution.restarts > 0
    assert solution.problem is not None
    assert solution.problem.startswith("not solved: ")


def test_what_is_given_is_never_written_over() -> None:
    model = Guesser()
    x_input = torch.from_numpy(PUZZLES.x_input)
    compute = search(max_steps=60, rollouts=2)
    most = 0
    for step in rollout(model, TASK, x_input, torch.zeros(40).long(), compute, TRAINED, 16):
        shown = model.seen[-1].view(*step.pins.shape, -1)
        question = x_input[step.index].long()[:, None]
        assert ((question == 1) | (shown == question)).all()
        assert (shown != question).sum(-1).equal(step.pins)
        most = max(most, int(step.guesses.max()))
    assert most > 2


def test_what_comes_of_a_puzzle_depends_on_no_other() -> None:
    model = Guesser()
    texts = [TASK.decode(x) for x in PUZZLES.x_input[:8]]
    solver = Solver(model, TASK, search(max_steps=80, rollouts=2), TRAINED, batch_size=6)
    together = solver.solve(texts)
    alone = [solver.solve(text)[0] for text in texts]
    for a, b in zip(together, alone, strict=True):
        assert (a.answer, a.steps, a.pins, a.guesses) == (b.answer, b.steps, b.pins, b.guesses)


def test_searches_that_cannot_be() -> None:
    with pytest.raises(InputError, match="maze_6x6 has no such cells"):
        Compute(search=Search()).for_model(Maze(6), Guesser(), 4)
    with pytest.raises(InputError, match="think=0"):
        Search(think=0)
    with pytest.raises(InputError, match="sure=2"):
        Search(sure=2)
    assert default_compute(Maze(6), 4).search is None
    assert Compute(search=Search()).for_model(TASK, Guesser(), 24).search == Search(24, 2)
