"""Put the results of runs side by side: ``python -m trm.compare logs/sudoku_4x4/runs/*``."""

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from trm.results.files import read_result
from trm.support.command_line import command
from trm.support.errors import InputError

_FILE_WIDTH = 120


def comparison(results: list[dict[str, Any]]) -> Table:
    """Draw one row per run: its last supervision step on the test puzzles."""
    table = Table(box=SIMPLE_HEAD)
    for heading in ("task", "model"):
        table.add_column(heading, no_wrap=True)
    for heading in ("parameters", "exact % (95 % interval)", "valid %", "n", "steps", "minutes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        table.add_row(*_cells(result))
    return table


def _cells(result: dict[str, Any]) -> list[str]:
    try:
        model = result["config"]["model"]["_target_"].rpartition(".")[2]
        cells = [str(result["task"]), model, f"{result['parameters']:,}"]
        if "test" in result:
            row = result["test"][-1]
            low, high = row["exact_interval"]
            interval = f"({100 * low:.1f} - {100 * high:.1f})"
            cells.append(f"{100 * row['exact_accuracy']:.1f} {interval}")
            valid = row.get("valid_accuracy")
            cells += ["" if valid is None else f"{100 * valid:.1f}", str(row["n"])]
        else:
            cells += ["not run", "", ""]
        return [*cells, str(result["steps"]), f"{result['training_wall_time_s'] / 60:.1f}"]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"no result of training ({type(error).__name__} at {error})") from None


@command()
def main(arguments: list[str] | None = None) -> int:
    """Print the table of all that are results; 2 if none is."""
    parser = argparse.ArgumentParser(prog="python -m trm.compare", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders or result.json files")
    runs = parser.parse_args(arguments).runs
    results, left_out = [], []
    for path in runs:
        try:
            result = read_result(path)
            _cells(result)
            results.append(result)
        except InputError as error:
            left_out.append(f"{path}: {error}")
    for line in left_out:
        print(f"{'left out' if results else 'error:'} {line}", file=sys.stderr)
    if not results:
        return 2
    table = comparison(results)
    # A file or pipe has no width: one row stays one line.
    Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
