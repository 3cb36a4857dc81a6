"""Draw what the networks without a size solve, pass by pass: ``python -m experiments.laptop``.

From the evaluations in ``results/laptop_*.json``, each made by ``trm.evaluate`` with the compute
that it names; writes ``rendered/laptop.png``.
"""

import hashlib
import json

from experiments.render import RENDERED
from experiments.table import HERE
from trm.commands import fail
from trm.report.compute import point
from trm.report.plots import Band, banded
from trm.results.files import read_result
from trm.support.errors import InputError

_FIRST_DRAWN = 16  # passes
_PANELS = {
    "passes, Sudoku-Extreme": {
        "one trajectory, exact": ("laptop_sudoku", "exact"),
        "with a search, exact": ("laptop_sudoku_search", "exact"),
    },
    "passes, Maze-Hard": {
        "one trajectory, exact": ("laptop_maze_hard", "exact"),
        "until valid, exact": ("laptop_maze_hard_first_valid", "exact"),
        "until valid, optimal": ("laptop_maze_hard_first_valid", "optimal"),
        "until valid, valid": ("laptop_maze_hard_first_valid", "valid"),
    },
}


def panels() -> dict[str, dict[str, Band]]:
    """Return accuracy in % with its interval against passes, by label of the axis and curve.

    Raises:
        InputError: a result file that is missing or damaged
    """
    return {
        label: {name: _band(*where) for name, where in curves.items()}
        for label, curves in _PANELS.items()
    }


def _band(stem: str, measure: str) -> Band:
    rows = read_result(HERE / "results" / f"{stem}.json")["evaluation"]
    return [point(row["step"], row, measure) for row in rows if row["step"] >= _FIRST_DRAWN]


def digest() -> str:
    """Name what the picture shows; it is written into it."""
    return hashlib.sha256(json.dumps(panels()).encode()).hexdigest()


def main() -> None:
    """Draw."""
    title = "sudoku-laptop and maze-laptop"
    try:
        banded(panels(), "accuracy %", RENDERED / "laptop.png", title, digest())
    except InputError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
