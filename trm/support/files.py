"""Files that appear whole or not at all, and streams that take any letter."""

import codecs
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

from trm.support.errors import InputError

_PACKAGE = Path(__file__).parents[1]
# The wheel carries the configs inside the package; a checkout has them beside it.
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"

# As wide as the original wherever one sign can be read for it, so that columns stay aligned.
_LOOK_ALIKES = {
    **dict.fromkeys("│┃║‖", "|"),
    **dict.fromkeys("─━−–—‐‑", "-"),
    **dict.fromkeys("┼╬╪┿╋┌┐└┘├┤┬┴┏┓┗┛┡┩┳┻╇┷", "+"),
    **dict.fromkeys("█▓▒░■", "#"),
    **dict.fromkeys("·•□", "."),
    **dict.fromkeys("●○∘", "o"),
    **dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)),
    **dict(zip("²³", "23", strict=True)),
    **{"═": "=", "≈": "~", "×": "x", "Δ": "d", "µ": "u", "√": "v", "‘": "'", "’": "'"},
    **{"…": "...", "±": "+-", "→": "->", "←": "<-", "≤": "<=", "≥": ">="},
}


def show_anything() -> None:
    """Let streams that lack a letter, such as the lines of a grid, show one that looks like it.

    Where there is none they show ? instead of failing.
    """
    codecs.register_error("look_alike", _look_alike)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="look_alike")


def _look_alike(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks, as ``codecs.register_error`` asks for it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_LOOK_ALIKES.get(letter, "?") for letter in missing), error.end


def check_writable(path: Path, named: str) -> None:
    """Refuse, before any work, a file that could not be written in the end.

    ``named`` is what stands before it on the command line, such as ``output=``.

    Raises:
        InputError: it is a folder, or its folder is missing or closed, or no folder
    """
    remedy = "name a file in a folder of yours"
    try:
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise InputError(f"{named}{path} cannot be written; {remedy}")
        part = _part_of(path)
        part.touch()
        part.unlink()
    except OSError as error:
        raise InputError(f"{named}{path} cannot be written: {error.strerror}; {remedy}") from None


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write beside its place; once written, sync it and rename it into place.

    If writing fails, what was at ``path`` before stays and nothing else is left.

    Raises:
        InputError: the disk is full, or does not let us write
    """
    part = _part_of(path)
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def check_free(folder: Path, named: str) -> None:
    """Refuse a folder that holds something; ``named`` is as in ``check_writable``.

    Raises:
        InputError: it does, or is no folder
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{named}{folder} is not empty; name a new folder")


@contextmanager
def folder_whole(folder: Path, named: str) -> Iterator[Path]:
    """Give a folder to fill that moves to ``folder`` in the end, or is gone if something fails.

    Raises:
        InputError: the disk is full, or does not let us write
    """
    beside = next(parent for parent in folder.absolute().parents if parent.is_dir())
    part = beside / f".{folder.name}.{os.getpid()}.part"
    try:
        part.mkdir()
        yield part
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.is_dir():
            folder.rmdir()  # empty: Windows moves nothing onto a folder
        os.replace(part, folder)
    except OSError as error:
        raise InputError(f"{named}{folder} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _part_of(path: Path) -> Path:
    """Return where a file lies while it is written."""
    return path.with_name(f".{path.name}.part")


def timestamp() -> str:
    """Return a name of now, to the millisecond so that what begins together differs."""
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"[:-3]
