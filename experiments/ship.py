"""Make a run into a model that comes with the package: weights, config and card.

``python -m experiments.ship RUN NAME`` writes ``trm/pretrained/NAME``. The card says what was
trained, how it was tested and by which commit; its numbers come from the run's ``result.json``.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from trm.checkpoints import native
from trm.checkpoints.opening import save
from trm.models.structured import StructuredModel
from trm.report.tables import percent
from trm.results.files import read_result
from trm.support.command_line import command
from trm.support.errors import InputError

_PRETRAINED = Path(__file__).parents[1] / "trm" / "pretrained"
_MOST_BYTES = 2_000_000  # of the weights
_LEAVING = {  # how long a puzzle is thought about, by compute.stop
    "all": "after",
    "first_halted": "until it says solved, at most",
    "first_valid": "until an answer is valid, at most",
    "all_valid": "until all views' answers are valid, of which the shortest counts, at most",
}
_LEFT_OUT = ("run_dir", "ckpt_path", "init_from", "logger", "callbacks", "trainer", "debug")


def ship(run: Path, name: str, evaluations: Sequence[Path] = (), note: str | None = None) -> Path:
    """Write the folder and return it.

    Args:
        run: folder of a finished run
        name: of the model
        evaluations: files that ``trm.evaluate output=`` wrote of it, for the card
        note: what else the card should say of its training

    Raises:
        InputError: no finished run with test accuracy, or weights that are too large
    """
    result = read_result(run)
    if "test" not in result:
        raise InputError(f"{run} was not tested; train it with test.limit=null")
    checkpoint = native.read(run / result["checkpoint"])
    model, folder = checkpoint.model(), _PRETRAINED / name
    size = sum(4 * tensor.numel() for tensor in model.state_dict().values())
    if size > _MOST_BYTES:
        raise InputError(f"{run} has weights of {size:,} bytes; {_MOST_BYTES:,} are the most")
    config = {key: value for key, value in checkpoint.config.items() if key not in _LEFT_OUT}
    for part in (config, *(config.get("sizes") or [])):
        if "path" in part.get("data", {}):  # of one machine
            part["data"] = {**part["data"], "path": None}
    manifest = checkpoint.contents["trm"]["manifest"]
    how = {"config": config, "manifest": manifest, "step": checkpoint.step}
    folder.mkdir(parents=True, exist_ok=True)
    save(model, folder, checkpoint.task(), how)
    (folder / "model.safetensors").chmod(0o644)  # it is written for its owner alone
    command = " ".join(["python -m trm.train", *_shared(checkpoint.overrides)])
    rows = [_evaluated(json.loads(path.read_text())) for path in evaluations]
    card = _card(name, result, command, rows, note, model.any_size)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def _evaluated(numbers: dict[str, Any]) -> str:
    """Say in a row of the card what an evaluation found."""
    last, compute = numbers["evaluation"][-1], numbers["compute"]
    shares = ", ".join(
        f"{measure} {100 * last[f'{measure}_accuracy']:.1f} % "
        f"({percent(last[f'{measure}_interval'])})"
        for measure in ("exact", "valid", "optimal")
        if f"{measure}_accuracy" in last
    )
    how = "with a search of at most" if compute["search"] else _LEAVING[compute["stop"]]
    return (
        f"| {numbers['task']}, {numbers['manifest']['source'].partition(';')[0]} | {shares}; "
        f"{last['n']:,} {numbers['split']} puzzles {how} {compute['max_steps']} steps |"
    )


def _shared(overrides: list[str]) -> list[str]:
    own = ("run_dir=", "ckpt_path=", "checkpoint.")
    shown = [text for text in overrides if not text.startswith(own)]
    of_one_machine = [(r"\b(path[:=])[^,}]+", r"\1FOLDER"), (r"^(init_from=).*", r"\1RUN")]
    for pattern, name in of_one_machine:
        shown = [re.sub(pattern, name, text) for text in shown]
    return shown


def _kind(model: Mapping[str, Any]) -> str:
    """Say what a network is: those of any size are not the paper's."""
    if issubclass(resolve_name(model["_target_"]), StructuredModel):
        return "A network that knows its puzzles' structure and no size, in the paper's loop,"
    return "A Tiny Recursive Model"


def _card(
    name: str,
    result: dict[str, Any],
    command: str,
    evaluated: list[str],
    note: str | None,
    any_size: bool,
) -> str:
    last, manifest, made = result["test"][-1], result["manifest"], result["certificate"]
    counts = ", ".join(f"{n:,} {split}" for split, n in manifest["counts"].items())
    shared = sum(manifest["shared_symmetry_classes"].values())
    cpu_s = result.get("training_cpu_time_s")
    on_gpu = result["device"].startswith("cuda")
    where = (
        f"one {made['processor']}"
        if on_gpu
        else f"{made['threads']} thread(s) of {made['processor']}"
    )
    kind = "those" if result["config"]["ema"] is None else "the averaged (EMA) ones"
    lines = [
        f"# {name}",
        "",
        f"{_kind(result['config']['model'])} with {result['parameters']:,} parameters for "
        f"{result['task']}. "
        f"`python -m trm.solve {name} PUZZLE` uses it.",
        "",
        "| | |",
        "| --- | --- |",
        f"| made by | `{command}` |",
        f"| commit | {made['commit']} |",
        f"| data | {manifest['source']}: {counts} puzzles; {shared or 'no'} symmetry classes are "
        "shared by splits |",
        f"| data checksum | {manifest['sha256']} |",
        f"| seed | {result['seed']} |",
        f"| training | {result['steps']:,} steps, {result['training_wall_time_s'] / 60:.1f} min on "
        f"{where}, torch {made['torch']}"
        f"{f', {cpu_s / 60:.1f} min of processor time' if cpu_s and not on_gpu else ''} |",
        *(
            f"| {measure} accuracy | {100 * last[f'{measure}_accuracy']:.1f} % "
            f"({percent(last[f'{measure}_interval'])}) of {last['n']:,} test puzzles after "
            f"{last['step']} supervision steps |"
            for measure in ("exact", "valid", "optimal")
            if f"{measure}_accuracy" in last
        ),
        *evaluated,
        "",
        f"The weights are {kind} of the step that did best on validation puzzles. "
        + (
            "It takes puzzles of every size of its kind; how well, the rows above say."
            if any_size
            else "It knows puzzles like those it was trained on: other sizes, clue counts or kinds "
            "of mazes need a model of their own."
        ),
        *([f"\n{note}"] if note else []),
    ]
    return "\n".join(lines) + "\n"


@command()
def main() -> int:
    """Ship one run."""
    parser = argparse.ArgumentParser(prog="python -m experiments.ship", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("name", help="such as sudoku-6x6")
    parser.add_argument("--evaluations", type=Path, nargs="*", default=[], help="for the card")
    parser.add_argument("--note", help="what else to say of its training")
    options = parser.parse_args()
    print(ship(options.run, options.name, options.evaluations, options.note))
    return 0


if __name__ == "__main__":
    sys.exit(main())
