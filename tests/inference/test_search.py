"""Search: what is pinned, what is taken back, and that it only adds to the plain trajectory."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from trm.data.generated import generated
from trm.inference.compute import Compute
from trm.inference.rollouts import rollout
from trm.inference.search import Search
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


def test_pins_what_is_sure_and_else_one_cell() -> None:
    x_input = torch.tensor([[1, 1, 3, 1]]).expand(3, 4)
    likely = torch.full((3, 4, 6), 0.01)
    likely[0, 0, 5] = likely[0, 3, 2] = 0.99  # two sure cells
    likely[1, 3, 4] = likely[1, 3, 2] = 0.45  # none: the surest is the last
    likely[2, 0, 5] = 0.99  # sure, but not due
    is_due = torch.tensor([True, True, False])
    drawn = set()
    for key in range(40):
        keys = torch.full((3,), key)
        pinned = Search(sure=0.98).pins(x_input, likely, is_due, 1, keys)
        assert pinned[0].tolist() == [5, 1, 3, 2]
        assert pinned[1, :3].tolist() == [1, 1, 3]
        assert pinned[2].equal(x_input[2])
        drawn.add(int(pinned[1, 3]))
    assert {2, 4} <= drawn <= {2, 3, 4, 5}, "a digit is drawn by its probability"


def test_pins_only_when_due() -> None:
    steps, search = torch.arange(12), Search(think=6, every=3)
    for restarts, due in ((0, [6, 9]), (1, [2, 5, 8, 11])):
        marked = search.is_due(steps, torch.full_like(steps, restarts))
        assert marked.nonzero().flatten().tolist() == due


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
    assert max(s.restarts for s in found) > 0
    assert max(s.pins for s in found) > 3
    for before, after in zip(plain, found, strict=True):
        if before.valid:
            assert (after.steps, after.pins, after.restarts) == (before.steps, 0, 0)


def test_every_restart_takes_all_pins_back() -> None:
    model = Guesser()
    x_input = torch.from_numpy(PUZZLES.x_input)
    seen: dict[int, int] = {}
    restarted = 0
    compute = search(max_steps=60, rollouts=2)
    for step in rollout(model, TASK, x_input, torch.zeros(40).long(), compute, TRAINED, 16):
        shown = model.seen[-1].view(*step.pins.shape, -1)
        question = x_input[step.index].long()[:, None]
        kept = (question == 1) | (shown == question)
        assert kept.all(), "what is given is never written over"
        assert (shown != question).sum(-1).equal(step.pins)
        for index, restarts, pins in zip(
            step.index.tolist(), step.restarts[:, 0].tolist(), step.pins[:, 0].tolist(), strict=True
        ):
            if restarts > seen.get(index, 0):
                restarted += 1
                assert pins == 0
            seen[index] = restarts
    assert restarted > 0


def test_what_comes_of_a_puzzle_depends_on_no_other() -> None:
    model = Guesser()
    texts = [TASK.decode(x) for x in PUZZLES.x_input[:8]]
    solver = Solver(model, TASK, search(max_steps=80, rollouts=2), TRAINED, batch_size=6)
    together = solver.solve(texts)
    alone = [solver.solve(text)[0] for text in texts]
    for a, b in zip(together, alone, strict=True):
        assert (a.answer, a.steps, a.pins, a.restarts) == (b.answer, b.steps, b.pins, b.restarts)


def test_searches_that_cannot_be() -> None:
    with pytest.raises(InputError, match="maze_6x6 has no such cells"):
        Compute(search=Search()).for_model(Maze(6), Guesser(), 4)
    with pytest.raises(InputError, match=r"search\.think=0"):
        Search(think=0)
    with pytest.raises(InputError, match=r"search\.sure=2"):
        Search(sure=2)
    assert default_compute(Maze(6), 4).search is None
    assert Compute(search=Search()).for_model(TASK, Guesser(), 24).search == Search(24, 2)
