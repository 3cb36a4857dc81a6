"""What every command does around its work: errors in one line, exit statuses, a progress bar."""

import argparse
import os
import re
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from trm.support.errors import InputError
from trm.support.files import show_anything

P = ParamSpec("P")
Errors = type[Exception] | tuple[type[Exception], ...]


def command(
    mendable: Errors = InputError, message: Callable[[Exception], str] = str
) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Decorate a ``main`` that returns its exit status.

    What a person can mend is printed as one line and gives 2, a reader that went away 1, Ctrl-C
    130; any other error is a fault of ours and keeps its traceback.

    Args:
        mendable: errors that a person can mend
        message: from such an error to its line
    """

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @wraps(main)
        def run(*args: P.args, **kwargs: P.kwargs) -> int:
            show_anything()
            try:
                return main(*args, **kwargs)
            except mendable as error:
                print(f"error: {message(error)}", file=sys.stderr)
                return 2
            except BrokenPipeError:  # the reader, "head" say, has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 1
            except KeyboardInterrupt:
                return 130

        return run

    return decorate


@contextmanager
def progress_bar(
    title: str, total: int | None, hidden: bool = False
) -> Iterator[Callable[[int], None]]:
    """Draw a bar while the block runs, on a terminal only; gives a function of the number done.

    Args:
        title: in front of it
        total: None if nobody knows
        hidden: draw none after all
    """
    console = Console(stderr=True, soft_wrap=True)  # lines above the bar stay whole
    columns = *Progress.get_default_columns(), MofNCompleteColumn()
    # What is printed meanwhile goes above the bar, but for a file or pipe where it belongs.
    above, seen = sys.stdout.isatty(), console.is_terminal and sys.stderr.isatty()
    with Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=above,
        disable=hidden or not seen,
    ) as progress:
        bar = progress.add_task(title, total=total)
        yield lambda done: progress.update(bar, completed=done)


def program(module: str) -> str:
    """Return what a person typed to start a command: ``trm solve``, or ``python -m trm.solve``."""
    typed = sys.argv[0]
    is_word = typed.endswith(f"trm {module.removeprefix('trm.')}")
    return typed if is_word else f"python -m {module}"


def said_as_typed(text: str, module: str) -> str:
    """Return a text that names a command, such as its docstring, with the name that was typed."""
    return re.sub(rf"python -m {re.escape(module)}(?![.\w])", program(module), text)


def argument_parser(module: str, description: str | None, **settings: Any) -> ArgumentParser:
    """Return a parser of the command that a module is; ``settings`` are argparse's."""
    description = said_as_typed(description or "", module).replace("``", "`")
    return ArgumentParser(prog=program(module), description=description, **settings)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what a published file does not; ``settings_of`` reads them."""
    group = parser.add_argument_group("what a published file does not say")
    group.add_argument("--task", help="sudoku_9x9, maze_30x30, arc; another size of a model of any")
    for name, description in _SETTINGS.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=int, help=description)


def settings_of(options: argparse.Namespace) -> dict[str, int]:
    """Return those that were given."""
    given = {name: getattr(options, name) for name in _SETTINGS}
    return {name: value for name, value in given.items() if value is not None}


_SETTINGS = {
    "heads": "attention heads",
    "n": "latent recursions before each answer update",
    "T": "recursion cycles",
    "prefix_len": "positions that hold the identifier",
}
