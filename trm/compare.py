"""Put runs and evaluations side by side: ``python -m trm.compare logs/sudoku_4x4/runs/*``.

Each one is tested against the first, puzzle by puzzle, and the config keys that differ are listed.
"""

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trm.report.fitting import Fitting
from trm.results.comparing import Pairing, Subject, differences, paired
from trm.support.command_line import argument_parser, command
from trm.support.errors import InputError
from trm.support.files import check_writable, written_whole

_FILE_WIDTH = 1000  # a file or pipe has none: one row stays one line
_NOTE = (
    "p: McNemar's exact test over the puzzles that one of the two alone solves. It knows how much "
    "the choice of puzzles matters, and nothing of other seeds."
)


@dataclass(frozen=True)
class Grid:
    """A table as text.

    Attributes:
        title: above it
        headings: of the columns
        rows: cells
        words: how many columns, from the left, hold words and not numbers
    """

    title: str
    headings: list[str]
    rows: list[list[str]]
    words: int

    def drawn(self) -> Fitting:
        """Return it for the terminal: words may wrap, numbers must not."""
        table = Table(box=SIMPLE_HEAD, title=Text(self.title), title_justify="left")
        for place, heading in enumerate(self.headings):
            if place < self.words:
                table.add_column(Text(heading))
            else:
                table.add_column(Text(heading), justify="right")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return Fitting(table)

    def markdown(self) -> str:
        """Return it as Markdown."""
        ruler = ["---"] * self.words + ["--:"] * (len(self.headings) - self.words)
        lines = [self.headings, ruler, *self.rows]
        piped = ("| " + " | ".join(map(_escaped, cells)) + " |" for cells in lines)
        return "\n".join([f"**{self.title}**", "", *piped, ""])


def grids(subjects: Sequence[Subject]) -> list[Grid]:
    """Return the tables that are worth showing: all subjects, tests against the first, keys."""
    headings = ["", "run", "task", "model", "seed", "parameters", "exact % (95 %)", "valid %"]
    headings += ["n", "steps", "minutes"]
    rows = [_cells(number, subject) for number, subject in enumerate(subjects, 1)]
    found = [Grid("Results after the last supervision step", headings, rows, words=4)]
    if len(subjects) == 1:
        return found
    title = f"Puzzle by puzzle against 1 ({subjects[0].name})"
    headings = ["", "run", "points", "it alone", "1 alone", "p"]
    rows = [
        [f"{number} − 1", subject.name, *_pair_cells(paired(subjects[0], subject))]
        for number, subject in enumerate(subjects[1:], 2)
    ]
    found.append(Grid(title, headings, rows, words=2))
    keys = {key: list(map(_plain, values)) for key, values in differences(subjects).items()}
    if keys:
        headings = ["config key", *(str(number + 1) for number in range(len(subjects)))]
        rows = [[key, *values] for key, values in keys.items()]
        found.append(Grid("What differs", headings, rows, words=len(headings)))
    return found


def _cells(number: int, subject: Subject) -> list[str]:
    score = subject.score
    solved = ["not tested", "", ""]
    if score is not None:
        interval = "{:.1f} - {:.1f}".format(*score.interval)
        share = f"{score.percent:.1f} ({interval})"
        valid = "" if score.valid is None else f"{score.valid:.1f}"
        solved = [f"{'pass@2 ' * (score.measure == 'pass@2')}{share}", valid, str(score.n)]
    return [
        *(str(number), subject.name, subject.task, subject.model, _plain(subject.seed)),
        *(f"{subject.parameters:,}", *solved, _plain(subject.steps)),
        "" if subject.minutes is None else f"{subject.minutes:.1f}",
    ]


def _pair_cells(pairing: Pairing | str) -> list[str]:
    if isinstance(pairing, str):
        return ["", "", "", pairing]
    points = f"{pairing.points:+.1f}".replace("-", "−")
    p = "< 0.0001" if pairing.p < 1e-4 else f"{pairing.p:.2g}"
    return [points, str(pairing.alone), str(pairing.first_alone), p]


def _plain(value: Any) -> str:
    """Write a value as it stands in a config."""
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def _escaped(cell: str) -> str:
    return " ".join(cell.replace("|", r"\|").split())


def csv_text(subjects: Sequence[Subject]) -> str:
    """Write one line per subject: plain numbers, the test against the first, and what differs."""
    lines = [_line(subject, subjects[0]) for subject in subjects]
    for key, values in differences(subjects).items():
        for line, value in zip(lines, values, strict=True):
            line[f"config.{key}"] = _plain(value)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _line(subject: Subject, first: Subject) -> dict[str, Any]:
    about = ("name", "path", "seed", "task", "model", "parameters", "steps", "minutes")
    line = {name: getattr(subject, name) for name in about}
    for name in ("measure", "percent", "valid", "n"):
        line[name] = getattr(subject.score, name, None)
    line["low"], line["high"] = subject.score.interval if subject.score else (None, None)
    pairing = paired(first, subject)
    for name in ("points", "alone", "first_alone", "p"):
        line[name] = None if subject is first else getattr(pairing, name, None)
    return line | {"not_paired": pairing if isinstance(pairing, str) else ""}


def _write(path: Path, text: str) -> None:
    with written_whole(path) as file:
        file.write(text.encode(errors="replace"))


def _read(paths: Sequence[Path]) -> list[Subject]:
    """Read all that are results, and say which are not."""
    subjects, left_out = [], []
    for path in paths:
        try:
            subjects.append(Subject.read(path))
        except InputError as error:
            left_out.append(f"{path}: {error}")
    for line in left_out:
        print(f"{'left out' if subjects else 'error:'} {line}", file=sys.stderr)
    return subjects


@command()
def main(arguments: list[str] | None = None) -> int:
    """Print the tables of all that are results; 2 if none is."""
    parser = argument_parser("trm.compare", __doc__)
    parser.add_argument(
        "runs", nargs="+", type=Path, help="run folders, result.json files, files of trm.evaluate"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there, too")
    options = parser.parse_args(arguments)
    for name in ("csv", "markdown"):
        if path := getattr(options, name):
            check_writable(path, f"--{name}=")
    subjects = _read(options.runs)
    if not subjects:
        return 2
    tables = grids(subjects)
    is_tested = any(isinstance(paired(subjects[0], other), Pairing) for other in subjects[1:])
    note = [_NOTE] * is_tested
    if options.csv:
        _write(options.csv, csv_text(subjects))
    if options.markdown:
        _write(options.markdown, "\n".join([*(grid.markdown() for grid in tables), *note, ""]))
    console = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
    for grid in tables:
        console.print(grid.drawn())
    for line in note:
        console.print(line, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
