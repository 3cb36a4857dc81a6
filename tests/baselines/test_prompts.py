from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_from_arc import folder
from trm.baselines.prompts import (
    Prompts,
    demonstrations,
    examples_for,
    grid_text,
    read_reply,
)
from trm.data import from_arc
from trm.support.errors import InputError
from trm.tasks import Arc, Maze, Sudoku, Task

__all__ = ["folder"]  # a fixture

MAZE = "S #  " + "# #  " + "    G" + "#####" + "     "
MARKED = "So#  " + "#o#  " + " oooG" + "#####" + "     "
SOLVED = "1234341221434321"
TASKS = {"sudoku": Sudoku(2, 2), "wide": Sudoku(2, 3), "large": Sudoku(4, 4), "maze": Maze(5)}


def random_answer(task: Task, seed: int) -> np.ndarray:
    tokens = sorted(set(task.symbols.values()) - ({1} if isinstance(task, Sudoku) else set()))
    return np.random.default_rng(seed).choice(tokens, task.cells).astype(np.uint8)


@st.composite
def replies(draw) -> tuple[Task, np.ndarray, str]:
    """Draw an answer, and a reply that gives it in one of the ways that models have."""
    task = draw(st.sampled_from(list(TASKS.values())))
    y = random_answer(task, draw(st.integers(0, 9)))
    between = draw(st.sampled_from(["", " ", "  ", ",", ", ", " | ", "\t"]))
    edge = draw(st.sampled_from(["", "|", "  ", "["]))
    close = {"[": "],", "|": "|"}.get(edge, "")
    border = draw(st.sampled_from([None, "", "------+------", "|---|---|", "──┼──"]))
    lines = []
    for number, row in enumerate(grid_text(task, y).splitlines()):
        if border is not None and number and number % 2 == 0:
            lines.append(border)
        name = f"Row {number + 1}: " if draw(st.booleans()) else ""
        lines.append(name + edge + between.join(row) + close)
    grid = draw(st.sampled_from(["\n", "\r\n"])).join(lines)
    if not draw(st.booleans()):
        grid = f"```{draw(st.sampled_from(['', 'text', 'json']))}\n{grid}\n```"
    puzzle = grid_text(task, random_answer(task, 99))
    before = draw(st.sampled_from(["", "I see.\n", f"The puzzle is\n{puzzle}\nso let us start.\n"]))
    mark = draw(
        st.sampled_from(["ANSWER:\n", "**Answer:**\n\n", "answer :\n", "ANSWER:\nAll of it:\n"])
    )
    after = draw(st.sampled_from(["", "\nI hope that this helps!", "\n\n"]))
    return task, y, f"{before}{mark}{grid}{after}"


@settings(max_examples=60)
@given(replies())
def test_any_form_of_a_true_answer_is_read_back(drawn):
    task, y, reply = drawn
    np.testing.assert_array_equal(read_reply(task, reply), y)


@settings(max_examples=60)
@given(st.sampled_from([*TASKS.values(), Arc()]), st.text(max_size=200))
def test_no_text_breaks_the_reader_and_what_it_reads_is_a_grid(task, text):
    y = read_reply(task, text)
    assert y is None or y.shape == (task.cells,)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot solve this.",
        "ANSWER:",
        "ANSWER:\n1234\n3412\n2143",  # a row too few
        "ANSWER:\n1234\n3412\n2143\n4321\n1234",  # and too many
        "ANSWER:\n1234\n3412\n2143\n432",
        "ANSWER:\n1234\n3412\n2143\n4325",  # 5 is no digit of 4x4
        "ANSWER:\n1234\n3412\nand so on\n2143\n4321",
        "1 2 3 4, 3 4 1 2",
    ],
)
def test_garbage_is_no_grid(reply):
    assert read_reply(Sudoku(2, 2), reply) is None


def test_the_answer_follows_the_last_mark_or_is_the_last_grid():
    task, other = Sudoku(2, 2), "4321\n2143\n3412\n1234"
    grid = grid_text(task, task.encode(SOLVED))
    for reply in (
        f"ANSWER: no wait.\n{other}\nANSWER:\n{grid}\n\nCheck:\n{other}",
        f"{other}\n\nbecomes\n\n{grid}",
        f"```\n{other}\n```\n```\n{grid}\n```",
        f"{grid}\nANSWER: see above",
        f"ANSWER: {SOLVED}",
        f"ANSWER: {[[int(digit) for digit in row] for row in grid.splitlines()]}",
    ):
        assert task.decode(read_reply(task, reply)) == SOLVED


def test_open_cells_of_a_maze_can_be_seen():
    task = Maze(5)
    assert grid_text(task, task.encode(MAZE)).splitlines()[2] == "....G"
    reply = "ANSWER:\n" + grid_text(task, task.encode(MARKED)).replace("o", "O")
    assert task.decode(read_reply(task, reply)) == MARKED


def test_an_arc_answer_has_the_size_that_the_model_gave_it():
    task = Arc()
    for reply in ("ANSWER:\n```\n07\n77\n05\n```", "ANSWER: [[0, 7], [7, 7], [0, 5]]"):
        np.testing.assert_array_equal(
            read_reply(task, reply), task.encode("[[0, 7], [7, 7], [0, 5]]")
        )
    assert read_reply(task, "ANSWER:\n07\n7\n") is None


@pytest.mark.parametrize("task", TASKS.values())
def test_a_prompt_holds_the_puzzle_the_sizes_and_the_form_of_the_answer(task):
    x_input = random_answer(task, 0)
    ((text),) = (message["content"] for message in Prompts.read(task).messages(x_input))
    assert text.endswith(f"Puzzle:\n```\n{grid_text(task, x_input)}\n```")
    assert f"{task.grid_shape[0]} rows and {task.grid_shape[1]} columns" in text
    assert "ANSWER:" in text
    assert "$" not in text
    if isinstance(task, Sudoku):
        assert f"boxes of {task.box_rows} rows and {task.box_cols} columns" in text
        assert f"each of {' '.join('123456789ABCDEFG'[: task.size])} exactly" in text


def test_shots_come_from_the_training_split_and_from_the_seed_alone(puzzles):
    task = Sudoku(2, 2)
    train = {row.tobytes() for row in puzzles.splits["train"].x_input}
    shown = examples_for(puzzles, 3, seed=1)
    assert len(shown) == 3
    assert {row.tobytes() for row in shown.x_input} <= train
    same, other = examples_for(puzzles, 3, seed=1), examples_for(puzzles, 3, seed=2)
    np.testing.assert_array_equal(same.x_input, shown.x_input)
    assert (other.x_input != shown.x_input).any()
    ((message),) = Prompts.read(task).messages(puzzles.splits["test"].x_input[0], shown)
    for y_true in shown.y_true:
        assert f"ANSWER:\n```\n{grid_text(task, y_true)}\n```" in message["content"]
    assert examples_for(puzzles, 0, seed=1) is None
    with pytest.raises(InputError, match="33 must lie between 0 and 32"):
        examples_for(puzzles, 33, seed=1)


def test_a_task_without_a_template_of_its_own_has_the_default_one():
    class Mirror(Task):
        name, grid_shape, vocab_size = "mirror", (1, 4), 3
        symbols = MappingProxyType({"a": 1, "b": 2})

        def is_valid(self, x_input, y):
            return (y == x_input.flip(1)).all(1)

    (message,) = Prompts.read(Mirror()).messages(np.array([1, 2, 2, 1]))
    assert "1 rows and 4 columns" in message["content"]
    assert "a b" in message["content"]


def test_a_template_that_cannot_be_filled_is_refused(tmp_path):
    file = tmp_path / "mine.txt"
    for text, said in (
        ("Solve $puzle", "'puzle'"),
        ("for 5 $", "Invalid placeholder"),
        ("Solve it", r"no \$puzzle"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=said):
            Prompts.read(Sudoku(2, 2), file)
    with pytest.raises(InputError, match="cannot be read"):
        Prompts.read(Sudoku(2, 2), tmp_path / "none.txt")
    file.write_text("$puzzle for $$5")
    (message,) = Prompts.read(Sudoku(2, 2), file).messages(Sudoku(2, 2).encode(SOLVED))
    assert message["content"] == "1234\n3412\n2143\n4321 for $5"


def test_an_arc_prompt_shows_the_demonstrations_of_its_own_task_and_no_label(folder):
    task = Arc()
    settings = {"train": ["training", "evaluation"], "augmentations": 2, "val_tasks": 1}
    data = from_arc(task, str(folder), **settings)
    puzzles = data.splits["test"]
    prompts = Prompts.read(task)
    for number, shown in enumerate(demonstrations(data, puzzles)):
        assert set(shown.identifier.tolist()) == {int(puzzles.identifier[number])}
        (message,) = prompts.messages(puzzles.x_input[number], shown)
        for grid in (*shown.x_input, *shown.y_true, puzzles.x_input[number]):
            assert f"```\n{grid_text(task, grid)}\n```" in message["content"]
        assert message["content"].count("Puzzle:") == len(shown) + 1
        assert message["content"].count("ANSWER:\n") == len(shown)
