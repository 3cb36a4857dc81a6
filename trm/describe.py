"""Say what a model file holds: ``python -m trm.describe PATH``."""

import sys

from rich.console import Console
from rich.table import Table

from trm.checkpoints.opening import Opened, open_for, open_model
from trm.models.trm import TinyRecursiveModel
from trm.support.command_line import add_settings, argument_parser, command, settings_of


def description(opened: Opened) -> list[tuple[str, str]]:
    """Return what is known of a model as (name, value) rows."""
    model = opened.model
    rows = [("layout", opened.layout), ("model", type(model).__name__)]
    rows.append(("parameters", f"{model.size:,}"))
    if isinstance(model, TinyRecursiveModel):
        rows.append(("effective depth", f"{model.effective_depth} blocks per supervision step"))
    rows.append(("task", opened.task.name if opened.task else "not said"))
    rows.append(("saved at step", f"{opened.step:,}" if opened.step is not None else "not said"))
    if model.identifiers is not None:
        count, dim = model.identifiers.weights.shape
        rows.append(("identifier rows", f"{count:,} x {dim}"))
    settings = {k: v for k, v in model.settings().items() if k != "_target_"}
    rows += [(name, str(value)) for name, value in settings.items()]
    return rows + [("assumed", sentence) for sentence in opened.assumed]


@command()
def main(arguments: list[str] | None = None) -> int:
    """Print the description; 2 if the file cannot be opened."""
    parser = argument_parser("trm.describe", __doc__)
    parser.add_argument("path", help="a checkpoint, a safetensors folder, or a published file")
    add_settings(parser)
    options = parser.parse_args(arguments)
    path, settings = options.path, settings_of(options)
    opened = open_for(path, options.task, settings) if options.task else open_model(path, settings)
    console = Console()
    console.print(path, soft_wrap=True, highlight=False)
    table = Table(show_header=False)
    for name, value in description(opened):
        table.add_row(name, value)
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
