"""``trm`` and ``python -m trm``: every command by one word, such as ``trm solve``.

Only the command that is named is imported; ``trm`` alone imports nothing heavy.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

from trm.support.version import __version__


class Command(NamedTuple):
    """A command, which ``python -m trm.NAME`` starts as well.

    Attributes:
        module: that has its ``main``
        does: what it does
        example: the words after its name
    """

    module: str
    does: str
    example: str


COMMANDS = {  # in the order in which someone new needs them
    "solve": Command(
        "trm.solve",
        "solve puzzles, with a model that comes along or your own",
        "sudoku-6x6 4....2.1.6.........3..5..4....5.21..",
    ),
    "describe": Command("trm.describe", "say what a model file holds", "sudoku-6x6"),
    "train": Command(
        "trm.train",
        "train a model; without arguments 4×4 Sudoku, in a minute or two",
        "experiment=sudoku_6x6",
    ),
    "evaluate": Command(
        "trm.evaluate", "test a model on many puzzles", "checkpoint=sudoku-6x6 limit=200"
    ),
    "compare": Command(
        "trm.compare", "put runs and evaluations side by side", "logs/sudoku_6x6/runs/*"
    ),
    "export": Command(
        "trm.export.command", "write a model for other programs", "sudoku-6x6 --format onnx"
    ),
    "serve": Command(
        "trm.serve", "watch the models think in a browser (a checkout: make demo)", ""
    ),
    "bench": Command("trm.bench.command", "measure what a step costs", "sudoku_6x6"),
}
_END = """\
trm COMMAND --help says more of one; python -m trm.COMMAND is the same command.
trm --version prints the version."""


def main() -> int:
    """Pass the command line on to the command that it names; 2 if there is none of that name."""
    name, words = next(iter(sys.argv[1:]), "--help"), sys.argv[2:]
    if name in ("-h", "--help", "help"):
        print(_screen())
        return 0
    if name in ("-V", "--version"):
        print(f"trm {__version__}")
        return 0
    if name == "-sc":  # Hydra's flag: a shell asks
        from trm.support.completion import complete

        complete([*COMMANDS])
        return 0
    problem = _problem(name)
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    try:
        return _run(name, words)
    except KeyboardInterrupt:  # while it is being imported; later it sees to that itself
        return 130


def _screen() -> str:
    """Say what to do first, one command after the other."""
    here = {name: command for name, command in COMMANDS.items() if _is_here(command)}
    width = max(map(len, here))
    lines = ["Tiny Recursive Models: small networks that think about a puzzle in steps.", ""]
    for name, command in here.items():
        lines.append(f"  {name:{width}}  {command.does}")
        lines.append(f"  {'':{width}}    trm {name} {command.example}".rstrip())
    return "\n".join([*lines, "", _END])


def _problem(name: str) -> str | None:
    """Say why there is no such command, or None."""
    if name not in COMMANDS:
        from trm.support.build import nearest

        return f"{name} is no command of trm; {nearest(name, COMMANDS)}"
    if not _is_here(COMMANDS[name]):
        return f"trm {name} is not part of this installation: there is no {COMMANDS[name].module}"
    return None


def _is_here(command: Command) -> bool:
    return find_spec(command.module) is not None


def _run(name: str, words: Sequence[str]) -> int:
    """Call the main function of a command, as ``python -m trm.NAME`` would."""
    sys.argv[:] = [f"{_called()} {name}", *words]
    # Processes that a command starts to help it, as Lightning does, begin with python -m and this.
    spec = find_spec(f"trm.{name}")
    if spec is not None and spec.submodule_search_locations is not None:
        spec = find_spec(f"trm.{name}.__main__")
    sys.modules["__main__"].__spec__ = spec
    return importlib.import_module(COMMANDS[name].module).main() or 0


def _called() -> str:
    """Return how this program was called: ``trm``, or through Python."""
    return "python -m trm" if os.path.basename(sys.argv[0]) == "__main__.py" else "trm"


if __name__ == "__main__":
    sys.exit(main())
