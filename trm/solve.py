"""Solve puzzles of your own: ``python -m trm.solve sudoku-6x6 ..6...2.…``."""

import argparse
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from io import BufferedReader
from itertools import count, islice
from pathlib import Path
from typing import get_args, get_type_hints

from rich.columns import Columns
from rich.console import Console
from rich.text import Text

from trm.checkpoints.layouts.published import identifier_names
from trm.checkpoints.opening import shipped
from trm.inference.compute import Compute
from trm.inference.selectors import SELECTORS
from trm.inference.solution import Solution
from trm.inference.solver import Solver
from trm.support.command_line import (
    add_settings,
    argument_parser,
    command,
    progress_bar,
    settings_of,
)
from trm.support.devices import Precision, keep_freed_memory, pick_device
from trm.support.errors import InputError
from trm.support.streams import as_they_come, decoded
from trm.tasks.base import Task
from trm.tasks.reading import Reading

_AT_ONCE = 2048  # lines that are read before they are solved
_DRAWN = 4  # so many puzzles are drawn; more of them get a line each
_DASHED = re.compile(r"-[-.\d_*?xX+|\s]{15,}")  # a 4x4 puzzle has 16 symbols
_SOLVED, _FAILED, _NOTHING_READ = 0, 1, 2  # exit status

_HELP = {
    "max_steps": "supervision steps at most (as in training, and 16 at least; 60 times as many as "
    "in training where it searches)",
    "rollouts": "trajectories from different starts (1)",
    "views": "symmetric copies of each puzzle (1)",
    "start": "where further rollouts begin (random)",
    "noise": "standard deviation of the noise of rollouts beyond the first (0)",
    "select": f"which trajectory answers: {', '.join(SELECTORS)}, or package.function of your own "
    "(halting)",
    "stop": "what ends a puzzle (first_valid; first_halted for tasks without rules)",
    "sure": "halting probability above which the model counts as saying solved (0.5)",
    "seed": "of starts, noise and views (0)",
}


@command()
def main(arguments: Sequence[str] | None = None) -> int:
    """Solve and print; 0 if all are answered, 1 if some are not, 2 if nothing could be tried."""
    parser = _parser()
    words = [_no_flag(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    options = parser.parse_intermixed_args(words)  # flags may stand before the puzzle
    options.puzzle = [word.removeprefix("\n") for word in options.puzzle]
    if (options.file is None) == (not options.puzzle):
        parser.error("give a puzzle, or - to read a pipe, or --file FILE")
    if len(options.puzzle) == 1 and _is_file(options.puzzle[0]):
        raise InputError(f"{options.puzzle[0]} is a file; --file {options.puzzle[0]} reads it")
    keep_freed_memory()
    return _run(options)


def _is_file(word: str) -> bool:
    """Tell whether somebody forgot --file: no puzzle has an ending."""
    return bool(Path(word).suffix[1:].isalpha() and os.path.isfile(word))  # of any length


def _no_flag(word: str) -> str:
    """Begin a puzzle whose first blank is a dash with an empty line, which no flag does."""
    return f"\n{word}" if _DASHED.fullmatch(word) else word


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser(
        "trm.solve",
        "Solve puzzles with a trained model. Answers are checked against the rules.",
        epilog="Examples: trm solve sudoku 4....2.1.6.........3..5..4....5.21..; trm solve maze "
        "--file mazes.txt; ... | trm solve sudoku -. Exit status: 0 if every puzzle has an answer "
        "that obeys the rules (ARC has none to check), 1 if one has not, 2 if nothing could be "
        "tried.",
    )
    parser.add_argument(
        "checkpoint", help=f"{', '.join(shipped())}, or a model file or folder of yours"
    )
    parser.add_argument(
        "puzzle",
        nargs="*",
        help="row by row, in one line or several; - reads puzzles from a pipe",
    )
    parser.add_argument(
        "--file", type=Path, help="puzzles as people write them: a line or a grid for each, CSV"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per puzzle")
    parser.add_argument("--picture", type=Path, help="a .png or .gif of how one puzzle is solved")
    parser.add_argument("--id", help="puzzle identifier, for ARC: its number, or its name (0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="auto",
        help="bfloat16 products, or none; auto: what the device is fast at (auto)",
    )
    parser.add_argument(
        "--batch-size", type=int, help="trajectories at once (64 on a CPU, 256 elsewhere)"
    )
    add_settings(parser)
    hints = get_type_hints(Compute)
    compute = parser.add_argument_group("test-time compute")
    for name, description in _HELP.items():
        choices = [choice for choice in get_args(hints[name]) if isinstance(choice, str)]
        kind = str if choices else hints[name] if hints[name] in (str, float) else int
        flag = f"--{name.replace('_', '-')}"
        compute.add_argument(flag, type=kind, choices=choices or None, help=description)
    compute.add_argument(
        "--no-search",
        action="store_true",
        help="do not write cells into a puzzle that is hard and think on (where there are rules)",
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    settings = {name: getattr(options, name) for name in _HELP}
    changes = {name: value for name, value in settings.items() if value is not None}
    if options.no_search:
        changes["search"] = None
    device = pick_device(options.device)
    solver = Solver.load(
        options.checkpoint,
        batch_size=options.batch_size,
        device=device,
        precision=options.precision,
        task=options.task,
        settings=settings_of(options),
        **changes,
    )
    if options.id is None:  # the names of a large table take a while to read
        options.id = 0
    else:
        options.id = _identifier(options.id, solver, Path(options.checkpoint).expanduser())
    if options.picture is not None:
        _draw(solver, options)
    counts, start = Counter[str](), time.perf_counter()
    piped = options.puzzle == ["-"]
    several = options.file is not None or piped or len(options.puzzle) > _DRAWN
    found = count(1)
    with _progress(solver, options) as on_done:

        def on_found() -> None:
            on_done(next(found))

        for part in _parts(solver, options):
            for reading, solution in _solved(solver, part, options.id, on_found):
                counts["answered" if not solution.failed else "failed"] += 1
                counts["read"] += reading.tokens is not None
                _print(reading.task or solver.task, solution, options.json, several)
    puzzles = counts["answered"] + counts["failed"]
    if not puzzles:
        source = "the pipe" if options.file is None else options.file
        raise InputError(f"{source} holds no puzzle; write each row by row, in one line or several")
    if several:
        speed = puzzles / max(time.perf_counter() - start, 1e-9)
        print(
            f"{counts['answered']:,} of {puzzles:,} puzzles answered, {speed:.0f} puzzles/s",
            file=sys.stderr,
        )
    if not counts["read"]:
        return _NOTHING_READ
    return _FAILED if counts["failed"] else _SOLVED


def _identifier(text: str, solver: Solver, model: Path) -> int:
    """Return the number that ``--id`` says, or that the names of the model give it.

    Raises:
        InputError: a name that is not there
    """
    number = int(text) if re.fullmatch(r"0|-?[1-9]\d*", text) else None  # 00576224 is a name
    if solver.model.identifiers is None and number is None:
        raise InputError(f"--id {text} says nothing to this model, which has no identifiers")
    if text in solver.names:
        return int(solver.names[text])
    table = solver.model.identifiers
    beside = (model if model.is_dir() else model.parent) / "identifiers.json"
    names = [] if table is None else identifier_names(beside, len(table.weights)) or []
    if text in names:
        return names.index(text)
    if number is None:
        raise InputError(
            f"--id {text} is no task that {model} knows by name; put the identifiers.json of its "
            f"training data beside it, or give the number, data.votes.names.index({text!r})"
        )
    return number


def _progress(
    solver: Solver, options: argparse.Namespace
) -> AbstractContextManager[Callable[[int], None]]:
    """Draw a bar for a file or a pipe, unless its puzzles are being typed."""
    total, drawn = None, sys.stderr.isatty()
    if options.file is None:
        drawn = drawn and options.puzzle == ["-"] and not sys.stdin.isatty()
    elif drawn and options.file.is_file():  # reading twice costs little
        total = sum(1 for _ in _readings(solver, options))
    return progress_bar("solving", total, hidden=not drawn)


def _parts(solver: Solver, options: argparse.Namespace) -> Iterator[list[Reading]]:
    """Take as many puzzles as are there: all at once of a file, and of a pipe what has come."""
    readings = _readings(solver, options)
    if options.puzzle == ["-"] or (options.file is not None and not options.file.is_file()):
        yield from as_they_come(readings, _AT_ONCE)
        return
    while part := list(islice(readings, _AT_ONCE)):
        yield part


def _readings(solver: Solver, options: argparse.Namespace) -> Iterator[Reading]:
    """Find the puzzles in a file, a pipe or the command line."""
    reader = solver.reader()
    if options.file is not None:
        try:
            with open(options.file, "rb") as stream:
                yield from reader.read(decoded(stream))
        except OSError as error:
            raise InputError(f"{options.file} cannot be read: {error.strerror}") from None
    elif options.puzzle == ["-"]:
        # A stream of its own: Python could not close the common one while a thread waits for it.
        stream = BufferedReader(sys.stdin.buffer.raw)  # type: ignore[union-attr]
        try:
            yield from reader.read(decoded(stream))
        finally:
            stream.detach()
    else:
        for number, text in enumerate(options.puzzle, start=1):
            name = "the puzzle" if len(options.puzzle) == 1 else f"puzzle {number}"
            try:
                yield reader.read_one(text, name)
            except InputError as error:
                yield Reading(name, text, problem=str(error))


def _solved(
    solver: Solver, part: list[Reading], puzzle_id: int, on_found: Callable[[], None]
) -> Iterator[tuple[Reading, Solution]]:
    """Solve what was read, and say of the rest why it was not, in the order of the input.

    An answer comes as soon as it and all before it are found; ``on_found`` is called for each
    that is, in any order.
    """
    tokens = [reading.tokens for reading in part if reading.tokens is not None]
    answers, found = solver.answers(tokens, puzzle_id), dict[int, Solution]()
    places = count()
    for reading in part:
        if reading.tokens is None or reading.task is None:
            problem = f"{reading.name}: {reading.problem}"
            on_found()
            yield reading, Solution(reading.text, None, None, problem)
            continue
        place = next(places)
        while place not in found:
            found.update([next(answers)])
            on_found()
        solution = found.pop(place)
        if reading.solution is not None and solution.answer is not None:
            matches = solution.answer == reading.task.decode(reading.solution)
            solution = replace(solution, matches=matches)
        yield reading, solution


def _print(task: Task, solution: Solution, as_json: bool, several: bool) -> None:
    if as_json:
        print(json.dumps(asdict(solution), ensure_ascii=False), flush=True)
    elif several:
        verdict = solution.verdict(with_time=False)
        print(solution.answer or "", verdict, sep="\t", flush=True)
    elif solution.answer is None:
        print(f"error: {solution.problem}", file=sys.stderr)
    else:
        pictures = [
            Text(f"{title}\n", "bold").append_text(task.render(*map(task.known, texts)))
            for title, texts in (
                ("puzzle", [solution.puzzle]),
                ("answer", [solution.puzzle, solution.answer]),
            )
        ]
        console = Console()
        console.print(Columns(pictures, padding=(0, 4)))
        console.print(Text(solution.verdict()), soft_wrap=True)  # one line, to be known again


def _draw(solver: Solver, options: argparse.Namespace) -> None:
    """Write the picture of one puzzle's plain trajectory, up to its first valid answer."""
    from trm.report.pictures import draw  # with matplotlib, half a second to import

    if options.puzzle == ["-"] or len(options.puzzle) != 1:
        raise InputError("--picture draws one puzzle; give it as the argument")
    draw(solver.trajectory(options.puzzle[0], options.id, options.max_steps), options.picture)
    print(f"picture  {options.picture}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
