"""Tables that lose nothing on a narrow terminal."""

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

_ANY_WIDTH = 1_000_000  # columns, more than any table has


class Fitting:
    """Draws a table where the terminal has room for it, and else one paragraph per row.

    There is room if every word stays whole, every number, a cell of a column that is flush right,
    in one line, and whatever does not wrap. What is left goes to the columns from the left. A
    paragraph holds heading and cell of every column, but for empty cells.
    """

    def __init__(self, table: Table) -> None:
        self.table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._fits(console, options):
            yield self.table
            return
        if self.table.title:
            yield Text(str(self.table.title), self.table.title_style or "")
        for row in zip(*(column.cells for column in self.table.columns), strict=True):
            yield self._paragraph(console, options, row)

    def _fits(self, console: Console, options: ConsoleOptions) -> bool:
        """Give the columns their widths, and tell whether the terminal is wide enough."""
        columns = self.table.columns
        for column in columns:
            column.width = _least(column)
        wide = options.update(max_width=_ANY_WIDTH)
        spare = options.max_width - Measurement.get(console, wide, self.table).maximum
        for column in columns:
            more = max(0, min(spare, _most(column) - _least(column)))
            column.width = _least(column) + more
            spare -= more
        return spare >= 0

    def _paragraph(
        self, console: Console, options: ConsoleOptions, row: tuple[RenderableType, ...]
    ) -> Text:
        headings = (" ".join(str(column.header).split()) for column in self.table.columns)
        first, *pairs = (
            f"{heading} {cell}".strip()
            for heading, cell in zip(headings, map(str, row), strict=True)
            if cell
        )
        text = Text(f"{first}: {'; '.join(pairs)}")
        lines = text.wrap(console, options.max_width - 2)
        for line in lines:
            line.rstrip()
        return Text("\n  ").join(lines)


def _least(column: Column) -> int:
    """Return the width at which nothing breaks: headings and words may wrap, numbers must not."""
    if column.no_wrap:
        return _most(column)
    words = [word for cell in _texts(column) for word in cell.split()]
    numbers = map(str, column.cells) if column.justify == "right" else ()
    return max(map(cell_len, [*words, *numbers, ""]))


def _most(column: Column) -> int:
    """Return the width at which nothing wraps."""
    return max(cell_len(line) for cell in _texts(column) for line in [*cell.splitlines(), ""])


def _texts(column: Column) -> list[str]:
    return [str(column.header), *map(str, column.cells)]
