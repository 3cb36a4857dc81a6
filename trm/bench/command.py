"""Measure what training and evaluation steps cost: ``python -m trm.bench sudoku_6x6 maze_10x10``.

Experiments are named as in ``conf/experiment``, ablations joined to them by ``+``; without a name
all shipped ones are measured. What contains ``=`` overrides their config. Real training runs, with
Lightning, are clocked; unless data.path is given, cells at random stand in for puzzles.

A trained model, a file, a folder or a name such as ``sudoku-6x6``, is measured in evaluation alone.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trm.bench.evaluating import EvaluationCost, evaluation_cost
from trm.bench.measuring import Measurement, Subject, measure
from trm.checkpoints.opening import open_for
from trm.checkpoints.opening import shipped as models_shipped
from trm.commands import MENDABLE, composed, one_line, quiet_lightning
from trm.data.loading import load_data
from trm.data.stand_in import stand_in
from trm.report.fitting import Fitting
from trm.results.files import FORMAT, birth_certificate, write_json
from trm.support.build import build
from trm.support.command_line import add_settings, argument_parser, command, settings_of
from trm.support.devices import keep_freed_memory, pick_device
from trm.support.errors import InputError
from trm.support.files import CONF, check_writable
from trm.tasks.base import Task
from trm.training.config import TrainingConfig

_FILE_WIDTH = 1000  # a file or pipe has none: one row stays one line
_TRAINING = (  # headings
    *("ms / step\n(min - max)", "puzzles/s", "Gflop", "Gflop/s", "% of ceiling"),
    "% at its\nshapes",
)


def shipped() -> list[str]:
    """Name the experiments."""
    return sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))


def subject(words: list[str], device: torch.device, batch_size: int | None) -> Subject:
    """Compose the config of one experiment.

    Args:
        words: an experiment, ablations joined by ``+``, and overrides
        device: where to run
        batch_size: puzzles per step; None for the config's, on a CPU at most what takes seconds

    Raises:
        InputError: no or several experiments
    """
    names = [word for word in words if "=" not in word]
    if len(names) != 1:
        raise InputError(f"{' '.join(words)!r} must name one experiment, such as sudoku_6x6")
    experiment, *ablations = names[0].split("+")
    overrides = [f"experiment={experiment}", f"ablation=[{','.join(ablations)}]", *words]
    overrides.remove(names[0])
    config = TrainingConfig.of(composed("train", overrides))
    task = build(config.task, Task, "task")
    is_given = config.data.get("path") is not None
    data = load_data(config.data, task) if is_given else stand_in(task, config.data)
    return Subject(" ".join(words), config, task, data, device, batch_size)


def costs_table(measured: Sequence[EvaluationCost]) -> Fitting:
    """Draw one row per experiment or model: what a step costs and how close it is to the ceiling.

    More than 100 % at its shapes is attention that never writes its scores down, as the products
    alone would have to. In evaluation a step is a supervision step, and a puzzle takes them all.
    """
    ceiling, device = measured[0].ceiling, measured[0].device
    table = Table(
        title=f"{device}, {torch.get_num_threads()} threads, ceiling {ceiling / 1e9:.0f} Gflop/s",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    training = any(isinstance(found, Measurement) for found in measured)
    table.add_column("experiment" if training else "model")
    for heading in (
        *("parameters", "batch"),
        *(_TRAINING if training else ()),
        *("evaluation\nms / step", "ms / step\nand puzzle", "evaluated\npuzzles/s"),
        *("evaluation\nGflop/s", "evaluation\n% of ceiling", "peak MB"),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for found in measured:
        no_training = [""] * len(_TRAINING) * training
        table.add_row(
            Text(found.name),
            f"{found.parameters:,}",
            str(found.batch_size),
            *(_training_cells(found) if isinstance(found, Measurement) else no_training),
            f"{1e3 * found.evaluation_s:.1f}",
            f"{1e3 * found.evaluation_s / found.batch_size:.3g}",
            f"{found.evaluated_per_s:.1f}",
            f"{found.evaluation_flops / found.evaluation_s / 1e9:.1f}",
            f"{100 * found.evaluation_share:.0f}",
            f"{found.peak_bytes / 1e6:.0f}",
        )
    return Fitting(table)


def _training_cells(found: Measurement) -> list[str]:
    low, high = 1e3 * min(found.step_s), 1e3 * max(found.step_s)
    return [
        f"{1e3 * found.median_s:.1f} ({low:.1f} - {high:.1f})",
        f"{found.batch_size / found.median_s:.1f}",
        f"{found.flops / 1e9:.1f}",
        f"{found.flops / found.median_s / 1e9:.1f}",
        f"{100 * found.share_of_ceiling:.0f}",
        f"{100 * found.share_at_shapes:.0f}",
    ]


def parts_table(measured: list[Measurement]) -> Fitting:
    """Draw where the time of a step goes, in percent."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("% of a step")
    names = list(dict.fromkeys(name for found in measured for name in found.parts))
    for name in names:
        table.add_column(name, justify="right")
    for found in measured:
        shares = [found.parts.get(name) for name in names]
        table.add_row(Text(found.name), *("" if x is None else f"{100 * x:.1f}" for x in shares))
    return Fitting(table)


@command(MENDABLE, partial(one_line, config_name="train"))
def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 2 if an argument is wrong."""
    parser = argument_parser(
        "trm.bench", __doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="experiments, key=value overrides, models")
    parser.add_argument("--against", help="a second config, measured in turns: 'NAME key=value'")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--batch", type=int, help="puzzles per step")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each config (3)")
    parser.add_argument("--seconds", type=float, default=4, help="to clock in each run (4)")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    add_settings(parser)
    options = parser.parse_intermixed_args(arguments)
    quiet_lightning(None)
    keep_freed_memory()
    console = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
    with _no_advice():
        measured, ratios = _measured(options)
    console.print(costs_table(measured))
    if trained := [found for found in measured if isinstance(found, Measurement)]:
        console.print(parts_table(trained))
    for line in ratios:
        console.print(line, highlight=False)
    if options.json is not None:
        device = measured[0].device
        write_json(
            options.json,
            {
                "format": FORMAT,
                "device": str(device),
                "certificate": birth_certificate(device),
                "measured": [found.report() for found in measured],
            },
        )
    return 0


@contextmanager
def _no_advice() -> Iterator[None]:
    """Keep the library's warnings back: they are about whole runs, not about a few steps."""
    log = logging.getLogger("trm")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _measured(options: argparse.Namespace) -> tuple[list[EvaluationCost], list[str]]:
    """Measure what the command line names, and compare."""
    if min(options.rounds, options.seconds) <= 0 or (options.batch or 1) < 1:
        raise InputError("--rounds, --seconds and --batch must be positive")
    if options.json is not None:
        check_writable(options.json, "--json ")
    device = pick_device(options.device)
    models = [word for word in options.words if _is_model(word)]
    names = [word for word in options.words if "=" not in word and word not in models]
    _check_words(options, models, names)
    overrides = [word for word in options.words if word not in (*models, *names)]
    opened = [(model, open_for(model, options.task, settings_of(options))) for model in models]
    named = names or ([] if models else shipped())
    subjects = [[subject([name, *overrides], device, options.batch)] for name in named]
    if options.against is not None:
        if len(subjects) != 1 or models:
            raise InputError("--against compares two configs; name one experiment before it")
        subjects[0].append(subject(options.against.split(), device, options.batch))
    trained = [
        found for group in subjects for found in measure(group, options.rounds, options.seconds)
    ]
    evaluated = [evaluation_cost(*each, device, options.batch, options.rounds) for each in opened]
    return [*trained, *evaluated], [] if options.against is None else [_ratio(*trained)]


def _is_model(word: str) -> bool:
    """Tell a trained model from an experiment of that name."""
    is_experiment = word.partition("+")[0] in shipped()
    return not is_experiment and (word in models_shipped() or os.path.exists(word))


def _check_words(options: argparse.Namespace, models: list[str], names: list[str]) -> None:
    """Refuse names that are neither, and what is said of nothing.

    Raises:
        InputError: listing the experiments and models there are
    """
    for name in names:
        if (experiment := name.partition("+")[0]) not in shipped():
            close = get_close_matches(experiment, [*shipped(), *models_shipped()], n=1)
            meant = f"did you mean {close[0]}? " if close else ""
            raise InputError(
                f"{experiment} is no experiment, nor a model file or folder; {meant}experiments: "
                f"{', '.join(shipped())}; models: {', '.join(models_shipped())}"
            )
    overrides = len(options.words) - len(models) - len(names)
    if models and not names and overrides:
        raise InputError(f"key=value changes an experiment, and {models[0]} is a trained model")
    if not models and (options.task is not None or settings_of(options)):
        raise InputError("--task and the like describe a model file; name one")


def _ratio(one: Measurement, other: Measurement) -> str:
    """Compare the speeds of two configs that trained in turns."""
    pairs = [b / a for a, b in zip(one.step_s, other.step_s, strict=True)]
    per_puzzle = one.batch_size / other.batch_size
    ratios = sorted(per_puzzle * ratio for ratio in pairs)
    return (
        f"{one.name} trains {ratios[len(ratios) // 2]:.2f} times as many puzzles per second as "
        f"{other.name} (runs in turns: {ratios[0]:.2f} - {ratios[-1]:.2f})"
    )
