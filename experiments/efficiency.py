"""What an answer costs: ``python -m experiments.efficiency [--only NAME ...] [--render]``.

Each subject is measured in a process of its own, with nothing beside it: one puzzle at a time, then
a batch. Without trained weights an architecture can still be timed; it is labelled "speed only", as
are Granite's two, whose weights nobody has to download for this. Rows on Sudoku-Extreme are
measured where ``--data-path`` says where its puzzles lie, SmolLM2's if its package is installed.
Accuracy comes from result files: of the tables, of evaluations, of exports, of stored runs of
language models. Writes ``experiments/results/efficiency_DEVICE.json``; ``--render`` alone makes the
tables from it.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.efficiency_subjects import SUBJECTS, is_possible, measured
from experiments.efficiency_table import write
from experiments.table import HERE
from trm.commands import fail
from trm.results.files import FORMAT, birth_certificate, read_result, write_json
from trm.support.devices import pick_device
from trm.support.errors import InputError

RESULTS = HERE / "results"


def path(device: str) -> Path:
    """Return the file of a kind of device."""
    return RESULTS / f"efficiency_{device}.json"


def measure(names: list[str], device: str, data_path: str | None) -> None:
    """Measure subjects one after the other, and keep what was measured of the others."""
    file = path(pick_device(device).type)
    rows: dict[str, Any] = read_result(file)["measured"] if file.is_file() else {}
    for name in names:
        command = [sys.executable, "-m", "experiments.efficiency", "--in-process", name]
        command += [] if data_path is None else ["--data-path", data_path]
        print(f"{name} ...", file=sys.stderr, flush=True)
        ended = subprocess.run([*command, "--device", device], stdout=subprocess.PIPE)
        if ended.returncode:
            raise InputError(f"{name} could not be measured; it has said why")
        rows[name] = json.loads(ended.stdout.splitlines()[-1])
        write_json(file, {"format": FORMAT, "measured": rows})


def main() -> None:
    """Measure, write and render."""
    parser = argparse.ArgumentParser(prog="python -m experiments.efficiency", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", nargs="+", choices=list(SUBJECTS), help="measure these again")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-path", metavar="FOLDER", help="of Sudoku-Extreme, for its rows")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    parser.add_argument("--in-process", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if options.in_process:
            device = pick_device(options.device)
            row = measured(options.in_process, device, options.data_path)
            print(json.dumps(row | {"certificate": birth_certificate(device)}))
            return
        if not options.render:
            possible = [name for name in SUBJECTS if is_possible(name, options.data_path)]
            measure(options.only or possible, options.device, options.data_path)
        for place in write():
            print(place)
    except InputError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
