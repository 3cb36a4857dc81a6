"""Puzzles as people write them are read; what may mean two things is refused in words."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from trm.support.errors import InputError
from trm.support.streams import decoded
from trm.tasks.arc import Arc
from trm.tasks.base import Task
from trm.tasks.maze import Maze
from trm.tasks.reading import Reader, Reading
from trm.tasks.sudoku import Sudoku

PUZZLE = "..3.2.6..9..3.5..1..18.64....81.29..7.......8..67.82....26.95..8..2.3..9..5.1.3.."
ANSWER = "483921657967345821251876493548132976729564138136798245372689514814253769695417382"
CELLS = PUZZLE.replace(".", "0")
GRID = [[int(cell) for cell in CELLS[i : i + 9]] for i in range(0, 81, 9)]
ROWS = [PUZZLE[i : i + 9] for i in range(0, 81, 9)]
SMALL = "4....2.1.6.........3..5..4....5.21.."
MAZE = ["# S#", "   #", " ## ", "G   "]


def reader(task: Task, any_size: bool = True) -> Reader:
    return Reader(task, task.of_size if any_size else lambda n: task if n == task.cells else None)


def found(text: str, task: Task | None = None, any_size: bool = True) -> list[Reading]:
    return list(reader(task or Sudoku(3, 3), any_size).read(io.StringIO(text)))


def texts(readings: list[Reading]) -> list[str]:
    return [
        each.task.decode(each.tokens) if each.task else f"! {each.problem}" for each in readings
    ]


ONE = {
    "a line": PUZZLE,
    "zeros": PUZZLE.replace(".", "0"),
    "stars": PUZZLE.replace(".", "*"),
    "dashes": PUZZLE.replace(".", "-"),
    "spaces": PUZZLE.replace(".", " "),
    "small x": PUZZLE.replace(".", "x"),
    "question marks": PUZZLE.replace(".", "?"),
    "spaces at the ends": f"  {PUZZLE} ",
    "quotes": f'"{PUZZLE}"',
    "a comment behind": f"{PUZZLE} # easy",
    "a number behind": f"{PUZZLE}\t0.5",
    "comments around": f"# of the day\n\n{PUZZLE}\n# end\n",
    "nine lines": "\n".join(ROWS),
    "nine lines with CRLF": "\r\n".join(ROWS) + "\r\n",
    "headers": "#AMe\n#LEasy\n[Puzzle]\n" + "\n".join(ROWS),
    "bars and rulers": "\n".join(
        f"{row[:3]}|{row[3:6]}|{row[6:]}" + ("\n---+---+---" if i in (2, 5) else "")
        for i, row in enumerate(ROWS)
    ),
    "a frame": "\n".join(
        ["+---+---+---+"]
        + [f"|{row[:3]}|{row[3:6]}|{row[6:]}|" for row in ROWS]
        + ["+---+---+---+"]
    ),
    "spaced digits": "\n".join(" ".join(row.replace(".", "_")) for row in ROWS),
    "commas": "\n".join(",".join(row.replace(".", "0")) for row in ROWS),
    "a list of a solver": f"{PUZZLE}:1:{ANSWER}",
    "CSV": f"source,question,answer,rating\nme,{PUZZLE},{ANSWER},3",
    "CSV with other names": f"quizzes,solutions\n{PUZZLE.replace('.', '0')},{ANSWER}",
    "CSV in quotes": f'id;puzzle\n1;"{PUZZLE}"',
    "middle dots": PUZZLE.replace(".", "·"),
    "squares": PUZZLE.replace(".", "□"),
    "spaced cells in a line": " ".join(CELLS),
    "spaces that do not break": "\u00a0".join(CELLS),
    "cells with commas in a line": ",".join(PUZZLE),
    "empty cells in a line": ",".join(PUZZLE).replace(".", ""),
    "rows with strokes": "/".join(ROWS),
    "rows with strokes and spaces": " / ".join(" ".join(row) for row in ROWS),
    "rows with semicolons": ";".join(ROWS),
    "rows with commas": ",".join(ROWS),
    "its solution behind a bar": f"{PUZZLE}|{ANSWER}",
    "a spreadsheet": "\n".join(",".join(row).replace(".", "") for row in ROWS),
    "a spreadsheet with tabs": "\n".join("\t".join(row).replace(".", "") for row in ROWS),
    "a numbered grid": "Grid 01\n" + "\n".join(row.replace(".", "0") for row in ROWS),
    "a JSON list": json.dumps([PUZZLE]),
    "a JSON grid": json.dumps(GRID),
    "a JSON grid of some lines": json.dumps(GRID, indent=1),
    "JSON with nulls": json.dumps([[cell or None for cell in row] for row in GRID]),
    "a grid in a JSON object": json.dumps({"puzzle": GRID, "solution": ANSWER}),
    "cells in a JSON object": json.dumps({"puzzle": [*map(int, CELLS)]}),
    "a list in a JSON object": json.dumps({"puzzles": [PUZZLE], "solutions": [ANSWER]}, indent=2),
    "rows in JSON": json.dumps(ROWS),
    "JSON around JSON": json.dumps({"id": "x", "data": [{"Puzzle": PUZZLE}]}),
    "JSON": f'{{"solution": "{ANSWER}", "puzzle": "{PUZZLE}"}}',
}


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("any_size", [False, True])
def test_notations_of_one_puzzle(name: str, any_size: bool) -> None:
    assert texts(found(ONE[name], any_size=any_size)) == [PUZZLE]
    assert Sudoku(3, 3).decode(reader(Sudoku(3, 3)).read_one(ONE[name]).tokens) == PUZZLE


@pytest.mark.parametrize("name", [name for name in ONE if ANSWER in ONE[name]])
def test_a_solution_that_stands_beside_a_puzzle_is_kept(name: str) -> None:
    (one,) = found(ONE[name])
    assert Sudoku(3, 3).decode(one.solution) == ANSWER


def test_everything_after_everything() -> None:
    for separator in ("\n", "\n\n", "\n# next\n"):
        text = separator.join(ONE.values())
        assert texts(found(text)) == [PUZZLE] * len(ONE)


def test_names_say_where_a_puzzle_stands() -> None:
    text = f"# one\n{PUZZLE}\n\n" + "\n".join(ROWS) + "\n1.2"
    assert [each.name for each in found(text)] == ["line 2", "lines 4 to 12", "line 13"]


def test_sizes_may_be_mixed() -> None:
    assert texts(found(f"{SMALL}\n{PUZZLE}\n1...34....43...1")) == [
        SMALL, PUZZLE, "1...34....43...1"
    ]  # fmt: skip
    (only,) = found(SMALL, any_size=False)
    assert only.problem == "sudoku_9x9 puzzle has 36 symbols; a 9x9 grid needs exactly 81"


@pytest.mark.parametrize(
    ("encoding", "bom"), [("utf-8", b""), ("utf-8-sig", b""), ("utf-16", b""), ("latin-1", b"")]
)
def test_files_in_other_encodings(encoding: str, bom: bytes) -> None:
    text = f"# Rätsel\n{PUZZLE}\r\n{PUZZLE}\n"
    stream = io.BufferedReader(io.BytesIO(bom + text.encode(encoding)))
    assert texts(list(reader(Sudoku(3, 3)).read(decoded(stream)))) == [PUZZLE, PUZZLE]


@pytest.mark.parametrize("task", [Sudoku(2, 3), Sudoku(3, 3), Maze(9)], ids=lambda t: t.name)
@pytest.mark.parametrize("beside", [False, True])
def test_what_the_library_draws_is_read_again(task: Task, beside: bool) -> None:
    """As ``trm.solve`` prints it: alone, or with the answer beside it and a heading above."""
    x_input, y_true = (part[0] for part in task.generator(1)(1))
    console = Console(width=200, file=io.StringIO(), color_system=None)
    console.print(task.render(x_input))
    lines = console.file.getvalue().splitlines()
    if beside:
        console.print(task.render(x_input, y_true))
        answers = console.file.getvalue().splitlines()[len(lines) :]
        width = max(len(line) for line in lines)
        lines = [f"{a.ljust(width)}    {b}".rstrip() for a, b in zip(lines, answers, strict=True)]
        lines = [f"{'puzzle'.ljust(width)}    answer", *lines]
    assert texts(found("\n".join(lines), task)) == [task.decode(x_input)]


def test_mazes_as_people_draw_them() -> None:
    task, text = Maze(4), "".join(MAZE)
    grid = "\n".join(MAZE)
    for written in (
        text,
        grid,
        grid.replace("G", "E"),
        text.replace(" ", "."),
        grid.replace("G", "e").replace("S", "s"),
        "\n".join(row.rstrip() for row in MAZE),
        f"maze\n{grid}\n",
        "/".join(MAZE),
        ",".join(text),
        json.dumps(MAZE),
        json.dumps([[*row] for row in MAZE]),
    ):
        assert texts(found(written, task)) == [text], written
    (cut,) = found(text.rstrip(), task)
    assert cut.problem.endswith("a space is a cell, at the ends too: write . for it")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "1..",
            "sudoku puzzle has 3 symbols; no size has so many cells: 4x4 needs exactly 16, 6x6 36",
        ),
        (" ".join(PUZZLE[1:]), "sudoku puzzle has 80 symbols"),
        ("7," + PUZZLE[1:], "symbols; no size has so many cells"),
        (json.dumps(GRID[1:]), "8 rows of 9 symbols; a 9x9 grid needs 9"),
        ("*" + PUZZLE[1:].replace("3", "!", 1), "row 1 column 3 holds '!'"),
        (PUZZLE.replace("3", "!", 1), "and in puzzles '*-xX?·□ '"),
        (f'["{PUZZLE}",', "symbols"),
        ('{"id": 3}', "no puzzle in this JSON"),
        ("ABCDEFG" + "." * 249, "A may be the digit 1 or 10 here"),
        (PUZZLE.replace("3", "!", 1), "row 1 column 3 holds '!'"),
        ("\n".join([*ROWS[:2], ROWS[2][:-1], *ROWS[3:]]), "row 3 has 8 symbols, others have 9"),
        ("\n".join([*ROWS[:8], "9" + ROWS[8]]), "row 9 has 10 symbols, others have 9"),
        ("\n".join(ROWS[:4]), "4 rows of 9 symbols; a 9x9 grid needs 9"),
        ("0" * 128 + "123456789ABCDEF." * 8, "0 may be a blank or a digit here"),
        ('{"puzzle": [1, 2]}', "sudoku puzzle has 2 symbols"),
        ("{" * 5000, "sudoku puzzle has 5000 symbols"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, said: str) -> None:
    (one,) = found(text)
    assert one.tokens is None
    assert said in one.problem
    with pytest.raises(InputError):
        reader(Sudoku(3, 3)).read_one(text)


def test_a_maze_on_one_line_has_no_solution_beside_it() -> None:
    maze = "S..#...#..#....G"
    for text in (maze, f" {maze} ", f'"{maze}"', f"{maze} # easy"):
        (one,) = found(text, Maze(4))
        assert one.tokens is not None
        assert one.solution is None
    (both,) = found(f"{maze},S  #o  #o # oooG", Maze(4))
    assert both.solution is not None


@pytest.mark.parametrize("blank", "._*?xX·□-")
def test_a_row_that_lacks_a_cell_is_not_filled_up(blank: str) -> None:
    rows = [row.replace(".", blank) for row in ROWS]
    rows[4] = rows[4][:-1]  # an 8
    assert [each.tokens for each in found("\n".join(rows))] == [None]


@pytest.mark.parametrize("width", range(3, 25))
def test_a_ruler_of_any_width_is_no_row(width: int) -> None:
    rows = [f"{row[:3]}|{row[3:6]}|{row[6:]}" for row in ROWS]
    ruled = [*rows[:3], "-" * width, *rows[3:6], "-" * width, *rows[6:]]
    assert texts(found("\n".join(ruled))) == [PUZZLE]


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (ROWS[:8], "8 rows of 9 symbols"),
        ([ROWS[0][1:], *ROWS[1:]], "row 1 has 8 symbols, others have 9"),
        ([*ROWS[:5], ROWS[5] + "1", *ROWS[6:]], "row 6 has 10 symbols, others have 9"),
    ],
)
def test_a_bad_grid_leaves_the_next_one_whole(damaged: list[str], said: str) -> None:
    bad, good = found("\n".join([*damaged, "", *ROWS]))
    assert said in bad.problem
    assert texts([good]) == [PUZZLE]


def test_boxes_may_stand_apart() -> None:
    apart = ["\n".join(ROWS[start : start + 3]) for start in (0, 3, 6)]
    assert texts(found("\n\n".join([*apart, *apart]))) == [PUZZLE, PUZZLE]


def test_blanks_that_an_editor_cut_off_are_cells_where_none_is_written() -> None:
    rows = [ROWS[1], ROWS[0], *ROWS[2:]]
    spaced = [row.replace(".", " ").rstrip() for row in rows]
    assert min(map(len, spaced)) < 9
    assert texts(found("\n".join(spaced))) == ["".join(rows)]


def test_one_puzzle_is_one() -> None:
    with pytest.raises(InputError, match="the puzzle is 2 puzzles; give one at a time"):
        reader(Sudoku(3, 3)).read_one(f"{PUZZLE}\n{PUZZLE}")
    with pytest.raises(InputError, match="has 0 symbols"):
        reader(Sudoku(3, 3)).read_one("")


def test_sixteen_by_sixteen_with_its_own_digits_is_read() -> None:
    text = "123456789ABCDEFG" + "." * 240
    assert texts(found(text)) == [text]
    assert texts(found(text.lower().replace(".", "0"))) == [text]


NUMBERS = [[(7 * i + j) % 17 for j in range(16)] for i in range(16)]
SIXTEEN = "".join("0123456789ABCDEFG"[cell] for row in NUMBERS for cell in row)


@pytest.mark.parametrize("between", [" ", ", ", "\t", ";"])
def test_sixteen_by_sixteen_in_numbers(between: str) -> None:
    task, blanked = Sudoku(4, 4), SIXTEEN.replace("0", ".")
    rows = [between.join(map(str, row)) for row in NUMBERS]
    for some in (rows, [between.join(rows)]):
        assert texts(found("\n".join(some), task)) == [blanked]
        assert texts(found("\n".join(some))) == [blanked]
    for value in (NUMBERS, {"puzzle": NUMBERS}):
        assert texts(found(json.dumps(value))) == [blanked]


@pytest.mark.parametrize("alphabet", [".ABCDEFGHIJKLMNOP", "0abcdefghijklmnop"])
def test_sixteen_by_sixteen_in_letters(alphabet: str) -> None:
    text = "".join(alphabet[cell] for row in NUMBERS for cell in row)
    rows = "\n".join(text[i : i + 16] for i in range(0, 256, 16))
    assert texts(found(text)) == texts(found(rows)) == [SIXTEEN.replace("0", ".")]


def test_small_puzzles_with_spaces_are_no_rows_of_a_large_one() -> None:
    small = "1...34....43...1"
    assert texts(found("\n".join([" ".join(small)] * 2))) == [small] * 2
    assert texts(found("\n".join([" ".join(small)] * 17))) == [small] * 17
    assert texts(found(json.dumps([[*small]] * 2))) == [small] * 2


def test_two_puzzles_in_json_are_two_and_a_puzzle_may_follow() -> None:
    for indent in (None, 2):
        text = json.dumps([PUZZLE, SMALL], indent=indent)
        both = found(f"[Puzzle]\n{text}\n{PUZZLE}")
        assert texts(both) == [PUZZLE, SMALL, PUZZLE]
    assert [each.name for each in both] == ["lines 2 to 5", "lines 2 to 5", "line 6"]
    assert texts(found(f"[\n{PUZZLE}\n{PUZZLE}")) == [PUZZLE] * 2  # which is no JSON


@pytest.mark.parametrize(
    "verdict",
    [
        "valid; 1 step, 12 ms, says solved with 99 %, sure of its cells with 99 %",
        "already solved",
        "not solved: row 1 holds the digit 1 twice; 16 steps, 12 ms",
        "not checked: no rules; 2 steps, 12 ms",
    ],
)
def test_verdicts_are_no_puzzles(verdict: str) -> None:
    drawn = "\n".join(f"{row}    {row}" for row in ROWS)
    text = f"puzzle       answer\n{drawn}\n{verdict}\n\n"
    assert texts(found(text + PUZZLE + "\n" + text)) == [PUZZLE] * 3
    assert texts(found(f"{PUZZLE}\t{verdict}\n")) == [PUZZLE]


def test_a_maze_of_no_size_is_told_which_are_near() -> None:
    (one,) = found("." * 98, Maze(30))
    assert (
        "has 98 symbols; no size has so many cells: 10x10 needs exactly 100, 9x9 81" in one.problem
    )
    with pytest.raises(InputError, match="no size has so many cells"):
        reader(Maze(30)).read_one("." * 98)
    (one,) = found("." * 98, Maze(30), any_size=False)
    assert "maze_30x30 puzzle has 98 symbols; a 30x30 grid needs exactly 900" in one.problem


def test_a_grid_of_arc_is_read_as_json() -> None:
    task = Arc()
    for text in ("[[0, 7], [7, 7]]", "[[0, 7],\n [7, 7]]"):
        (one,) = found(text, task)
        assert (one.tokens == task.encode(text)).all()
        assert (reader(task).read_one(text).tokens == one.tokens).all()


def test_numbers_that_may_be_digits_or_tokens() -> None:
    task = Sudoku(3, 3)
    digits = np.array([int(symbol) for symbol in PUZZLE.replace(".", "0")])
    assert (task.from_numbers(digits) == task.encode(PUZZLE)).all()
    tokens = task.encode(PUZZLE).astype(np.int64)
    assert (task.from_numbers(tokens) == tokens).all()
    whole = np.array([int(symbol) for symbol in ANSWER])
    with pytest.raises(InputError, match="digits of a whole sudoku_9x9 or tokens"):
        task.from_numbers(whole)
    assert (task.from_numbers(whole + 1) == whole + 1).all()
    with pytest.raises(InputError, match="holds token 11"):
        task.from_numbers(np.full(81, 11))
