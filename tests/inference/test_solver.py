import io
import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import trm
from tests.conftest import tiny_model
from trm import solve
from trm.checkpoints.opening import shipped
from trm.inference.compute import Compute
from trm.inference.solution import Solution
from trm.inference.solver import Solver
from trm.models import RecursiveModel, State, Step, SymmetricModel
from trm.models.recursion import Trained
from trm.support.errors import InputError
from trm.tasks import Arc, Sudoku

SOLVED = "1234341221434321"
PUZZLE = "1...34....43...1"


class Slow(RecursiveModel):
    """Answers with the solution from the step on that the first cell's clue names."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x_input, puzzle_id, state):
        taken = state.y[:, 0, 0] + 1
        solution = torch.from_numpy(Sudoku(2, 2).encode(SOLVED)).long()
        guess = torch.where(taken[:, None] >= x_input[:, :1] - 1, solution, 2)
        y_hat = 9 * torch.nn.functional.one_hot(guess, 6).float() * self.scale
        moved = State(taken.view(-1, 1, 1).expand_as(state.y), state.z)
        return Step(y_hat, torch.where(taken > 5, 1.0, -1.0), moved)

    def initial_state(self, batch_size, generator=None):
        return State(torch.zeros(batch_size, 1, 1), torch.zeros(batch_size, 1, 1))


def test_solved_puzzles_leave_and_their_answers_are_checked():
    solver = Solver(Slow(), Sudoku(2, 2), batch_size=2)
    early, late = solver.solve(["1..............1", ".2.............1"])
    assert (early.answer, early.valid, early.steps) == (SOLVED, True, 1)
    assert late.valid
    assert late.problem is None
    (one,) = solver.solve(PUZZLE)
    assert one.answer == SOLVED
    assert 0 < one.confidence <= 1


def test_an_answer_that_breaks_the_rules_is_not_called_solved():
    solver = Solver(Slow(), Sudoku(2, 2), Compute(max_steps=3))
    (solution,) = solver.solve("4...............")
    assert solution.failed
    assert solution.valid is False
    assert solution.problem.startswith("not solved: row 1 column 1 is 4 in the puzzle but")


def test_contradictions_are_unsolvable_and_complete_puzzles_their_own_answers():
    solver = Solver(Slow(), Sudoku(2, 2))
    wrong, complete = solver.solve(["11..............", SOLVED])
    assert (wrong.answer, wrong.valid, wrong.steps) == (None, False, 0)
    assert wrong.problem == "unsolvable: row 1 holds the digit 1 twice"
    assert (complete.answer, complete.valid, complete.problem) == (SOLVED, True, "already solved")


def test_tokens_and_text_are_the_same_puzzle():
    solver = Solver(Slow(), Sudoku(2, 2))
    (one,), (other,) = solver.solve(PUZZLE), solver.solve(Sudoku(2, 2).encode(PUZZLE)[None])
    assert (one.answer, one.steps) == (other.answer, other.steps)


@pytest.mark.parametrize("text", ["", "1" * 15, "!" * 16, "5" * 16, "12\n34\n43"])
def test_what_is_no_puzzle_is_refused(text):
    with pytest.raises(InputError, match=r"sudoku_4x4"):
        Solver(Slow(), Sudoku(2, 2)).solve(text)


@pytest.mark.parametrize("shape", [(16,), (4, 4), (1, 16), (1, 4, 4)])
@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_arrays_and_tensors_of_tokens_may_have_the_shape_of_the_grid(shape, kind):
    task = Sudoku(2, 2)
    tokens = kind(task.encode(PUZZLE).astype(np.int64)).reshape(shape)
    (solution,) = Solver(Slow(), task).solve(tokens)
    assert solution.answer == SOLVED


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.full((4, 4), -1), "row 1 column 1 holds token -1; .* knows 1 ... 5"),
        (np.full(16, 300), "holds token 300"),
        (np.full(16, 0.5), "of float64"),
        (np.array([int(digit) for digit in SOLVED]), "may hold the digits of a whole"),
    ],
)
def test_an_array_that_holds_no_puzzle_is_refused(tokens, message):
    with pytest.raises(InputError, match=message):
        Solver(Slow(), Sudoku(2, 2)).solve(tokens)


def test_a_bad_puzzle_of_a_list_does_not_discard_the_others():
    solver = Solver(Slow(), Sudoku(2, 2))
    solutions = solver.solve([PUZZLE, "12", None, np.ones(36, dtype=int), PUZZLE])
    assert [solution.answer for solution in solutions] == [SOLVED, None, None, None, SOLVED]
    said = [solution.problem for solution in solutions]
    assert said[1] == "not read: sudoku_4x4 puzzle has 2 symbols; a 4x4 grid needs exactly 16"
    assert "of object" in said[2]
    assert "shape (36,) of int64; sudoku_4x4 takes text, or 16 whole tokens" in said[3]


def test_digits_with_zeros_are_read_as_digits():
    solver = Solver(Slow(), Sudoku(2, 2))
    digits = np.array([int(symbol) for symbol in PUZZLE.replace(".", "0")])
    for given in (digits, digits.reshape(4, 4), torch.tensor(digits)[None]):
        (solution,) = solver.solve(given)
        assert solution.puzzle == PUZZLE


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rolouts": 3}, "compute.rolouts is not an argument of Compute; did you mean rollouts?"),
        ({"rollouts": "3"}, "compute.rollouts='3' must be of type int"),
        ({"compute": Compute(), "rollouts": 3}, "rollouts=... changes compute, which is given"),
        ({"task": Sudoku(3, 3)}, "the model has seq_len=16, sudoku_9x9 needs 81"),
        ({"device": "cuda:99"}, "device=cuda:99 cannot be used"),
    ],
)
def test_what_a_solver_cannot_be_is_refused(settings, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Solver.load("sudoku-4x4", **settings)


def test_a_task_without_rules_is_not_checked():
    model = tiny_model(vocab_size=12, seq_len=900, n=1, T=1)
    (solution,) = Solver(model, Arc()).solve(np.zeros((1, 900), dtype=np.uint8))
    assert solution.valid is None
    assert not solution.failed


def test_identifiers_that_the_model_does_not_have_are_refused():
    model = tiny_model(prefix_len=1, identifiers=3)
    solver = Solver(model, Sudoku(2, 2), Compute(max_steps=1))
    assert len(solver.solve([PUZZLE, PUZZLE], puzzle_id=[0, 2])) == 2
    for wrong in (3, -1):
        with pytest.raises(InputError, match=r"is none of the model's, 0 \.\.\. 2"):
            solver.solve(PUZZLE, puzzle_id=wrong)
    with pytest.raises(InputError, match="2 identifiers for 1 puzzles"):
        solver.solve(PUZZLE, puzzle_id=[0, 1])


@pytest.fixture
def folder(tmp_path):
    trm.save(tiny_model(), tmp_path / "model", Sudoku(2, 2))
    return str(tmp_path / "model")


def test_one_bad_line_does_not_stop_the_others(folder, tmp_path, capsys):
    lines = [SOLVED, "12", "!" * 16, "11" + "." * 14, "", SOLVED]
    (tmp_path / "puzzles.txt").write_text("\n".join(lines))
    assert solve.main([folder, "--file", str(tmp_path / "puzzles.txt"), "--json"]) == 1
    out, err = capsys.readouterr()
    solutions = [json.loads(line) for line in out.splitlines()]
    assert [one["valid"] for one in solutions] == [True, None, None, False, True]
    assert solutions[1]["problem"].startswith("line 2: sudoku_4x4 puzzle has 2 symbols")
    assert "line 3: row 1 column 1 holds '!'" in solutions[2]["problem"]
    assert "2 of 5 puzzles answered" in err


def test_exit_status_and_words(folder, tmp_path, capsys):
    assert solve.main([folder, SOLVED]) == 0
    assert "already solved" in capsys.readouterr().out
    assert solve.main([folder, "1"]) == 2
    assert "1 symbols" in capsys.readouterr().err
    assert solve.main([folder, ""]) == 2, "an empty argument is no puzzle"
    assert solve.main([folder, "1", SOLVED]) == 1
    assert solve.main([str(tmp_path / "none"), SOLVED]) == 2
    assert solve.main([folder, SOLVED, "--rollouts", "0"]) == 2
    assert "rollouts=0" in capsys.readouterr().err
    assert solve.main([folder, "--seed", "1", SOLVED]) == 0, "flags before the puzzle"
    with pytest.raises(SystemExit, match="2"):
        solve.main([folder])


def test_an_answer_with_symbols_that_no_puzzle_has_is_shown(tmp_path, capsys):
    model = tiny_model()
    with torch.no_grad():
        model.answer_head.weight.zero_()  # all tokens are equal, and PAD is the first
    trm.save(model, tmp_path / "weak", Sudoku(2, 2))
    assert solve.main([str(tmp_path / "weak"), PUZZLE]) == 1
    assert "not solved" in capsys.readouterr().out


def test_a_name_that_is_no_model_is_answered_with_those_there_are(capsys):
    assert solve.main(["sudoku-99x99", SOLVED]) == 2
    names = "maze, maze-10x10, maze-laptop, sudoku, sudoku-4x4, sudoku-6x6, sudoku-laptop"
    assert f"come with trm: {names}" in capsys.readouterr().err


def test_a_pipe_is_read_line_by_line(folder, monkeypatch, capsys):
    raw = io.BufferedReader(io.BytesIO(f"{SOLVED}\n{SOLVED}\r\n".encode()))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw))
    assert solve.main([folder, "-"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{SOLVED}\talready solved"] * 2


@pytest.mark.parametrize("name", shipped())
def test_shipped_models_solve_a_puzzle_of_their_task(name):
    solver = Solver.load(name)
    settings = {"min_path": 12, "walls": 0.5} if name.startswith("maze") else {}
    x_input, _ = solver.task.generator(99, **settings)(20)
    solutions = solver.solve(x_input)
    assert sum(one.valid is True for one in solutions) >= 18


def test_the_command_imports_neither_lightning_nor_hydra(folder):
    code = f"from trm import solve; import sys; solve.main([{folder!r}, {SOLVED!r}])"
    code += "; print(*sys.modules)"
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    loaded = set(out.splitlines()[-1].split())
    assert "torch" in loaded
    assert not loaded & {"lightning", "hydra", "omegaconf", "wandb", "matplotlib"}


def test_one_model_answers_puzzles_of_all_sizes_in_their_order():
    torch.manual_seed(0)
    task = Sudoku(3, 3)
    structure = {name: task.structure[name] for name in ("vocab_size", "grid_shape", "boxes")}
    model = SymmetricModel(**structure, dim=8, hidden=8)
    solver = Solver(model, task, Compute(max_steps=2), Trained(loss="softmax"))
    puzzles = ["1...34....43...1", "." * 81, "." * 36, "2" + "." * 15, "." * 256]
    solutions = solver.solve(puzzles)
    assert [solution.puzzle for solution in solutions] == puzzles
    assert all(len(solution.answer) == len(solution.puzzle) for solution in solutions)
    assert [solver.solve(puzzle)[0].answer for puzzle in puzzles] == [
        solution.answer for solution in solutions
    ]
    (array,) = solver.solve(np.full((4, 4), 1))
    assert array.puzzle == "." * 16
    for text in ("." * 80, "." * 25):
        with pytest.raises(InputError, match="needs exactly"):
            solver.solve(text)
    with pytest.raises(InputError, match=r"row 1 column 1 holds '5'"):
        solver.solve("5" + "." * 15)


def test_solvers_and_tasks_say_what_they_are():
    solver = Solver(tiny_model(), Sudoku(2, 2), Compute(max_steps=3))
    assert repr(Sudoku(2, 3)) == "Sudoku(box_rows=2, box_cols=3)"
    said = repr(solver)
    assert said.startswith("Solver(TinyRecursiveModel with ")
    assert "for sudoku_4x4, Compute(max_steps=3" in said


@pytest.mark.parametrize("puzzles", [None, {"a": 1}, 4])
def test_what_is_neither_text_nor_array_is_refused(puzzles):
    with pytest.raises(InputError, match="is no puzzle; give a text, an array, or a list of them"):
        Solver(tiny_model(), Sudoku(2, 2)).solve(puzzles)


SOLVED = "1234341221434321"


def tables(html):
    """The words that stand around tables, and the symbols within each."""
    root = ElementTree.fromstring(f"<div>{html}</div>")
    drawn = ["".join(table.itertext()) for table in root.iter("table")]
    return " ".join(root.itertext()), drawn


def test_a_notebook_draws_solutions_and_says_what_is_known_of_them():
    solver = Solver(tiny_model(), Sudoku(2, 2), Compute(max_steps=2))
    found = solver.solve(["1" + "." * 15, SOLVED, "11" + "." * 14, "<b>"])
    assert isinstance(found, list)
    for solution in found[:3]:
        words, (drawn,) = tables(solution._repr_html_())
        assert drawn == re.sub("[.?]", "", solution.answer or solution.puzzle)
        assert solution.verdict() in words
    words, drawn = tables(found[3]._repr_html_())
    assert "<b> not read: " in words
    assert drawn == []
    assert len(tables(found._repr_html_())[1]) == 3
    assert "2 more" in tables(solver.solve([SOLVED] * 12)._repr_html_())[0]


def test_a_solution_knows_its_task_and_its_fields_are_plain():
    (found,) = Solver(tiny_model(), Sudoku(2, 2), Compute(max_steps=1)).solve("1" + "." * 15)
    assert "task" not in asdict(found)
    assert tables(replace(found, time_s=1.0)._repr_html_())[1]
    assert replace(found, puzzle=SOLVED) == Solution(**asdict(found) | {"puzzle": SOLVED})


def test_where_nothing_is_given_puzzle_and_answer_are_drawn():
    model = tiny_model(vocab_size=12, seq_len=900, n=1, T=1)
    (found,) = Solver(model, Arc(), Compute(max_steps=1)).solve("[[1, 2]]")
    words, drawn = tables(found._repr_html_())
    assert len(drawn) == 2
    assert "not checked: no rules; 1 step" in words


def test_a_trajectory_ends_with_the_first_valid_answer_and_draws_at_most_twelve_grids():
    solver = Solver.load("sudoku-4x4")
    story = solver.trajectory("1...34....43...1")
    (solution,) = solver.solve("1...34....43...1")
    assert solver.task.decode(story.answers[-1]) == solution.answer
    assert len(story.answers) == solution.steps
    assert story.title(len(story.answers) - 1).startswith(f"step {solution.steps}: solved\n")
    words, drawn = tables(story._repr_html_())
    assert len(drawn) == 1 + solution.steps
    assert "says solved: " in words
    never = Solver(tiny_model(), Sudoku(2, 2)).trajectory("." * 16, steps=40)
    assert never.y_true is None
    assert len(never.answers) == 40
    assert len(tables(never._repr_html_())[1]) <= 12
    with pytest.raises(InputError, match="steps=0 must be at least 1"):
        solver.trajectory("." * 16, steps=0)
