"""Tables on terminals of any width."""

import io

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trm.report.fitting import Fitting

CELLS = ["sudoku_6x6 [wide]", "33.3 (28.2 - 38.8)", "9,442"]


def drawn(width: int) -> list[str]:
    table = Table(title="Results of everything", title_justify="left")
    table.add_column("run")
    table.add_column("exact %\n(95 % interval)", justify="right")
    table.add_column("parameters", justify="right")
    table.add_row(*map(Text, CELLS))
    table.add_row(Text("other"), Text(""), Text("7"))
    console = Console(file=io.StringIO(), width=width)
    console.print(Fitting(table))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", range(12, 90))
def test_nothing_is_lost_or_cut_at_any_width(width):
    lines = drawn(width)
    assert max(map(len, lines)) <= width
    text = "".join("".join(lines).split())
    assert "…" not in text
    if width < 47:  # where the table does not fit
        assert all("".join(cell.split()) in text for cell in CELLS)


def test_a_table_that_fits_keeps_numbers_in_one_piece_and_words_whole():
    narrowest = next(width for width in range(12, 90) if "│" in "".join(drawn(width)))
    for width in (narrowest, 89):
        lines = drawn(width)
        assert any("33.3 (28.2 - 38.8)" in line for line in lines), lines
        assert any("sudoku_6x6" in line for line in lines)
        assert any("parameters" in line for line in lines)
    assert narrowest < 60
    assert any("sudoku_6x6 [wide]" in line for line in drawn(89)), "spare room is used"


def test_rows_that_do_not_fit_are_paragraphs_of_headings_and_cells():
    assert drawn(40) == [
        "Results of everything",
        "run sudoku_6x6 [wide]: exact % (95 %",
        "  interval) 33.3 (28.2 - 38.8);",
        "  parameters 9,442",
        "run other: parameters 7",
    ]
