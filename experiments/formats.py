"""Tables as text: Markdown, LaTeX with booktabs, CSV."""

import csv
import io
from collections.abc import Collection, Iterable, Sequence

_TEX = {"%": r"\%", "±": r"$\pm$", "Δ": r"$\Delta$", "−": "$-$", "≠": r"$\neq$", "≈": r"$\approx$"}
_TEX |= {"×": r"$\times$", "–": "--", "₂": "$_2$", "†": r"$\dagger$", "~": r"\textasciitilde{}"}
_TEX |= {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}"}
_TEX |= {letter: rf"\{letter}" for letter in "_&$#{}"}

Rows = Sequence[Sequence[str]]  # a row of one cell is a heading between the others


def told(
    headings: Sequence[str], rows: Rows, nothing: Collection[str] = ("–",)
) -> tuple[list[str], list[list[str]]]:
    """Leave out the columns in which no row says more than one of the words for nothing."""
    whole = [row for row in rows if len(row) > 1]
    kept = [k for k in range(len(headings)) if any(row[k] not in nothing for row in whole)]
    cells = [list(row) if len(row) == 1 else [row[k] for k in kept] for row in rows]
    return [headings[k] for k in kept], cells


def markdown(headings: Sequence[str], rows: Rows, bold: int | None = None) -> str:
    """Write a table, its first column to the left and the others to the right.

    Args:
        headings: of the columns
        rows: cells
        bold: row that stands out
    """
    lines = [_piped(headings), _piped(["---", *["--:"] * (len(headings) - 1)])]
    for place, row in enumerate(rows):
        cells = [f"*{row[0]}*", *[""] * (len(headings) - 1)] if len(row) == 1 else row
        if place == bold:
            cells = [f"**{cell}**" if cell not in ("", "–") else cell for cell in cells]
        lines.append(_piped(cells))
    return "\n".join(lines) + "\n"


def latex(headings: Sequence[str], rows: Rows, bold: int | None = None) -> str:
    """Write the same as a ``tabular`` with the rules of booktabs."""
    width = len(headings)
    lines = [r"\begin{tabular}{l" + "r" * (width - 1) + "}", r"\toprule"]
    lines += [_joined(map(tex, headings)), r"\midrule"]
    for place, row in enumerate(rows):
        if len(row) == 1:
            rule = [r"\midrule"] if place else []
            lines += [*rule, rf"\multicolumn{{{width}}}{{l}}{{\emph{{{tex(row[0])}}}}} \\"]
            continue
        cells = map(tex, row)
        lines.append(
            _joined(rf"\textbf{{{cell}}}" for cell in cells) if place == bold else _joined(cells)
        )
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def csv_text(headings: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Write plain values; numbers with four significant digits, None as nothing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows([_plain(value) for value in row] for row in rows)
    return text.getvalue()


def tex(text: str) -> str:
    """Escape what LaTeX would take for something else."""
    return "".join(_TEX.get(letter, letter) for letter in text)


def _piped(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _joined(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _plain(value: object) -> object:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else value
