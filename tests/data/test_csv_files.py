"""CSV files as people have them: other names, orders, delimiters, quotes, and none of them."""

import csv
import gzip
import io

import pytest

from trm import InputError
from trm.data.csv_files import read_csv
from trm.tasks import Maze, Sudoku

Q, A = "1...............", "1234341221434321"


def file(tmp_path, text: str | bytes, name: str = "puzzles.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(tmp_path, task, text: str | bytes):
    """Read a file of one puzzle, and return it as text, with its rating."""
    puzzles = read_csv(file(tmp_path, text), task)
    rating = None if puzzles.rating is None else puzzles.rating.tolist()
    return task.decode(puzzles.x_input[0]), task.decode(puzzles.y_true[0]), rating


@pytest.mark.parametrize(
    "text",
    [
        f"question,answer\n{Q},{A}\n",
        f"quizzes,solutions\n{Q.replace('.', '0')},{A}\n",
        f"id,puzzle,solution,clues\n1,{Q},{A},1\n",
        f"Answer,source,Question\n{A},made,{Q}\n",
        f'"output" , "input"\n"{A}","{Q}"\n',
        f"\ufeffquestion,answer\n{Q},{A}\n",
        f"\ufeff{Q},{A}\n",
        f"{Q},{A}\n",
        f"{Q};{A}",
        f"question;answer\r\n{Q};{A}\r\n",
        f"question\tanswer\r{Q}\t{A}\r",
        f"question,answer\r\r\n{Q},{A}\r\r\n",
        f"question,answer\n\n{Q},{A}\n\n\n",
        f"question,answer\n,\n{Q},{A}\n",
        f"question,answer\n {Q}, {A} \n",
        f'note,question,answer\n"a, ""quoted""\nnote",{Q},{A}\n',
        f'question,answer\n"{Q[:4]}\n{Q[4:8]}\n{Q[8:12]}\n{Q[12:]}",{A}\n',
        f"source,question,answer\nn\u00e9,{Q},{A}\n".encode("latin-1"),
        f"trace,question,answer\n{'long ' * 4000},{Q},{A}\n",
    ],
)
def test_puzzles_are_found_however_they_are_written(tmp_path, sudoku, text):
    assert read(tmp_path, sudoku, text) == (Q, A, None)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("rating", ["3", "-1"], [3, -1]),
        ("difficulty", ["1.2", "4.7"], [1, 5]),
        ("Rating", ['"2.0"', "1e2"], [2, 100]),
        ("rating", ["3", ""], None),
        ("rating", ["NaN", "3"], None),
        ("difficulty", ["easy", "hard"], None),
        ("difficulty", ["9" * 40, "1"], None),
    ],
)
def test_ratings_are_whole_numbers_or_none(tmp_path, sudoku, column, values, said):
    rows = "".join(f"{Q},{A},{value}\n" for value in values)
    assert read(tmp_path, sudoku, f"question,answer,{column}\n{rows}")[2] == said


def test_a_decimal_comma_is_one_where_semicolons_delimit(tmp_path, sudoku):
    assert read(tmp_path, sudoku, f"question;answer;rating\n{Q};{A};2,7\n")[2] == [3]


@pytest.mark.parametrize("value", ["hard", "inf", "1e999", "9" * 40, "9" * 5000])
def test_a_rating_that_is_no_number_of_64_bits_is_refused(tmp_path, sudoku, value):
    with pytest.raises(InputError, match="line 2: rating .* is no whole number") as error:
        read(tmp_path, sudoku, f"question,answer,rating\n{Q},{A},{value}\n")
    assert len(str(error.value)) < 400


def test_nothing_is_stripped_from_a_maze(tmp_path):
    maze, answer = "  S" + " # " + " G ", "ooS" + "o# " + "oG "
    for text in (
        f"question,answer\n{maze},{answer}\n",
        f"{maze},{answer}",
        f'answer,question\n"{answer}","{maze}"\n',
        f'question,answer\n"{maze[:3]}\n{maze[3:6]}\n{maze[6:]}",{answer}\n',
    ):
        assert read(tmp_path, Maze(3), text) == (maze, answer, None)


def test_a_large_maze_fits_a_field(tmp_path):
    side = 400  # more cells than the csv module's own limit
    maze = "SG" + " " * (side * side - 2)
    assert read(tmp_path, Maze(side), f'question,answer\n"{maze}",{maze}\n')[0] == maze


@pytest.mark.parametrize(
    "first",
    ["", "puzzle,clues", "solution,rating", f"{Q},{A},3", f"{Q}", f"{Q},{A[1:]}", "{", "\0,\0"],
)
def test_a_file_without_columns_of_both_is_refused_with_the_remedy(tmp_path, sudoku, first):
    with pytest.raises(InputError, match="line 1") as error:
        read(tmp_path, sudoku, f"{first}\n{Q},{A}\n")
    said = str(error.value)
    assert "only two columns of 16 symbols each need no header" in said or "save" in said
    assert "\n" not in said


def test_utf_16_is_named(tmp_path, sudoku):
    with pytest.raises(InputError, match="line 1 is no UTF-8 text; save the file as CSV in UTF-8"):
        read(tmp_path, sudoku, f"question,answer\n{Q},{A}\n".encode("utf-16"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f"{Q},{A},", "3 fields instead of the 2 of 'question,answer'"),
        (Q, "1 fields instead of the 2"),
        (f"{Q[1:]},{A}", "has 15 cells, sudoku_4x4 needs 16"),
        (f"{Q},{A}".replace("1.", "x.", 1), "row 1 column 1 holds 'x'"),
        (f'"{Q},{A}', "1 fields instead of the 2"),
        (f"{Q},{'.' * 16}", "is 1 in the puzzle but . in the answer"),
    ],
)
def test_a_bad_row_is_named_by_the_line_in_which_it_begins(tmp_path, sudoku, row, said):
    text = f'question,answer\n{Q},"{A}\n"\n\n{row}\n'
    with pytest.raises(InputError) as error:
        read(tmp_path, sudoku, text)
    assert str(error.value).startswith(f"{tmp_path / 'puzzles.csv'}, line 5: ")
    assert said in str(error.value)


def test_without_a_header_the_first_line_is_a_row(tmp_path, sudoku):
    assert len(read_csv(file(tmp_path, f"{Q},{A}\n{Q},{A}\n"), sudoku)) == 2
    for line, text in ((1, f"2{Q[1:]},{A}\n{Q},{A}\n"), (2, f"{Q},{A}\n2{Q[1:]},{A}\n")):
        with pytest.raises(InputError, match=f"line {line}: .* is 2 in the puzzle but 1 in the"):
            read(tmp_path, sudoku, text)


def test_a_quote_that_is_never_closed_does_not_swallow_the_file(tmp_path, sudoku):
    text = f'question,answer\n{Q},{A}\n"{Q},{A}\n' + f"{Q},{A}\n" * 100_000
    with pytest.raises(InputError, match="line 3: a quote that opens here is still open in line"):
        read(tmp_path, sudoku, text)


def test_a_row_over_many_quoted_lines_does_not_fill_the_memory(tmp_path, sudoku):
    text = "question,answer\n" + 'a","\n' * 100_000
    with pytest.raises(InputError):
        read(tmp_path, sudoku, 'question,answer\n"' + text)


def test_many_blank_lines_are_not_read_to_their_end(tmp_path, sudoku):
    packed = gzip.compress(b"question,answer\n" + b"\n" * 10_000_000)
    path = file(tmp_path, packed, "puzzles.csv.gz")
    with pytest.raises(InputError, match="line 2: 1 fields .* at least 999 more bad rows follow"):
        read_csv(path, sudoku)


def test_what_the_csv_module_writes_is_read_in_every_dialect(tmp_path):
    task = Sudoku(2, 3)
    x_input, y_true = task.generator(0)(20)
    for dialect in ("excel", "excel-tab", "unix"):
        out = io.StringIO()
        writer = csv.writer(out, dialect=dialect)
        writer.writerow(["", "Solution", "Note", "Puzzle", "Difficulty"])
        for number, pair in enumerate(zip(x_input, y_true, strict=True)):
            question, answer = map(task.decode, pair)
            writer.writerow([number, answer, 'so, "so";\tso', question, number / 2])
        puzzles = read_csv(file(tmp_path, out.getvalue()), task)
        assert (puzzles.x_input == x_input).all()
        assert (puzzles.y_true == y_true).all()
        assert puzzles.rating.tolist() == [round(number / 2) for number in range(20)]
