"""The page's code answers as Python does, and decides and judges as it does."""

import numpy as np
import pytest
import torch

from trm.inference.search import Search, Searching, Sought
from trm.inference.solver import Solver
from trm.models.recursion import State
from trm.support import counter_rng
from trm.tasks import Maze, Sudoku


def assert_equal_answers(call, puzzles: list[str], search: bool) -> None:
    solver = Solver.load("sudoku", **({} if search else {"search": None}))
    mine = solver.solve(puzzles)
    theirs = call("solve", game="sudoku", side=9, puzzles=puzzles, options={"search": search})
    for one, other in zip(mine, theirs, strict=True):
        searched = {"guesses": one.guesses, "restarts": one.restarts}
        answer = {"answer": one.answer, "valid": one.valid, "steps": one.steps}
        assert other == answer | searched, "was the page built from other weights?"


def generated(seed: int, clues: int | None, number: int) -> list[str]:
    task = Sudoku()
    return [task.decode(puzzle) for puzzle in task.generator(seed, clues)(number)[0]]


@pytest.mark.parametrize("search", [False, True])
def test_answers_are_equal(call, search):
    assert_equal_answers(call, generated(2, 28, 1) + generated(3, 36, 2), search)


@pytest.mark.slow
def test_two_hundred_answers_are_equal(call):
    puzzles = [text for clues in range(26, 41) for text in generated(1, clues, 14)]
    assert_equal_answers(call, puzzles[:200], search=False)


@pytest.mark.slow
def test_twenty_answers_are_equal_with_a_search(call):
    assert_equal_answers(call, generated(5, None, 20), search=True)


def test_mazes_are_answered_alike(call):
    task = Maze(10)
    puzzles = task.generator(1, min_path=15)(6)[0]
    theirs = call(
        "solve",
        game="maze",
        side=10,
        puzzles=[by_rows(task, puzzle) for puzzle in puzzles],
        options={},
    )
    for one, other in zip(Solver.load("maze").solve_tokens(list(puzzles)), theirs, strict=True):
        assert other["answer"] == by_rows(task, task.encode(one.answer))
        assert (other["valid"], other["steps"]) == (one.valid, one.steps)


def by_rows(task: Maze, tokens: np.ndarray) -> str:
    text = task.decode(tokens).replace(" ", ".")
    return "\n".join(text[i : i + task.side] for i in range(0, task.cells, task.side))


def test_random_numbers_are_the_same_bits(call):
    for words in ([0], [3, 4, 0, 17], [-1, 2**40]):
        key = counter_rng.key(*words)
        theirs = call("random", words=words, count=9)
        assert theirs["key"] == str(key.item())
        assert theirs["draws"] == [str(draw) for draw in counter_rng.draws(key, 9).tolist()]


def test_start_0_is_pythons_and_others_are_the_normals_of_their_key(call):
    solver = Solver.load("sudoku")
    for side in (6, 9):
        start = solver.of_size(side**2).model.initial_state(1).y.flatten()
        theirs = torch.tensor(call("start", game="sudoku", side=side, seed=0))
        assert theirs.equal(start)
        other = counter_rng.normal(torch.tensor([7]), len(start))[0]
        theirs = torch.tensor(call("start", game="sudoku", side=side, seed=7))
        torch.testing.assert_close(theirs, other, atol=1e-6, rtol=1e-6)  # cosines differ by bits


@pytest.mark.parametrize("seed", range(3))
def test_a_search_decides_alike_on_the_same_probabilities(call, seed):
    task, rounds = Sudoku(2, 3), 60
    question = torch.from_numpy(task.generator(seed, 16)(1)[0]).long()
    generator = torch.Generator().manual_seed(seed)
    logits = 6 * torch.randn(rounds, task.cells, task.vocab_size, generator=generator)
    shares = logits.softmax(-1)
    says = torch.rand(rounds, generator=generator) < 0.3
    theirs = call(
        "decide",
        side=6,
        question=question[0].tolist(),
        rounds=[
            {"state": i, "shares": shares[i].flatten().tolist(), "contradicts": bool(says[i])}
            for i in range(rounds)
        ],
    )
    searching = Searching(Search().for_model(task, 24), task, trajectories=1, seed=0)
    none = torch.zeros(1, dtype=torch.int64)
    sought = Sought(none, question, question, state_of(0), none, none, none)
    decisions = set()
    for i, other in enumerate(theirs):
        sought = Sought(**{**vars(sought), "state": state_of(i)})
        before = sought
        sought = searching.decide(sought, shares[i][None], says[i][None])
        assert sought.x_input[0].tolist() == other["xInput"]
        for name in ("wait", "guesses", "restarts"):
            assert getattr(sought, name).item() == other[name]
        if sought.restarts > before.restarts:
            key = counter_rng.key(0, 4, 0, before.restarts.item()).item() % 2**64
            assert other["state"] == f"state of {key}"
        else:
            assert other["state"] == sought.state.y.item()
        decisions.add(other["decision"])
    assert decisions == {"pin", "guess", "take back", "anew"}


def state_of(number: int) -> State:
    return State(torch.tensor([[float(number)]]), torch.zeros(1, 0))


def test_grids_are_judged_alike(call):
    random = np.random.default_rng(0)
    for task, game in ((Sudoku(2, 2), "sudoku"), (Sudoku(), "sudoku"), (Maze(10), "maze")):
        settings = {"min_path": 12} if game == "maze" else {"clues": None}
        questions, answers = task.generator(0, **settings)(30)
        questions, answers = damaged(random, questions, task), damaged(random, answers, task)
        pairs = [[x.tolist(), y.tolist()] for x, y in zip(questions, answers, strict=True)]
        theirs = call("judge", game=game, side=task.grid_shape[0], grids=pairs)
        x, y = (torch.from_numpy(grids).long() for grids in (questions, answers))
        contradicts = task.contradicts(x).tolist() if game == "sudoku" else [None] * len(x)
        for i, valid in enumerate(task.is_valid(x, y).tolist()):
            refused = task.explain(questions[i]) is not None
            assert theirs[i] == {
                "refused": refused,
                "valid": valid,
                "contradicts": contradicts[i],
            }


def damaged(random: np.random.Generator, grids: np.ndarray, task) -> np.ndarray:
    """Write something else into a cell or two of half of the grids."""
    grids = grids.copy()
    for grid in grids[::2]:
        cells = random.integers(task.cells, size=random.integers(1, 3))
        grid[cells] = random.integers(1, task.vocab_size, size=len(cells))
    return grids


@pytest.mark.parametrize(
    "text",
    [
        "1...|.2..\n---------\n..3.|...4",
        "1 . . .\n. 2 . .\n. . 3 .\n. . . 4\n",
        "1000020000300004",
        "1___,_2__,__3_,___4",
    ],
)
def test_grids_are_read_as_people_write_them(call, text):
    task = Sudoku(2, 2)
    expected = task.encode("1....2....3....4").tolist()
    assert call("read", game="sudoku", side=4, text=text) == expected
