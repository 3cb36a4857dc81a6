"""Encode, augment, undo and decode every grid of every ARC file: is it the same grid?

    python -m experiments.arc_round_trip FOLDER

50 random augmentations for each task of each subset, and the vectorised canvases that training uses
against plain numpy.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from trm.commands import fail
from trm.data.arc.augmentations import distinct_augmentations
from trm.data.arc.builder import ArcBuilder
from trm.data.arc.files import read_subset
from trm.support.errors import InputError
from trm.tasks.arc import augmented, crop, to_canvas, undone

SUBSETS = ("training", "evaluation", "training2", "evaluation2", "evaluation2-20250515", "concept")
AUGMENTATIONS = 50


def main() -> None:
    """Print a line per subset; any difference is an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for subset in SUBSETS:
        start, grids = time.perf_counter(), 0
        try:
            tasks = read_subset(folder, subset)
        except InputError as error:
            fail(str(error))
        for task in tasks.values():
            pairs = [*task.demonstrations, *zip(task.questions, task.solutions, strict=True)]
            turns, colours = distinct_augmentations(task, AUGMENTATIONS, seed=0)
            builder = ArcBuilder(AUGMENTATIONS, seed=0)
            builder.add(task, "test")
            canvases = builder.tables().canvases
            for number, grid in enumerate(grid for pair in pairs for grid in pair):
                every = torch.arange(1, len(turns) + 1)
                where = torch.full_like(every, number)
                ours = canvases(where, every, torch.zeros(len(every), 2).long()).numpy()
                for row, which, permutation in zip(ours, turns, colours.numpy(), strict=True):
                    canvas = to_canvas(augmented(grid, int(which), permutation))
                    assert np.array_equal(canvas, row), (subset, task.name)
                    assert np.array_equal(undone(crop(canvas), int(which), permutation), grid)
                    grids += 1
        seconds = time.perf_counter() - start
        print(f"{subset:22} {len(tasks):5} tasks, {grids:8,} grids the same, {seconds:.0f} s")


if __name__ == "__main__":
    main()
