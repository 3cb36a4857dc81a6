"""Put the results of runs side by side: ``python -m trm.compare logs/sudoku_4x4/runs/*``."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from trm.errors import InputError
from trm.report.results import FORMAT

_FILE_WIDTH = 120


def read_result(path: Path) -> dict[str, Any]:
    """Read the ``result.json`` of a run, given as file or as run folder.

    Raises:
        InputError: no such file, or no result of this library
    """
    file = path / "result.json" if path.is_dir() else path
    try:
        result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if result["format"] != FORMAT:
            raise InputError(f"{file} has format {result['format']}, this version reads {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} is no result of a run ({error})") from None
    return result


def comparison(results: list[dict[str, Any]]) -> Table:
    """Draw one row per run: its last supervision step on the test puzzles."""
    table = Table(box=SIMPLE_HEAD)
    for heading in ("task", "model"):
        table.add_column(heading, no_wrap=True)
    for heading in ("parameters", "exact % (95 % interval)", "valid %", "n", "steps", "minutes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        model = result["config"]["model"]["_target_"].rpartition(".")[2]
        cells = [result["task"], model, f"{result['parameters']:,}"]
        if "test" in result:
            row = result["test"][-1]
            low, high = row["exact_interval"]
            interval = f"({100 * low:.1f} - {100 * high:.1f})"
            cells.append(f"{100 * row['exact_accuracy']:.1f} {interval}")
            cells += [f"{100 * row['valid_accuracy']:.1f}", str(row["n"])]
        else:
            cells += ["not run", "", ""]
        table.add_row(*cells, str(result["steps"]), f"{result['training_wall_time_s'] / 60:.1f}")
    return table


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 2 if a result cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m trm.compare", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders or result.json files")
    runs = parser.parse_args(arguments).runs
    try:
        results = [read_result(path) for path in runs]
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    # A file or pipe has no width: one row stays one line.
    Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(comparison(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
