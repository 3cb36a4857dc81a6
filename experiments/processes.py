"""What do two training processes cost beside one? Strong scaling of DDP on this machine's CPU.

    python -m experiments.processes [experiment=sudoku_6x6] [key=value ...]

The same training run, with one process of one thread, one of two threads, and two of one thread
each, in turns; prints puzzles per second and their ratio to the first.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROUNDS = 3
DEFAULT = ["experiment=sudoku_6x6"]
SETTINGS = (
    "trainer.max_steps=60",
    "trainer.val_check_interval=1000",
    "data.train=256",
    "data.val=64",
    "test.limit=0",
)
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
ONE = ("trainer=cpu",)
WAYS = {
    "1 process, 1 thread": (1, ONE),
    "1 process, 2 threads": (2, ONE),
    "2 processes, 1 thread each": (1, TWO),
}


def puzzles_per_s(threads: int, arguments: list[str]) -> float:
    """Train once and read the speed from the result."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        overrides = [*arguments, f"run_dir={run}"]
        ended = subprocess.run(
            [sys.executable, "-m", "trm.train", *overrides],
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.DEVNULL,
        )
        if ended.returncode:  # it has said why
            sys.exit(ended.returncode)
        result = json.loads((run / "result.json").read_text())
    trained: int = result["steps"] * result["config"]["train"]["batch_size"]
    return float(trained / result["training_wall_time_s"])


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(prog="python -m experiments.processes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("overrides", nargs="*", default=DEFAULT, help="of trm.train")
    given = parser.parse_args().overrides
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(ROUNDS):
        for name, (threads, arguments) in WAYS.items():
            speeds[name].append(puzzles_per_s(threads, [*given, *SETTINGS, *arguments]))
    first = speeds[next(iter(WAYS))]
    for name, found in speeds.items():
        ratios = sorted(x / y for x, y in zip(found, first, strict=True))
        print(
            f"{name:28} {median(found):7.1f} puzzles/s   × {median(ratios):.2f} "
            f"({ratios[0]:.2f} - {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
