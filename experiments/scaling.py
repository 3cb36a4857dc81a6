"""How does the cost of a step grow with batch, sequence length, width and supervision steps?

    python -m experiments.scaling [--device cpu] [--quick]

Times forward, loss and backward of a training step (evaluation, for supervision steps) on cells at
random, fits exponents, and writes ``results/scaling_<device>.json`` and ``.png``.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from trm.bench.ceiling import seconds
from trm.commands import fail
from trm.data import Batch
from trm.inference.evaluation import answers
from trm.models import TinyRecursiveModel
from trm.models.likelihoods import stablemax_cross_entropy
from trm.models.network import Mixing, Positions
from trm.report.plots import Curve, exponent, power_laws
from trm.results.files import FORMAT, birth_certificate, write_json
from trm.support.devices import pick_device
from trm.support.errors import InputError
from trm.training.losses import step_loss

RESULTS = Path(__file__).parent / "results"
MIXING: dict[Mixing, Positions] = {"attention": "rotary", "mlp": "none"}
VOCABULARY = 11
BATCH, SIDE, DIM = 8, 9, 128  # where the others vary
VARIED = {
    "batch": [1, 2, 4, 8, 16, 32, 64],
    "cells": [81, 144, 225, 400, 625, 900],
    "width": [64, 128, 256, 512],
    "supervision steps": [1, 2, 4, 8, 16],
}
QUICK = {name: values[:2] for name, values in VARIED.items()}


def work(
    mixing: Mixing, batch: int, cells: int, dim: int, device: torch.device
) -> Callable[[], None]:
    """Return a function that takes one training step, optimizer aside."""
    model, puzzles = subject(mixing, batch, cells, dim, device)
    state = model.initial_state(batch)

    def step() -> None:
        model.zero_grad()
        taken = model(puzzles.x_input, puzzles.puzzle_id, state)
        step_loss(taken, puzzles.y_true, stablemax_cross_entropy).total.sum().backward()

    return step


def subject(
    mixing: Mixing, batch: int, cells: int, dim: int, device: torch.device
) -> tuple[TinyRecursiveModel, Batch]:
    """Return a model and puzzles of cells at random."""
    model = TinyRecursiveModel(
        VOCABULARY, cells, dim=dim, mixing=mixing, positions=MIXING[mixing]
    ).to(device)
    tokens = torch.randint(1, VOCABULARY, (batch, cells), device=device)
    return model, Batch(tokens, tokens, torch.zeros_like(tokens[:, 0]))


def curve(mixing: Mixing, varied: str, values: list[int], device: torch.device) -> Curve:
    """Time steps of one kind in milliseconds."""
    points = []
    for value in values:
        settings = {"batch": BATCH, "cells": SIDE**2, "width": DIM} | {varied: value}
        shape = settings["batch"], settings["cells"], settings["width"]
        if varied == "supervision steps":
            model, puzzles = subject(mixing, *shape, device)
            timed: Callable[[], object] = partial(answers, model, puzzles, value)
        else:
            timed = work(mixing, *shape, device)
        points.append((value, 1e3 * seconds(timed, device)))
        print(f"{mixing:10} {varied} {value:5}  {points[-1][1]:9.1f} ms", flush=True)
    return points


def main() -> None:
    """Measure, write and draw."""
    parser = argparse.ArgumentParser(prog="python -m experiments.scaling", description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="two points a curve")
    options = parser.parse_args()
    try:
        device = pick_device(options.device)
    except InputError as error:
        fail(str(error))
    torch.manual_seed(0)
    panels: dict[str, dict[str, Curve]] = {
        varied: {mixing: curve(mixing, varied, values, device) for mixing in MIXING}
        for varied, values in (QUICK if options.quick else VARIED).items()
    }
    stem = RESULTS / f"scaling_{device.type}"
    write_json(
        stem.with_suffix(".json"),
        {
            "format": FORMAT,
            "fixed": {"batch": BATCH, "cells": SIDE**2, "width": DIM, "n": 6, "T": 3},
            "ms": panels,
            "exponents": {
                varied: {mixing: exponent(points) for mixing, points in curves.items()}
                for varied, curves in panels.items()
            },
            "device": str(device),
            "certificate": birth_certificate(device),
        },
    )
    labels = {name: f"{name} (evaluation)" if name.startswith("super") else name for name in panels}
    drawn = {labels[name]: curves for name, curves in panels.items()}
    power_laws(drawn, "ms per step", stem.with_suffix(".png"))


if __name__ == "__main__":
    main()
