"""Export a model's supervision step: ``python -m trm.export sudoku-6x6 --format onnx``."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save

from trm.checkpoints.opening import Opened, open_for, shipped
from trm.data.puzzles import Puzzles
from trm.describe import description
from trm.export.agreement import BATCH, Agreement, compare, latencies
from trm.export.formats import FILES, KINDS, check_extra, write_step
from trm.export.runner import ABOUT, FORMAT, INITIAL, Exported
from trm.export.step import OUTPUTS, SupervisionStep, example, initial, supervision_step
from trm.report.fitting import Fitting
from trm.results.files import birth_certificate, write_json
from trm.support.command_line import (
    add_settings,
    argument_parser,
    command,
    progress_bar,
    settings_of,
)
from trm.support.errors import InputError, check_at_least, check_choice
from trm.support.files import check_free, folder_whole

_MOST_STEPS = 16_000  # over all puzzles that an export is compared on
_TOLERANCES = {"torch_export": 0.0, "onnx": 0.0, "int8": 0.01}  # of exact accuracy


@command()
def main(arguments: Sequence[str] | None = None) -> int:
    """Write an export and print how it compares; 2 if nothing was written."""
    options = _parser().parse_args(arguments)
    name = f"{Path(options.checkpoint).stem}_{options.format}"
    output = options.output or Path("exports", name)
    about = export(
        options.checkpoint,
        options.format,
        output,
        puzzles=options.puzzles,
        tolerance=options.tolerance,
        data=options.data,
        task=options.task,
        settings=settings_of(options),
    )
    Console().print(Fitting(agreement_table(about)))
    print(output)
    return 0


def export(
    checkpoint: str | Path,
    kind: str,
    output: str | Path,
    *,
    puzzles: int = 1000,
    tolerance: float | None = None,
    data: str | None = None,
    task: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write an export folder, once it has been seen to answer as the model does.

    Args:
        checkpoint: see ``trm.load``; it must name its task
        kind: ``torch_export``, ``onnx`` or ``int8``
        output: a new or empty folder
        puzzles: of the test split to compare on, at most; 0 for no comparison. As many as take
            16,000 supervision steps are enough, or 64
        tolerance: how far exact accuracy may fall, as a share of the puzzles, and how many final
            answers may differ where the weights are kept; None for 0, and for int8 0.01
        data: where the data now lie, if not where the checkpoint says
        task: of a file that does not name it, such as ``sudoku_9x9``, or another size of a model
            of any
        settings: of a published file, as ``trm.load`` takes them

    Returns:
        what ``export.json`` holds

    Raises:
        InputError: what cannot be opened, compared or written, or has lost too much
    """
    output = Path(output)
    tolerance = _TOLERANCES.get(kind, 0.0) if tolerance is None else tolerance
    check_choice(KINDS, "--", format=kind)
    check_at_least(0, "--", puzzles=puzzles)
    check_extra(kind)
    check_free(output, "--output=")
    opened = open_for(checkpoint, task, settings)
    assert opened.task is not None, "open_for refuses otherwise"
    # A model of many steps answers few puzzles in the time in which another answers a thousand.
    most = max(BATCH, _MOST_STEPS // opened.trained.N_sup)
    questions = _puzzles(checkpoint, opened, data)[: min(puzzles, most)] if puzzles else None
    step = supervision_step(opened.model, opened.trained.halting, kind == "int8")
    with folder_whole(output, "--output=") as folder:
        inputs = example(step, opened.model, opened.task.cells, 2)
        with progress_bar("writing", None):
            write_step(kind, step, inputs, folder)
        # save_file would hide it from others
        (folder / INITIAL).write_bytes(save(initial(opened.model)))
        about = _about(checkpoint, opened, kind, step, inputs, folder)
        write_json(folder / ABOUT, about)
        about |= _measured(opened, folder, questions, tolerance)
        write_json(folder / ABOUT, about)
    return about


def agreement_table(about: dict[str, Any]) -> Table:
    """Return what ``export.json`` says of an export beside its model, as a table."""
    agreement, one, many = about["agreement"], "1", str(BATCH)
    checked = f"{agreement['puzzles']:,} puzzles" if agreement else "unchecked"
    table = Table(title=f"{about['checkpoint']}, {about['kind']}, {checked}", title_justify="left")
    for name in ("", "float model", "export"):
        table.add_column(name, justify="right" if name else "left")
    sizes, latency = about["sizes"], about["latency"]["ms_per_puzzle_and_step"]
    table.add_row("size", *(f"{sizes[name] / 1e6:.3f} MB" for name in ("float_weights", "step")))
    if agreement:
        names = ("float_accuracy", "exported_accuracy")
        table.add_row("exact accuracy", *(f"{100 * agreement[name]:.2f} %" for name in names))
        equal = agreement["equal_by_step"]
        table.add_row("final answers equal", "", f"{100 * equal[-1]:.2f} %")
        table.add_row(
            f"answers equal, worst of {len(equal)} steps", "", f"{100 * min(equal):.2f} %"
        )
        first, largest = agreement["first_difference"], agreement["largest_difference"]
        table.add_row("largest difference of y_hat", "", f"{largest:.2g} (first step {first:.2g})")
    for size, heading in ((one, "one puzzle"), (many, f"a puzzle of {many}")):
        times = (f"{latency[name][size]:.2f} ms" for name in ("float", "exported"))
        table.add_row(f"{heading}, one step", *times)
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser(
        "trm.export",
        "Export one supervision step of a model, once it is seen to answer as the "
        "model does. python -m trm.export.solve solves puzzles with what is written.",
    )
    models = ", ".join(shipped()) or "none"
    parser.add_argument("checkpoint", help=f"a model file or folder, or one of {models}")
    parser.add_argument("--format", required=True, choices=KINDS, help="what to write")
    parser.add_argument("--output", type=Path, help="a new folder (exports/CHECKPOINT_FORMAT)")
    parser.add_argument(
        "--puzzles", type=int, default=1000, help="test puzzles to compare on; 0 for none (1000)"
    )
    parser.add_argument(
        "--tolerance", type=float, help="share of puzzles that may be lost (0; int8 0.01)"
    )
    parser.add_argument("--data", help="where the data now lie, if not where the checkpoint says")
    add_settings(parser)
    return parser


def _puzzles(checkpoint: str | Path, opened: Opened, path: str | None) -> Puzzles:
    """Return the test puzzles of the data that a model was trained on."""
    from trm.data.loading import load_data  # with Hydra and Lightning, seconds to import

    assert opened.task is not None, "looked at before"
    without = "--puzzles=0 exports without a comparison"
    if path is None and "data" not in opened.config:
        raise InputError(
            f"{checkpoint} does not say what data it was trained on; --data=FOLDER names some, "
            f"{without}"
        )
    source = dict(opened.config.get("data", {}))
    if path is not None:
        source = {"_target_": "trm.data.from_folder"} if "path" not in source else source
        source["path"] = path
    try:
        data = load_data(source, opened.task)
    except InputError as error:
        raise InputError(f"{error}; --data=... says where the data lie, {without}") from None
    trained = opened.manifest.get("sha256")
    if opened.model.identifiers is not None and trained != data.manifest["sha256"]:
        raise InputError(f"the data are not those of {checkpoint}: identifiers differ; {without}")
    return data.splits["test"]


def _about(
    checkpoint: str | Path,
    opened: Opened,
    kind: str,
    step: SupervisionStep,
    inputs: list[torch.Tensor],
    folder: Path,
) -> dict[str, Any]:
    """Say what the runner must know, and where the export comes from."""
    task, model, trained = opened.task, opened.model, opened.trained
    assert task is not None, "looked at before"
    file = FILES[kind]
    shapes = {
        name: ["batch", *tensor.shape[1:]] for name, tensor in zip(step.inputs, inputs, strict=True)
    }
    with torch.no_grad():
        outputs = list(OUTPUTS[: len(step(*inputs))])
    shapes |= {name: ["batch"] for name in outputs if name not in step.inputs}
    shapes["y_hat"] = ["batch", task.cells, task.vocab_size]
    table = model.identifiers
    return {
        "format": FORMAT,
        "kind": kind,
        "file": file,
        "checkpoint": str(checkpoint),
        "description": [list(row) for row in description(opened)],
        "task": task.settings(),
        "N_sup": 1 if model.one_pass else trained.N_sup,
        "halting": trained.halting,
        "loss": trained.loss,
        "inputs": list(step.inputs),
        "outputs": outputs,
        "shapes": shapes,
        "initial": INITIAL,
        "identifiers": 0 if table is None else len(table.weights),
        "sizes": {
            "step": sum(part.stat().st_size for part in folder.glob("step.*")),
            "float_weights": sum(tensor.nbytes for tensor in model.parameters())
            + (0 if table is None else table.weights.nbytes),
        },
    }


def _measured(
    opened: Opened, folder: Path, questions: Puzzles | None, tolerance: float
) -> dict[str, Any]:
    """Compare the files just written with the model; an export that has lost is refused."""
    exported = Exported.load(folder, torch.get_num_threads())
    task, model = opened.task, opened.model
    assert task is not None, "looked at before"
    agreement: Agreement | None = None
    x_input = torch.ones(1, task.cells, dtype=torch.int64)
    if questions is not None:
        with progress_bar("comparing", len(questions)) as on_batch:
            agreement = compare(model, exported, task, questions, exported.steps, on_batch)
        agreement.check(tolerance, same_answers=exported.about["kind"] != "int8")
        x_input = questions[:BATCH].on("cpu")(torch.arange(min(BATCH, len(questions))))[0].long()
    return {
        "agreement": None if agreement is None else asdict(agreement),
        "tolerance": tolerance,
        "latency": {"ms_per_puzzle_and_step": latencies(model, exported, x_input)},
        "certificate": birth_certificate(torch.device("cpu")),
    }
