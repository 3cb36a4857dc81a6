"""Puzzles from files in the published layout, a local folder or the Hugging Face Hub."""

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from huggingface_hub import hf_hub_download

from trm.data.puzzles import PuzzleData, PuzzleSet, hold_out
from trm.support import counter_rng
from trm.support.errors import InputError
from trm.tasks.base import Task

_HEADER = "source,question,answer,rating"
_READ_AT_ONCE = 8192  # rows that are read, encoded and checked together
_MOST_BAD_ROWS = 1000  # after which reading stops
# Puzzles shrink 3 to 10 times in gzip; a file that unpacks to much more than that is a trap.
_MOST_UNPACKED = 50  # times its size
_NEVER_TOO_MUCH = 16_000_000  # characters


def from_folder(
    task: Task,
    path: str | None,
    val_share: float = 0.1,
    seed: int = 0,
    augmentations: int | None = None,
) -> PuzzleData:
    """Read ``train`` and ``test`` as ``.csv`` or ``.csv.gz`` from a folder.

    The published data has no validation split: a seeded ``val_share`` of the training puzzles,
    whole symmetry classes at a time, is held out of training.

    Raises:
        InputError: a missing folder or file, or a bad row
    """
    if path is None:
        raise InputError(
            "data.path=null names no folder; give the folder that holds train.csv and test.csv "
            "(or .csv.gz), or read from the Hub with data=sudoku_extreme_hub"
        )
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"data.path={path} is no folder; give the folder that holds train.csv and test.csv "
            f"(or .csv.gz)"
        )
    files = {name: _find(folder, name) for name in ("train", "test")}
    return _splits(task, files, f"folder {folder.name}", val_share, seed, augmentations)


def from_hub(
    task: Task,
    repo: str,
    revision: str | None = None,
    subsample: int | None = None,
    val_share: float = 0.1,
    seed: int = 0,
    augmentations: int | None = None,
    train_file: str = "train.csv",
    test_file: str = "test.csv",
) -> PuzzleData:
    """Read the same layout from a data set on the Hugging Face Hub.

    Files in the Hub's local cache are used without a network. Without ``revision`` the newest
    commit is taken; either way the manifest names the commit that was read.

    Args:
        task: whose puzzles these are
        repo: data set, ``owner/name``
        revision: commit, for data that cannot change
        subsample: puzzles drawn from the training file; None for all
        val_share: see ``from_folder``
        seed: of the draw and of the held-out share
        augmentations: see ``PuzzleData``
        train_file: name of the training file
        test_file: name of the test file

    Raises:
        InputError: a file that cannot be had, or a bad row
    """
    files = {}
    for name, file in (("train", train_file), ("test", test_file)):
        try:
            files[name] = Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision))
        except Exception as error:  # the Hub client raises a dozen classes for one remedy
            raise InputError(
                f"{file} of {repo} at revision {revision or 'main'} cannot be downloaded "
                f"({type(error).__name__}); download train.csv and test.csv by hand and use "
                f"data=sudoku_extreme data.path=<their folder>"
            ) from None
    commit = files["train"].parent.name  # the cache keeps files under their commit
    source = f"hub {repo} at {commit}"
    return _splits(task, files, source, val_share, seed, augmentations, subsample)


def read_csv(path: Path, task: Task) -> PuzzleSet:
    """Read the rows ``source,question,answer,rating`` of a ``.csv`` or ``.csv.gz`` file.

    Raises:
        InputError: naming file, line, value and rule of the first bad row, and how many follow
    """
    bad: list[tuple[int, str]] = []
    blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    rows = _rows(path, longest=4 * task.cells + 1024)
    while len(bad) < _MOST_BAD_ROWS and (some := list(islice(rows, _READ_AT_ONCE))):
        good = []
        for line, text in some:
            row = text.split(",")
            if problem := _misshapen(row, task):
                bad.append((line, problem))
            else:
                good.append((line, row[1], row[2], int(row[3])))
        lines, questions, answers, ratings = zip(*good, strict=True) if good else ((),) * 4
        x_input, y_true = _encode(questions, task), _encode(answers, task)
        for number in _bad_rows(x_input, y_true, task):
            bad.append((lines[number], _problem(questions[number], answers[number], task)))
        blocks.append((x_input, y_true, np.array(ratings, dtype=np.int64)))
    if bad:
        line, problem = min(bad)
        least = "at least " if len(bad) >= _MOST_BAD_ROWS else ""
        more = f"; {least}{len(bad) - 1} more bad rows follow" if len(bad) > 1 else ""
        raise InputError(f"{path}, line {line}: {problem}{more}")
    if not blocks:
        raise InputError(f"{path} holds no puzzles, only a header")
    return PuzzleSet.of(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _misshapen(row: list[str], task: Task) -> str | None:
    """Say what is wrong with the fields of a row, before looking into them."""
    if len(row) != 4:
        return f"{len(row)} fields instead of the 4 of {_HEADER!r}"
    for name, value in (("question", row[1]), ("answer", row[2])):
        if len(value) != task.cells:
            return f"{name} {_short(value)} has {len(value)} cells, {task.name} needs {task.cells}"
    if not row[3].isascii() or not row[3].removeprefix("-").isdigit() or len(row[3]) > 18:
        return f"rating {_short(row[3])} is no whole number"
    return None


def _find(folder: Path, name: str) -> Path:
    for file in (folder / f"{name}.csv", folder / f"{name}.csv.gz"):
        if file.is_file():
            return file
    raise InputError(f"{folder} holds neither {name}.csv nor {name}.csv.gz")


def _splits(
    task: Task,
    files: dict[str, Path],
    source: str,
    val_share: float,
    seed: int,
    augmentations: int | None,
    subsample: int | None = None,
) -> PuzzleData:
    pool, test = (read_csv(files[name], task) for name in ("train", "test"))
    if subsample is not None:
        if not 1 < subsample <= len(pool):
            raise InputError(f"data.subsample={subsample} must lie between 2 and {len(pool)}")
        source += f"; {subsample} of {len(pool)} training puzzles drawn with seed {seed}"
        drawn = counter_rng.key(seed, torch.arange(len(pool))).argsort()[:subsample]
        pool = pool[drawn.sort().values.numpy()]
    train, val = hold_out(pool, task, val_share, seed)
    source += f"; {len(val)} of {len(pool)} training puzzles held out for validation"
    return PuzzleData.of({"train": train, "val": val, "test": test}, task, augmentations, source)


def _rows(path: Path, longest: int) -> Iterator[tuple[int, str]]:
    """Yield (line number, text without its line end) after checking the header."""
    try:
        packed = _MOST_UNPACKED * path.stat().st_size if path.suffix == ".gz" else None
        most = math.inf if packed is None else max(packed, _NEVER_TOO_MUCH)
        with _open(path) as file:
            header = file.readline(longest).rstrip("\r\n")
            if header != _HEADER:
                raise InputError(f"{path}, line 1: header {_short(header)} must be {_HEADER!r}")
            unpacked = 0
            for line, text in enumerate(iter(lambda: file.readline(longest), ""), start=2):
                unpacked += len(text)
                if len(text) == longest:
                    raise InputError(f"{path}, line {line} is longer than {longest} characters")
                if unpacked > most:
                    raise InputError(
                        f"{path} unpacks to more than {_MOST_UNPACKED} times its size, as no file "
                        f"of puzzles does; unpack it yourself if you trust it"
                    )
                # Only the line end goes: a maze may begin or end with spaces.
                yield line, text.rstrip("\r\n")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(f"{path} cannot be read as CSV text: {error}") from None


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return open(path, encoding="utf-8", newline="")


def _encode(texts: Sequence[str], task: Task) -> np.ndarray:
    """Encode texts of the right length; 255 marks a foreign symbol."""
    table = np.full(256, 255, dtype=np.uint8)
    if odd := [symbol for symbol in task.symbols if len(symbol) != 1 or ord(symbol) > 255]:
        raise InputError(f"{task.name} has the symbol {odd[0]!r}; files hold Latin-1 characters")
    for symbol, token in task.symbols.items():
        table[ord(symbol)] = token
    # Latin-1 keeps one byte a cell; what it lacks becomes "?", which no task knows.
    joined = "".join(texts).encode("latin-1", errors="replace")
    return table[np.frombuffer(joined, dtype=np.uint8)].reshape(len(texts), task.cells)


def _bad_rows(x_input: np.ndarray, y_true: np.ndarray, task: Task) -> list[int]:
    foreign = ((x_input == 255) | (y_true == 255)).any(axis=1)
    # Foreign symbols are bad already; as tokens they would be out of range.
    x, y = (torch.from_numpy(np.where(a == 255, 0, a)) for a in (x_input, y_true))
    return np.flatnonzero(foreign | ~task.is_valid(x, y).numpy()).tolist()


def _problem(question: str, answer: str, task: Task) -> str:
    for name, text in (("question", question), ("answer", answer)):
        try:
            task.encode(text)
        except InputError as error:
            return f"{name}: {error}"
    x_input, y = task.encode(question), task.encode(answer)
    problem = task.explain(x_input) or task.explain(x_input, y) or "the answer breaks the rules"
    return f"answer {_short(answer)} to {_short(question)}: {problem}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 90 else text[:87] + "...")
