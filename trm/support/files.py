"""Files that appear whole or not at all, and streams that take any letter."""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

from trm.support.errors import InputError

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
        InputError: it is a folder, or its folder is missing or closed
    """
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"{named}{path} cannot be written; name a file in a folder of yours")


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write beside its place; once written, sync it and rename it into place.

    If writing fails, what was at ``path`` before stays and nothing else is left.

    Raises:
        InputError: the disk is full, or does not let us write
    """
    part = path.with_name(f".{path.name}.part")
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
