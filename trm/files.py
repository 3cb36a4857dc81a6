"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from trm.errors import InputError


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
