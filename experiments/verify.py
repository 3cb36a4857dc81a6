"""Repeat a recipe with a new seed: does it give what is expected?

    python -m experiments.verify experiment=sudoku_6x6 [key=value ...] [--threads 1]

Any recipe will do that has results of two seeds or more among ``experiments/results/tables``: those
of ``table_recipes.yaml``, or a row of a table, with the words that ``experiments.run dry=true``
prints. What is expected is Student's 95 % prediction interval for one more run. Exit status 0:
within it; 1: outside; 2: it could not be told.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from experiments.numbers import expected_band, value
from experiments.table import data_checksum, recipe_hash, recorded, training_config
from trm.commands import MENDABLE
from trm.results.files import read_result
from trm.support.command_line import command
from trm.support.errors import InputError, check_at_least


def known_values(overrides: tuple[str, ...]) -> dict[int, float]:
    """Return what earlier runs of a recipe came to in %, by seed.

    Raises:
        InputError: fewer than two of them, or none on the data as they are now
    """
    config = training_config(overrides)
    recipe, checksum = recipe_hash(config.plain), data_checksum(config)
    mine = {
        seed: result
        for (recorded_recipe, seed), result in recorded().items()
        if recorded_recipe == recipe and result["manifest"]["sha256"] == checksum
    }
    if any("pass_at" in result for result in mine.values()):
        raise InputError(
            f"{' '.join(overrides)} is known by its votes, which one training run does not tell; "
            "use experiments.run with a new seed"
        )
    values = {seed: 100 * value(result) for seed, result in mine.items()}
    if len(values) < 2:
        raise InputError(
            f"{len(values)} results are known of {' '.join(overrides)}, and two or more are needed "
            "to say what to expect; experiments/tables lists recipes that have them"
        )
    return values


def repeat(overrides: tuple[str, ...], seed: int, threads: int) -> float:
    """Train with a seed and return the accuracy in %.

    Raises:
        InputError: training failed; it has said why
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command = [sys.executable, "-m", "trm.train", *overrides, f"seed={seed}", f"run_dir={run}"]
        ended = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
        if ended.returncode:
            raise InputError(f"training ended with exit status {ended.returncode}")
        return 100 * value(read_result(run))


@command(MENDABLE, lambda error: " ".join(str(error).split()))
def main() -> int:
    """Repeat and judge."""
    parser = argparse.ArgumentParser(prog="python -m experiments.verify", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("overrides", nargs="+", help="of trm.train, such as experiment=sudoku_6x6")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    options = parser.parse_args()
    overrides = tuple(options.overrides)
    check_at_least(1, "--", threads=options.threads)
    if any(text.startswith("seed=") for text in overrides):
        raise InputError("the seed is a new one; leave seed=... out")
    known = known_values(overrides)
    low, high = expected_band(list(known.values()))
    seed = max(known) + 1
    known_text = ", ".join(f"{known[s]:.1f}" for s in sorted(known))
    print(f"known: {known_text} %; expected of seed {seed}: {low:.1f} to {high:.1f} %", flush=True)
    accuracy = repeat(overrides, seed, options.threads)
    within = low <= accuracy <= high
    print(f"{accuracy:.1f} %: {'as expected' if within else 'NOT as expected'}")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
