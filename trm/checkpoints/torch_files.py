"""Files of ``torch.save``, looked at and opened without running code in them."""

from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import torch

from trm.support.errors import InputError

_LOOK = 1 << 16  # bytes; the names of some hundred tensors stand before the tensors


def head(path: Path) -> bytes:
    """Return the first bytes of a torch file, its keys among them; none of another file."""
    try:
        with open(path, "rb") as file:
            head_bytes = file.read(_LOOK)
    except (OSError, ValueError):
        return b""
    zipped = head_bytes.startswith(b"PK\x03\x04") and b"data.pkl" in head_bytes
    pickled = head_bytes.startswith(b"\x80")  # as before torch 1.6
    return head_bytes if zipped or pickled else b""


def read_torch(path: Path) -> Any:
    """Open any torch file without running code in it; large tensors stay on the disk.

    Raises:
        InputError: no such file, or one that cannot be opened
    """
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist; runs keep theirs in checkpoints/")
    try:
        zipped = is_zipfile(path)
        if zipped and any(entry.compress_type != ZIP_STORED for entry in ZipFile(path).infolist()):
            raise ValueError("it is compressed, which torch never does")  # and may be a bomb
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # whatever the unpickler trips over, the file is at fault
        reason = str(error).strip().partition("\n")[0][:120]
        raise InputError(
            f"checkpoint {path} cannot be opened: it is truncated, no checkpoint, or wants to run "
            f"code ({reason})"
        ) from None
