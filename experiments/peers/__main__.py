"""Train and time other open implementations of TRM beside ours, on the same 6x6 Sudoku puzzles.

    python -m experiments.peers --released FOLDER [--only NAME ...] [--render]

nano-trm and tiny-recursive-model get an environment each in the folder ``--work`` (torch and some
1 GB each; where pip finds a CPU build of torch, that one). The released code is a checkout of
SamsungSAILMontreal/TinyRecursiveModels at commit e7b6871, outside of this repository. Processes of
one thread take turns. First speed: some training steps and a few puzzles answered, round after
round; then learning: accuracy against steps and seconds. Writes ``results/peers_cpu.json`` and
prints the table; a document that holds ``<!-- peers_cpu -->`` and ``<!-- end -->`` gets it, too.
``--render`` measures nothing. A peer that fails is reported in words, and the others stay.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.peers.drive_ours import EXPERIMENT
from experiments.peers.drive_released import check_checkout
from experiments.peers.environments import check_work, interpreter
from experiments.peers.subjects import OURS, RELEASED, SUBJECTS
from experiments.peers.table import NAME, rendered
from experiments.peers.turns import Setting
from experiments.peers.workers import Job, in_turns
from experiments.render import DOCUMENTS, fill_documents
from experiments.table import HERE, compose
from trm.commands import fail
from trm.data.loading import load_data
from trm.data.sampler import Sampler
from trm.results.files import FORMAT, birth_certificate, read_result, write_json
from trm.support.build import build
from trm.support.devices import pick_device
from trm.support.errors import InputError, check_at_least, check_choice
from trm.support.files import check_writable
from trm.tasks.base import Task

RESULT = HERE / "results" / f"{NAME}.json"
_WORK = Path.home() / ".cache" / "trm-peers"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m experiments.peers", description=__doc__)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("--released", type=Path, help="checkout of the released code")
    made.add_argument("--work", type=Path, default=_WORK, help="environments (~/.cache/trm-peers)")
    made.add_argument("--only", nargs="+", metavar="NAME", help=f"of {', '.join(SUBJECTS)}")
    made.add_argument("--precision", default="float32", help="or bfloat16")
    made.add_argument("--rounds", type=int, default=6, help="of the comparison of speed (6)")
    made.add_argument("--steps", type=int, default=10, help="training steps of a round (10)")
    made.add_argument("--learn", type=int, default=600, help="training steps in learning (600)")
    made.add_argument("--every", type=int, default=100, help="steps between two points (100)")
    made.add_argument("--minutes", type=float, default=60, help="of learning, at most (60)")
    made.add_argument("--puzzles", type=int, default=500, help="test puzzles of a point (500)")
    made.add_argument("--output", type=Path, default=RESULT, help="file of the numbers")
    made.add_argument("--render", action="store_true", help="measure nothing")
    return made


def measure(options: argparse.Namespace, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compare the subjects that the command line names; ours is always among them.

    Args:
        options: of ``parser``
        overrides: of the experiment

    Raises:
        InputError: an argument is wrong, a peer cannot be installed, or ours fails
    """
    names = _names(options)
    config = compose((EXPERIMENT, *overrides))
    check_work(options.work)
    pythons = {name: interpreter(name, options.work.absolute()) for name in names}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        setting, manifest = _prepare(config, options, folder)
        # In the comparison of speed all batches are full, from the first step to the last.
        speed = replace(
            setting,
            turns=options.rounds,
            steps=options.steps,
            answered=setting.batch_size,
            halts=False,
        )
        found = {}
        limits = {"speed": math.inf, "learning": 60 * options.minutes}
        for phase, told in (("speed", speed), ("learning", setting)):
            print(f"{phase}: {', '.join(names)} ...", file=sys.stderr, flush=True)
            jobs = {
                name: Job(
                    pythons[name],
                    SUBJECTS[name].driver,
                    replace(told, hidden_multiple=SUBJECTS[name].hidden_multiple),
                )
                for name in names
            }
            found[phase] = in_turns(jobs, folder, limits[phase])
    subjects = {name: _together(found["speed"][name], found["learning"][name]) for name in names}
    subjects |= {name: {"failed": "not run"} for name in SUBJECTS if name not in names}
    for name, measured in subjects.items():
        if name in names and "failed" in measured:
            print(f"{name} failed: {measured['failed']}", file=sys.stderr)
    if "failed" in subjects[OURS]:
        raise InputError(
            f"{OURS} could not be measured ({subjects[OURS]['failed']}); without it there is "
            f"nothing to compare with"
        )
    told_once = {
        key: value
        for key, value in setting.__dict__.items()
        if key not in ("puzzles", "checkout", "hidden_multiple", "turns", "steps", "halts")
    }
    return {
        "format": FORMAT,
        "setting": told_once,
        "subjects": {name: subjects[name] for name in SUBJECTS},
        "manifest": manifest,
        "device": "cpu",
        "certificate": birth_certificate(pick_device("cpu")) | {"threads": 1},
    }


def _names(options: argparse.Namespace) -> list[str]:
    """Check the arguments, and return who is to be measured."""
    for name in options.only or []:
        check_choice(SUBJECTS, "--", only=name)
    check_choice(("float32", "bfloat16"), "--", precision=options.precision)
    check_at_least(1, "--", rounds=options.rounds, puzzles=options.puzzles)
    check_at_least(2, "--", steps=options.steps, every=options.every)  # the first never counts
    check_at_least(options.every, "--", learn=options.learn)
    check_writable(options.output, "--output=")
    wanted = options.only or [
        name for name in SUBJECTS if name != RELEASED or options.released is not None
    ]
    if RELEASED in wanted:
        if options.released is None:
            raise InputError("--only=released needs --released=FOLDER, a checkout of that code")
        check_checkout(options.released)
    return [name for name in SUBJECTS if name in wanted or name == OURS]


def _prepare(
    config: dict[str, Any], options: argparse.Namespace, folder: Path
) -> tuple[Setting, dict[str, Any]]:
    """Write the puzzles that all share, and say what learning is told."""
    task = build(config["task"], Task, "task")
    data = load_data(config["data"], task)
    train, test = data.splits["train"], data.splits["test"]
    turns = options.learn // options.every
    steps = max(turns * options.every, options.rounds * options.steps)
    size = config["train"]["batch_size"]
    sampler = Sampler(train, task, size, config["seed"], data.augmentations)
    batches = [sampler.batch(k) for k in range(steps)]
    arrays = {
        "x_batches": torch.stack([batch.x_input for batch in batches]).numpy().astype(np.uint8),
        "y_batches": torch.stack([batch.y_true for batch in batches]).numpy().astype(np.uint8),
    }
    arrays |= {"x_train": train.x_input, "y_train": train.y_true}
    arrays |= {"x_test": test.x_input, "y_test": test.y_true}
    np.savez(folder / "puzzles.npz", allow_pickle=False, **arrays)
    model, optimizer, told = config["model"], config["optimizer"], config["train"]
    checkout = None if options.released is None else str(options.released.resolve())
    setting = Setting(
        puzzles=str(folder / "puzzles.npz"),
        **{key: model[key] for key in ("dim", "layers", "n", "T", "expansion", "hidden_multiple")},
        **{key: told[key] for key in ("N_sup", "batch_size", "warmup_steps", "halt_exploration")},
        **{key: optimizer[key] for key in ("lr", "betas", "weight_decay")},
        ema=config["ema"]["decay"],
        vocab_size=task.vocab_size,
        cells=task.cells,
        precision=options.precision,
        seed=config["seed"],
        turns=turns,
        steps=options.every,
        answered=min(options.puzzles, len(test)),
        halts=True,
        checkout=checkout,
    )
    return setting, data.manifest


def _together(speed: dict[str, Any], learning: dict[str, Any]) -> dict[str, Any]:
    """Join what was found of a subject; one failure is enough."""
    for found in (speed, learning):
        if "failed" in found:
            return found
    keys = ("ms_per_step", "answered_per_s")
    return {
        "parameters": speed["parameters"],
        "versions": speed["versions"],
        "speed": {key: [turn[key] for turn in speed["turns"]] for key in keys},
        "learning": learning["turns"],
    }


def show(file: Path) -> None:
    """Print the table of a result file, and put it into the documents that have a place for it."""
    text = rendered(read_result(file))
    print(text, end="")
    mark = f"<!-- {NAME} -->"
    if file == RESULT and any(mark in path.read_text(encoding="utf-8") for path in DOCUMENTS):
        fill_documents({NAME: text})


def main() -> None:
    """Measure, write and render."""
    options = parser().parse_args()
    try:
        if not options.render:
            write_json(options.output, measure(options))
        show(options.output)
    except InputError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
