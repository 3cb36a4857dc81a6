"""Puzzles as prompts, and replies as grids."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template

import numpy as np

from trm.data.arc.tables import ArcPuzzles
from trm.data.puzzles import PuzzleData, Puzzles
from trm.support.errors import InputError
from trm.tasks import Arc, Maze, Sudoku
from trm.tasks.arc import crop
from trm.tasks.base import PAD, Task

Message = dict[str, str]  # role and content, as chat interfaces have it

_FOLDER = Path(__file__).parent / "prompts"
_MARK = re.compile(r"answer\**\s*:", re.IGNORECASE)
_ROW_NAME = re.compile(r"^\W*row\s*\d+\s*[:.)-]", re.IGNORECASE)
# What people and models put between cells, unless it is a symbol of the task.
_BETWEEN = set(" \t|,;:[](){}<>'\"`*_-+=~/\\") | {chr(code) for code in range(0x2500, 0x2580)}


@dataclass(frozen=True)
class Prompts:
    """How a task's puzzles are put to a language model.

    Attributes:
        task: whose puzzles
        template: text with ``$puzzle`` and other placeholders, as ``string.Template`` has them
    """

    task: Task
    template: str

    @classmethod
    def read(cls, task: Task, file: Path | None = None) -> "Prompts":
        """Read the template of a task, or one of your own.

        Raises:
            InputError: a file that cannot be read, or a placeholder that does not exist
        """
        path = file or _FOLDER / f"{_template_name(task)}.txt"
        try:
            template = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"template {path} cannot be read ({error})") from None
        prompts = cls(task, template)
        known = prompts._words() | {"puzzle": "", "examples": ""}
        try:
            Template(template).substitute(known)
        except (KeyError, ValueError) as error:
            names = ", ".join(f"${name}" for name in known)
            raise InputError(
                f"template {path} has a placeholder that cannot be filled ({error}); there are "
                f"{names}, and $$ is a dollar sign"
            ) from None
        if "puzzle" not in Template(template).get_identifiers():
            raise InputError(f"template {path} has no $puzzle, so no puzzle would be asked")
        return prompts

    def messages(self, x_input: np.ndarray, examples: Puzzles | None = None) -> list[Message]:
        """Ask for the answer of one puzzle, (cells,) tokens, after solved ones."""
        words = self._words() | {
            "puzzle": grid_text(self.task, x_input),
            "examples": "" if examples is None else self._shown(examples),
        }
        text = Template(self.template).substitute(words)
        # One message of the user: every chat template takes it, and so do models without one.
        return [{"role": "user", "content": text.strip()}]

    def _shown(self, examples: Puzzles) -> str:
        pairs = zip(examples.x_input, examples.y_true, strict=True)
        return "".join(
            f"Puzzle:\n```\n{grid_text(self.task, x_input)}\n```\n\n"
            f"ANSWER:\n```\n{grid_text(self.task, y_true)}\n```\n\n"
            for x_input, y_true in pairs
        )

    def _words(self) -> dict[str, str]:
        rows, columns = self.task.grid_shape
        box_rows, box_columns = self.task.boxes or (1, columns)
        written = _written(self.task)
        empty = written.get(self.task.symbols.get(".", self.task.symbols.get(" ", PAD)), "")
        # Upper and lower case of a digit are one token: it is written once, as it is printed.
        alphabet = " ".join(symbol for symbol in written.values() if symbol != empty)
        numbers = {"rows": rows, "columns": columns, "box_rows": box_rows}
        words = {name: str(number) for name, number in numbers.items()}
        return words | {"box_columns": str(box_columns), "alphabet": alphabet, "empty": empty}


def examples_for(data: PuzzleData, shots: int, seed: int) -> Puzzles | None:
    """Draw the solved puzzles that every prompt shows, from the training split alone.

    Raises:
        InputError: fewer than 0 shots or more than there are training puzzles
    """
    train = data.splits["train"]
    if not 0 <= shots <= len(train):
        raise InputError(f"--shots {shots} must lie between 0 and {len(train)} training puzzles")
    if not shots:
        return None
    return train[np.random.default_rng(seed).choice(len(train), shots, replace=False)]


def demonstrations(data: PuzzleData, puzzles: Puzzles) -> list[Puzzles]:
    """Return for each puzzle of ARC the pairs of its own task, which are what asks it."""
    train = data.splits["train"]
    assert isinstance(train, ArcPuzzles)
    assert isinstance(puzzles, ArcPuzzles)
    unmoved = replace(train, moves=None)  # in training, grids move about the canvas
    return [
        unmoved[(train.identifier == identifier).nonzero().flatten().numpy()]
        for identifier in puzzles.identifier
    ]


def grid_text(task: Task, tokens: np.ndarray) -> str:
    """Write (cells,) tokens with one line per row; of an ARC canvas, only the grid in its corner.

    An open cell of a maze, a space elsewhere, is written ``.``: tokenizers merge spaces, and
    nobody can count those at the end of a line.
    """
    if isinstance(task, Arc):
        return "\n".join("".join(map(str, row)) for row in crop(tokens).tolist())
    written, columns = _written(task), task.grid_shape[1]
    text = [written.get(int(token), "?") for token in tokens]
    return "\n".join("".join(text[i : i + columns]) for i in range(0, len(text), columns))


def read_reply(task: Task, reply: str) -> np.ndarray | None:
    """Find the answer in a reply: (cells,) uint8 tokens, or None if it holds no grid.

    It is the first grid after the last ``ANSWER:``; where that fails, the last grid of all.
    """
    *_, last = [0, *(match.end() for match in _MARK.finditer(reply))]
    after = _grids(task, reply[last:]) if last else []
    everywhere = after or _grids(task, reply)
    return after[0] if after else everywhere[-1] if everywhere else None


def _grids(task: Task, text: str) -> list[np.ndarray]:
    """Read every run of rows that makes up whole grids."""
    read = _read(task)
    columns = 0 if isinstance(task, Arc) else task.grid_shape[1]
    grids: list[np.ndarray] = []
    run: list[list[int]] = []
    # JSON closes its rows with brackets, on one line or on many.
    for line in [*text.replace("]", "]\n").splitlines(), "```"]:
        cells = [
            symbol for symbol in _ROW_NAME.sub("", line) if symbol not in _BETWEEN - read.keys()
        ]
        is_fence = line.strip().startswith("```")
        fits = not columns or len(cells) in (columns, task.cells)
        if cells and fits and all(symbol in read for symbol in cells):
            run.append([read[symbol] for symbol in cells])
        elif cells or is_fence:  # empty lines and borders may stand between rows
            grids += _whole(task, run)
            run = []
    return grids


def _whole(task: Task, run: Sequence[list[int]]) -> list[np.ndarray]:
    if not run:
        return []
    if isinstance(task, Arc):
        try:
            return [task.encode(json.dumps(run))]
        except InputError:  # ragged or too large
            return []
    tokens = np.array([token for row in run for token in row], dtype=np.uint8)
    return [] if len(tokens) % task.cells else list(tokens.reshape(-1, task.cells))


def _written(task: Task) -> dict[int, str]:
    """Map each token to its symbol in prompts."""
    written: dict[int, str] = {}
    for symbol, token in task.symbols.items():
        shown = "." if symbol == " " and "." not in task.symbols else symbol
        written.setdefault(token, shown)
    return written


def _read(task: Task) -> dict[str, int]:
    """Map symbols of replies to tokens, in either case where that is no other symbol.

    For ARC they are colours: PAD and end markers are no business of a language model.
    """
    if isinstance(task, Arc):
        return {str(colour): colour for colour in range(10)}
    known = {symbol: token for symbol, token in task.symbols.items() if symbol != " "}
    known |= {symbol: token for token, symbol in _written(task).items()}
    swapped = {symbol.swapcase(): token for symbol, token in known.items()}
    return swapped | known


def _template_name(task: Task) -> str:
    kinds: dict[type[Task], str] = {Sudoku: "sudoku", Maze: "maze", Arc: "arc"}
    return next((name for kind, name in kinds.items() if isinstance(task, kind)), "default")
