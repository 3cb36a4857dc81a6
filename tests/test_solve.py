"""The command that solves: answers as puzzles come, a bar, words, and identifiers by name."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import trm
from tests.conftest import tiny_model
from trm import solve
from trm.inference.compute import Compute
from trm.inference.solution import Solution
from trm.inference.solver import Solver
from trm.support.command_line import progress_bar
from trm.support.errors import InputError
from trm.support.streams import as_they_come
from trm.tasks import Sudoku
from trm.tasks.reading import Reader, Reading

SOLVED = "1234341221434321"
WITHIN_S = 120  # on a machine that has other work to do


@pytest.fixture
def folder(tmp_path):
    trm.save(tiny_model(), tmp_path / "model", Sudoku(2, 2))
    return str(tmp_path / "model")


@contextmanager
def piped(*words, called=("trm.solve",)):
    """A command that reads a pipe, and is told to go if it hangs."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", *called, *words, "-"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        late = threading.Timer(WITHIN_S, process.kill)
        late.start()
        try:
            yield process
        finally:
            late.cancel()
            process.kill()


def test_who_writes_a_puzzle_into_a_pipe_gets_its_answer_before_the_next(folder):
    whole, rows = [SOLVED], [SOLVED[i : i + 4] for i in range(0, 16, 4)]
    with piped(folder) as process:
        for lines in (whole, rows, whole):
            process.stdin.write("\n".join(lines) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{SOLVED}\talready solved\n"
        process.stdin.close()
        assert process.wait() == 0
        assert process.stderr.read().startswith("3 of 3 puzzles answered")


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is no signal there")
@pytest.mark.parametrize("called", [("trm.solve",), ("trm", "solve")], ids=" ".join)
def test_ctrl_c_ends_the_waiting_for_a_pipe_at_once_and_without_a_word(called, folder):
    with piped(folder, called=called) as process:
        process.stdin.write(SOLVED + "\n")
        process.stdin.flush()
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr.read() == ""


def read(lines):
    task = Sudoku(2, 2)
    return Reader(task, lambda cells: task if cells == 16 else None).read(lines)


def test_what_is_there_comes_in_full_groups():
    groups = list(as_they_come(read([SOLVED] * 100), 40))
    assert [len(group) for group in groups] == [40, 40, 20]
    assert [group[0].name for group in groups] == ["line 1", "line 41", "line 81"]
    assert list(as_they_come(iter(()), 40)) == []


def test_a_group_does_not_wait_for_puzzles_that_have_not_come():
    more = threading.Event()

    def lines():
        yield from [SOLVED] * 3
        assert more.wait(WITHIN_S)
        yield SOLVED

    groups = as_they_come(read(lines()), 40)
    assert len(next(groups)) == 3
    more.set()
    assert len(next(groups)) == 1


def test_a_slow_stream_of_puzzles_is_not_gathered_for_ever():
    def slow():
        for _ in range(100):
            time.sleep(0.005)
            yield Reading("line 1", SOLVED)

    assert len(next(as_they_come(slow(), 100))) < 100


def test_an_error_of_the_reading_thread_comes_after_what_was_read():
    def lines():
        yield SOLVED
        raise InputError("the disk is gone")

    groups = as_they_come(read(lines()), 40)
    assert len(next(groups)) == 1
    with pytest.raises(InputError, match="the disk is gone"):
        next(groups)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes there")
def test_a_named_pipe_is_answered_as_it_is_written(folder, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-m", "trm.solve", folder, "--file", str(tmp_path / "pipe")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        late = threading.Timer(WITHIN_S, process.kill)
        late.start()
        with open(tmp_path / "pipe", "w") as pipe:
            pipe.write(SOLVED + "\n")
            pipe.flush()
            assert process.stdout.readline() == f"{SOLVED}\talready solved\n"
        assert process.wait() == 0
        late.cancel()


def test_a_file_that_is_given_as_a_puzzle_is_known(folder, tmp_path, capsys):
    (tmp_path / "many.txt").write_text(SOLVED)
    assert solve.main([folder, str(tmp_path / "many.txt")]) == 2
    assert "is a file; --file" in capsys.readouterr().err
    assert solve.main([folder, "." * 900 + "S" * 300]) == 2  # longer than a name of a file may be
    assert "symbols" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(folder, tmp_path, capsys):
    assert solve.main([folder, "--file", str(tmp_path / "none.txt")]) == 2
    assert "none.txt cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "\n\n", "# of the day\n"])
def test_a_file_or_pipe_without_a_puzzle_is_told_so_in_one_line(text, folder, tmp_path, capsys):
    (tmp_path / "none.txt").write_text(text)
    assert solve.main([folder, "--file", str(tmp_path / "none.txt")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path / 'none.txt'} holds no puzzle; ")
    assert said.count("\n") == 1
    with piped(folder) as process:
        process.stdin.write(text)
        process.stdin.close()
        assert process.wait() == 2
        assert process.stderr.read().startswith("error: the pipe holds no puzzle; ")


@pytest.mark.parametrize("dashed", ["-" * 16, "-234341221434321", "-234\n3412\n2143\n4321"])
def test_a_puzzle_may_begin_with_a_dash(dashed, folder, monkeypatch):
    said = []
    monkeypatch.setattr(solve, "_print", lambda task, solution, *_: said.append(solution.puzzle))
    for words in ([folder, dashed], [folder, "--max-steps", "2", dashed, "--seed", "1"]):
        solve.main(words)
    assert said == [dashed.replace("\n", "").replace("-", ".")] * 2


def test_what_is_printed_is_read_again(folder, tmp_path, capsys):
    numbers = {"halting_probability": 1.0, "confidence": 1.0, "steps": 12345, "total_steps": 67890}
    solved = Solution(SOLVED, SOLVED, True, None, **numbers)  # its verdict is a long line
    solve._print(Sudoku(2, 2), solved, False, False)
    (tmp_path / "answers.txt").write_text(2 * capsys.readouterr().out)
    assert solve.main([folder, "--file", str(tmp_path / "answers.txt")]) == 0
    assert "2 of 2 puzzles answered" in capsys.readouterr().err


def test_answers_come_as_they_are_found_and_in_their_places():
    solver = Solver(tiny_model(), Sudoku(2, 2), Compute(max_steps=2))
    tokens = [solver.tokens(text) for text in ("1" + "." * 15, SOLVED)]
    answers = list(solver.answers(tokens))
    assert [place for place, _ in answers] == [1, 0]
    assert [solution.puzzle[1] for _, solution in answers] == ["2", "."]


def test_a_file_streams_its_answers_in_the_order_of_its_lines(folder, tmp_path, monkeypatch):
    lines = [f"{SOLVED}\n"] * 3 + ["12\n"]
    (tmp_path / "puzzles.txt").write_text("".join(lines))
    at_once = []

    def answers(self, tokens, puzzle_id=0):
        for place in reversed(range(len(tokens))):
            yield place, Solution(SOLVED, f"{place}", True)
            at_once.append(place)

    said = []
    monkeypatch.setattr(Solver, "answers", answers)
    monkeypatch.setattr(solve, "_AT_ONCE", 2)
    monkeypatch.setattr(solve, "_print", lambda task, solution, *_: said.append(solution.answer))
    assert solve.main([folder, "--file", str(tmp_path / "puzzles.txt")]) == 1
    assert said == ["0", "1", "0", None]


@pytest.mark.parametrize("on_terminal", [False, True])
def test_a_bar_is_for_terminals_alone(on_terminal, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # which rich takes for a terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: on_terminal)
    with progress_bar("solving", None) as on_done:
        print("answer")
        on_done(7)
    out, err = capsys.readouterr()
    assert out == "answer\n", "what goes into a file is not drawn above the bar"
    assert ("7/?" in err) == on_terminal


def test_a_file_on_a_terminal_has_a_bar_with_its_length(folder, tmp_path, monkeypatch):
    (tmp_path / "puzzles.txt").write_text(f"{SOLVED}\n12\n{SOLVED}\n")
    drawn = []

    @contextmanager
    def bar(title, total, hidden):
        drawn.append((total, hidden))
        yield drawn.append

    monkeypatch.setattr(solve, "progress_bar", bar)
    for on_terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda on_terminal=on_terminal: on_terminal)
        solve.main([folder, "--file", str(tmp_path / "puzzles.txt")])
    assert drawn == [(3, False), 1, 2, 3, (None, True), 1, 2, 3]


def test_only_what_a_search_found_is_said_to_be_found():
    numbers = {"halting_probability": 0.9, "confidence": 0.9, "steps": 40, "pins": 3, "guesses": 2}
    found = Solution(SOLVED, SOLVED, True, None, **numbers)
    failed = Solution(SOLVED, SOLVED, False, "not solved: row 1 holds 1 twice", **numbers)
    search = "a search: 3 cells written, 2 guesses made"
    assert "found by search: 3 cells written, 2 guesses made" in found.verdict()
    assert f"after {search}" in failed.verdict()
    assert "found" not in failed.verdict()


@pytest.fixture
def with_rows(tmp_path):
    trm.save(tiny_model(prefix_len=1, identifiers=3), tmp_path / "rows", Sudoku(2, 2))
    return tmp_path / "rows"


def test_an_identifier_is_given_by_number_or_by_name(with_rows, monkeypatch, capsys):
    given = []
    plain = Solver.identifiers
    monkeypatch.setattr(
        Solver,
        "identifiers",
        lambda self, puzzle_id, puzzles: given.append(puzzle_id) or plain(self, puzzle_id, puzzles),
    )
    (with_rows / "identifiers.json").write_text(json.dumps(["<blank>", "0a1d4ef5", "00576224"]))
    for name, number in {"0a1d4ef5": 1, "00576224": 2, "2": 2, "0": 0}.items():
        given.clear()
        assert solve.main([str(with_rows), SOLVED, "--id", name]) == 0
        assert given[0] == number
    assert solve.main([str(with_rows), SOLVED, "--id", "3"]) == 2
    assert "is none of the model's, 0 ... 2" in capsys.readouterr().err


def test_a_model_of_this_library_knows_its_tasks_by_name(tmp_path, capsys):
    model, manifest = tiny_model(prefix_len=1, identifiers=9), {"first_identifiers": {"4f": 7}}
    trm.save(model, tmp_path / "rows", Sudoku(2, 2), {"manifest": manifest})
    assert solve._identifier("4f", Solver.load(tmp_path / "rows"), tmp_path / "rows") == 7
    assert solve.main([str(tmp_path / "rows"), SOLVED, "--id", "4f"]) == 0


@pytest.mark.parametrize("name", ["0a1d4ef5", "00576224"])
def test_a_name_that_nothing_numbers_is_refused(name, with_rows, folder, capsys):
    assert solve.main([str(with_rows), SOLVED, "--id", name]) == 2
    said = capsys.readouterr().err
    assert f"--id {name} is no task that {with_rows} knows by name; put" in said
    assert said.count("\n") == 1
    (Path(with_rows) / "identifiers.json").write_text("[")
    assert solve.main([str(with_rows), SOLVED, "--id", name]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert solve.main([folder, SOLVED, "--id", name]) == 2
    assert "has no identifiers" in capsys.readouterr().err
