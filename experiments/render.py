"""Turn result files into tables and plots: ``python -m experiments.render`` (or ``make tables``).

For every table and scale: ``experiments/rendered/table_NAME_SCALE.md``, ``.tex`` (booktabs),
``.csv`` and, if anything was run, ``.png``. A document that holds ``<!-- table_NAME_SCALE -->``
and, further down, ``<!-- end -->`` gets the Markdown between the two. Nothing here knows a number
that is not in a result file or in a table's own file.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from experiments.formats import csv_text, latex, markdown, tex, told
from experiments.numbers import Line, Recorded, lines
from experiments.table import HERE, Table, names, read_table, recorded, scales
from experiments.tuning import SEED
from trm.commands import fail
from trm.report.plots import Dots, dots
from trm.support.errors import InputError
from trm.support.files import written_whole

RENDERED = HERE / "rendered"
DOCS = HERE.parent / "docs"
DOCUMENTS = tuple(DOCS / f"{page}.md" for page in ("tables", "since", "efficiency", "speed"))

_NOT_RUN = "not run"
_MARKS = {True: " ≠", False: " ≈", None: ""}
_EDGE = "†"
_PASS_AT_2 = "Share of test tasks in % that one of two voted answers solves.\n"
LEGEND = (
    "Exact accuracy on test puzzles in %, after the last supervision step, unless said otherwise: "
    "mean ± standard deviation over seeds, of the checkpoint that did best on validation "
    "puzzles. Δ: difference to the row in bold, in points; ≠ says that a paired t-test over "
    "puzzles and Welch's t-test over seeds both tell the two apart (p < 0.05), ≈ that they do not "
    "settle it. Parameters and depth are our models'; minutes are of one training run, processor "
    "time on a CPU, time on the clock with a GPU.\n"
)


def tables() -> list[tuple[str, str]]:
    """List all tables by name and scale."""
    return [(name, scale) for name in names() for scale in scales(name)]


def rendered(name: str, scale: str, found: Recorded) -> dict[str, str]:
    """Return the files of a table as text, by ending.

    Raises:
        InputError: results that cannot stand in one table
    """
    table = read_table(name, scale)
    return _texts(table, lines(table, found))


def _texts(table: Table, of: dict[str, list[Line]]) -> dict[str, str]:
    return {
        "md": f"{_markdown(table, of)}\n{LEGEND}",
        "tex": _latex(table, of),
        "csv": _csv(table, of),
    }


def _cells(line: Line, scale: str) -> list[str]:
    """Write the cells of a row for people, without markup."""
    quoted = line.row.quoted
    ours = "–" if quoted else _NOT_RUN
    if line.mean is not None:
        ours = f"{line.mean:.1f}" + (f" ± {line.spread:.1f}" if line.spread is not None else "")
    cells = [
        line.row.label + (" (quoted)" if quoted else ""),
        str(line.row.paper.get("parameters", "–")) if quoted else f"{line.parameters:,}",
        "–" if line.depth is None else str(line.depth),
        _rate(line),
        _number(line.paper),
        _signed(line.paper_gain),
        ours,
        _signed(line.gain) + _MARKS[line.differs],
    ]
    if scale == "paper":
        known = line.mean is not None and isinstance(line.paper, float)
        cells.append(_signed(line.mean - line.paper if known else None))  # type: ignore[operator]
    minutes = line.wall_time_min if line.on_gpu else line.cpu_time_min
    return [*cells, str(len(line.seeds) or "–"), "–" if minutes is None else f"{minutes:.1f}"]


def _headings(scale: str) -> list[str]:
    beside = ["ours − paper"] if scale == "paper" else []
    return [
        "",
        "parameters",
        "depth",
        "rate",
        "paper %",
        "Δ",
        "ours %",
        "Δ",
        *beside,
        "seeds",
        "min",
    ]


def _number(value: float | str | None) -> str:
    return f"{value:.1f}" if isinstance(value, float) else value or "–"


def _rate(line: Line) -> str:
    """Write a learning rate that was searched as configs write it, such as 6e-3."""
    if line.tuning is None or line.tuning.rate is None:
        return "–"
    digits, exponent = f"{line.tuning.rate:.2e}".split("e")
    mark = _EDGE if line.tuning.at_edge else ""
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}{mark}"


def _searched(column: Sequence[Line]) -> str:
    """Say how the learning rates of a column were chosen and what that took, if they were."""
    if (tune := column[0].column.tune) is None:
        return ""
    known = [line.tuning for line in column if line.tuning is not None]
    minutes = sum({outcome.recipe: outcome.minutes for outcome in known}.values())
    factors = ", ".join(f"{factor:g}" for factor in sorted(tune.factors))
    words = f" (with {' '.join(tune.overrides)})" if tune.overrides else ""
    text = (
        f"\n\nRate: of {factors} times the recipe's own `optimizer.lr` the one whose run{words} "
        f"did best on validation puzzles, of equals the middle one; one run of each with seed "
        f"{SEED}, no test puzzle looked at, {minutes:.0f} min for all."
    )
    if any(outcome.at_edge for outcome in known):
        text += f" {_EDGE}: the highest or lowest rate tried; a better one may lie beyond."
    return text


def _signed(points: float | None) -> str:
    return "–" if points is None else f"{points:+.1f}".replace("-", "−")


def _made_by(column: Sequence[Line]) -> str:
    """Say of one column's results how many puzzles, on what, by which commits."""
    results = [result for line in column for result in line.results]
    if not results:
        return "Nothing was run at this scale yet."
    puzzles = _list(f"{line.n:,}" for line in column if line.n is not None)
    made = [result["certificate"] for result in results]
    hardware = _list(
        f"{m['threads']} thread(s) of {m['processor']}, torch {m['torch']}" for m in made
    )
    commits = _list(_short(m["commit"]) for m in made)
    data = _list(result["manifest"]["sha256"][:12] for result in results)
    return f"{puzzles} test puzzles a run; {hardware}; commit {commits}; data {data}."


def _short(commit: str | None) -> str:
    """Cut a commit, not the mark that it was changed since."""
    return commit[:7] + "+" * commit.endswith("+") if commit else "unknown"


def _list(words: Iterable[str]) -> str:
    return ", ".join(sorted(set(words)))


def _verdict(column: Sequence[Line]) -> str:
    """Say in words which rows are above the reference, which below, and which nobody can tell."""
    reference = next((line for line in column if line.is_reference), None)
    if reference is None or reference.mean is None:
        return ""
    name = reference.row.label
    groups: dict[str, list[str]] = {
        heading: []
        for heading in (
            f"Above {name}",
            f"Below {name}",
            f"Not told apart from {name}",
            "Not tested",
        )
    }
    above, below, alike, untested = groups.values()
    gains = [(line.gain, line) for line in column if line.gain is not None]
    for gain, line in sorted(gains, key=lambda pair: -pair[0]):
        settled = above if gain > 0 else below
        group = {True: settled, False: alike, None: untested}[line.differs]
        group.append(f"{line.row.label} ({_signed(gain)})")
    said = [f"{heading}: {'; '.join(rows)}" for heading, rows in groups.items() if rows]
    if lacking := sum(not line.results and not line.row.quoted for line in column):
        said.append(f"Not run: {lacking} row{'s' * (lacking > 1)}")
    return f"{'. '.join(said)}.\n\n" if said else ""


def _grid(column: list[Line], scale: str) -> tuple[list[str], list[list[str]], int | None]:
    """Write headings and rows, with a heading between blocks; also which row is the reference.

    Columns in which no row has anything to say are left out.
    """
    rows: list[list[str]] = []
    bold, block = None, ""
    for line in column:
        if line.row.block != block:
            block = line.row.block
            rows.append([block])
        bold = len(rows) if line.is_reference else bold
        rows.append(_cells(line, scale))
    return (*told(_headings(scale), rows), bold)


def _markdown(table: Table, of: dict[str, list[Line]]) -> str:
    text = f"**{table.title}** ({table.scale} scale; {table.source})\n\n"
    for name, column in of.items():
        beside = column[0].column.beside
        text += name + (f", beside the paper's {beside}" if beside != name else "") + ":\n\n"
        text += markdown(*_grid(column, table.scale))
        text += f"\n{_verdict(column)}{_made_by(column)}{_searched(column)}\n\n"
    notes = [_PASS_AT_2] if table.columns[0].measure == "pass@2" else []
    return "\n".join([text.removesuffix("\n"), *notes])


def within(text: str) -> str:
    """Leave out how a table is read, for a document that says it once for all its tables."""
    return text.removesuffix(f"\n{LEGEND}")


def _latex(table: Table, of: dict[str, list[Line]]) -> str:
    text = f"% {table.title}; {table.scale} scale; {table.source}. Needs booktabs.\n"
    for name, column in of.items():
        headings, rows, bold = _grid(column, table.scale)
        text += latex([name, *headings[1:]], rows, bold)
        notes = _made_by(column) + _searched(column)
        text += "".join(f"% {tex(note)}\n" for note in notes.split("\n\n"))
    return text


_CSV: dict[str, Callable[[Line], object]] = {
    "benchmark": lambda line: line.column.name,
    "row": lambda line: line.row.name,
    "label": lambda line: line.row.label,
    "quoted": lambda line: line.row.quoted,
    "parameters": lambda line: line.parameters,
    "depth": lambda line: line.depth,
    "paper_benchmark": lambda line: line.column.beside,
    "paper_parameters": lambda line: line.row.paper.get("parameters"),
    "paper_depth": lambda line: line.row.paper.get("depth"),
    "paper_percent": lambda line: line.paper,
    "paper_difference": lambda line: line.paper_gain,
    "mean_percent": lambda line: line.mean,
    "sd": lambda line: line.spread,
    "difference": lambda line: line.gain,
    "p_puzzles": lambda line: line.p_puzzles,
    "p_seeds": lambda line: line.p_seeds,
    "seeds": lambda line: " ".join(map(str, line.seeds)),
    "percent_by_seed": lambda line: " ".join(f"{v:.2f}" for v in line.values),
    "interval_by_seed": lambda line: " ".join(f"{a:.2f}-{b:.2f}" for a, b in line.intervals),
    "n": lambda line: line.n,
    "wall_time_min": lambda line: line.wall_time_min,
    "cpu_time_min": lambda line: line.cpu_time_min,
    "hardware": lambda line: _list(r["certificate"]["processor"] for r in line.results),
    "commit": lambda line: _list(r["certificate"]["commit"] or "unknown" for r in line.results),
}


_CSV_TUNED: dict[str, Callable[[Line], object]] = {
    "rate": lambda line: line.tuning and line.tuning.rate,
    "rate_at_edge": lambda line: line.tuning and line.tuning.rate and line.tuning.at_edge,
}


def _csv(table: Table, of: dict[str, list[Line]]) -> str:
    found = [line for column in of.values() for line in column]
    is_tuned = any(column.tune for column in table.columns)
    columns = _CSV | _CSV_TUNED if is_tuned else _CSV
    return csv_text(columns, ([read(line) for read in columns.values()] for line in found))


def plot(table: Table, of: dict[str, list[Line]], path: Path, says: str) -> None:
    """Draw the columns side by side: the paper's number, and each run with its interval."""
    panels = {
        name: [
            Dots(
                line.row.label,
                line.paper if isinstance(line.paper, float) else None,
                [(v, *i) for v, i in zip(line.values, line.intervals, strict=True)],
            )
            for line in column
            if not line.row.quoted
        ]
        for name, column in of.items()
    }
    measure = table.columns[0].measure
    label = "exact accuracy, %" if measure == "exact" else f"{measure}, %"
    dots(panels, label, path, f"{table.title}, {table.scale} scale", says)


def digest(files: dict[str, str]) -> str:
    """Name what a plot shows; it is written into the picture."""
    return hashlib.sha256(files["csv"].encode()).hexdigest()


def filled(document: str, of: dict[str, str]) -> str:
    """Put the Markdown of tables between the marks of a document."""

    def table(match: re.Match[str]) -> str:
        text = of.get(match[1])
        return match[0] if text is None else f"<!-- {match[1]} -->\n{text}<!-- end -->"

    return re.sub(r"<!-- (\S+) -->\n.*?<!-- end -->", table, document, flags=re.DOTALL)


def fill_documents(texts: dict[str, str]) -> None:
    """Put the Markdown of tables into the documents that show them."""
    for path in DOCUMENTS:
        write_text(path, filled(path.read_text(encoding="utf-8"), texts))


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all, in a folder that may be new."""
    path.parent.mkdir(exist_ok=True)
    with written_whole(path) as file:
        file.write(text.encode())


def _write_table(table: Table, found: Recorded) -> tuple[str, str]:
    """Write the files of a table; return their name without ending, and the Markdown."""
    of = lines(table, found)
    files = _texts(table, of)
    stem = f"table_{table.name}_{table.scale}"
    for ending, text in files.items():
        write_text(RENDERED / f"{stem}.{ending}", text)
    if any(line.results for column in of.values() for line in column):
        plot(table, of, RENDERED / f"{stem}.png", digest(files))
    else:
        (RENDERED / f"{stem}.png").unlink(missing_ok=True)
    return stem, within(files["md"])


def main() -> None:
    """Write everything."""
    try:
        found = recorded()
        texts = {}
        for name, scale in tables():
            stem, text = _write_table(read_table(name, scale), found)
            texts[stem] = text
            print(f"experiments/rendered/{stem}")
        fill_documents({**texts, "legend": LEGEND})
    except InputError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
