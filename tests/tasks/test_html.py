from itertools import chain
from xml.etree import ElementTree

import numpy as np
import pytest

from trm.tasks import Arc, Maze, Sudoku
from trm.tasks.arc import to_canvas
from trm.tasks.html import panels
from trm.tasks.looks import CLUE, WRONG, lines, looks

PUZZLE, ANSWER = "1...34....43...1", "1243341221434321"


def cells(html):
    """The cells of a table by row, as (symbol, style)."""
    rows = ElementTree.fromstring(html).iter("tr")
    return [[(cell.text or "", cell.get("style")) for cell in row] for row in rows]


def test_what_is_given_is_bold_and_what_is_answered_has_a_colour():
    task = Sudoku(2, 2)
    drawn = cells(task.show(task.encode(PUZZLE), task.encode(ANSWER))._repr_html_())
    assert ["".join(symbol for symbol, _ in row) for row in drawn] == [
        "1243",
        "3412",
        "2143",
        "4321",
    ]
    for clue, (_, style) in zip(PUZZLE, chain(*drawn), strict=True):
        assert ("font-weight:bold" in style and CLUE in style) == (clue != ".")
        assert ("color:#0072B2" in style) == (clue == ".")


def test_lines_around_boxes_are_thick():
    assert [*lines(6, 2)] == [True, False, True, False, True, False, True]
    assert [*lines(3, None)] == [True, False, False, True]
    task = Sudoku(2, 3)
    drawn = cells(task.show(task.encode("." * 36))._repr_html_())
    assert ["border-bottom:2px" in row[0][1] for row in drawn] == [False, True] * 3
    assert ["border-right:2px" in style for _, style in drawn[0]] == [False, False, True] * 2


def test_wrong_cells_are_marked():
    task = Sudoku(2, 2)
    right, wrong = task.encode(ANSWER), task.encode(ANSWER[::-1])
    drawn = cells(task.show(task.encode(PUZZLE), wrong, right)._repr_html_())
    marked = [WRONG in style for _, style in chain(*drawn)]
    assert marked == (wrong != right).tolist()


@pytest.mark.parametrize("task", [Maze(6), Arc()], ids=lambda task: task.name)
def test_coloured_cells_are_drawn_in_their_colours(task):
    if isinstance(task, Arc):
        x_input = to_canvas(np.arange(6).reshape(2, 3))
    else:
        x_input = task.generator(1, min_path=5)(1)[0][0]
    rows, columns = task.extent(x_input)
    drawn = cells(task.show(x_input)._repr_html_())
    assert (len(drawn), len(drawn[0])) == (rows, columns)
    for row in range(rows):
        for column in range(columns):
            _, colour = task.face(int(x_input[row * task.grid_shape[1] + column]))
            assert colour is None or f"background:{colour}" in drawn[row][column][1]


def test_the_less_sure_the_smaller_a_coloured_square():
    task = Arc()
    grid = to_canvas(np.ones((1, 1), dtype=int))
    sure, unsure = (looks(task, grid, grid, np.full(900, p))[0].side for p in (1.0, 0.25))
    assert (sure, unsure) == (1, 0.5)


def test_elsewhere_a_grid_is_text():
    task = Sudoku(2, 2)
    x_input, y = task.encode(PUZZLE), task.encode(ANSWER)
    assert repr(task.show(x_input, y)) == task.render(x_input, y).plain


def test_titles_and_notes_are_text():
    assert "<b>" not in panels([("<b>", "")], "a <b> & c")
