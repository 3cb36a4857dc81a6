"""Files of ``torch.save``, looked at and opened without running code in them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import torch

from trm.support.errors import InputError

_LOOK = 1 << 16  # bytes; the names of some hundred tensors stand before the tensors
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"  # first bytes of torch files, of the latter before torch 1.6
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # torch prints its errors in bold
_CALLED = re.compile(r"GLOBAL ([\w.]+)")  # what an error of torch says that a file wants to call
_REASON = re.compile(r"WeightsUnpickler error:\s*(\S.*)")


class Skipped:
    """Stands for an object of a class that is not looked for: takes anything, keeps nothing."""

    def __new__(cls, *arguments: Any) -> "Skipped":
        """Ignore what the object would be made of."""
        return super().__new__(cls)

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def head(path: Path) -> bytes:
    """Return the first bytes of a torch file, its keys among them; none of another file."""
    try:
        with open(path, "rb") as file:
            head_bytes = file.read(_LOOK)
    except (OSError, ValueError):
        return b""
    zipped = head_bytes.startswith(_ZIP) and b"data.pkl" in head_bytes
    return head_bytes if zipped or head_bytes.startswith(_PICKLE) else b""


def read_torch(path: Path, skipped: tuple[str, ...] = ()) -> Any:
    """Open any torch file without running code in it; large tensors stay on the disk.

    Args:
        path: of the file
        skipped: first letters of the full names of classes and functions that are not looked for;
            what a file makes with them comes back as ``Skipped``

    Raises:
        InputError: no such file, or one that cannot be opened
    """
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist; runs keep theirs in checkpoints/")
    zipped = is_zipfile(path)
    try:
        if zipped and any(entry.compress_type != ZIP_STORED for entry in ZipFile(path).infolist()):
            raise ValueError("it is compressed, which torch never does")  # and may be a bomb
        names = _foreign_names(path, skipped) if zipped and skipped else []
        with torch.serialization.safe_globals([(Skipped, name) for name in names]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # whatever the unpickler trips over, the file is at fault
        raise InputError(f"checkpoint {path} cannot be opened: {_why(path, error)}") from None


def is_state_dict(value: Any) -> bool:
    """Tell whether something is a mapping from names to tensors, and not an empty one."""
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) for name in value)
        and all(isinstance(tensor, torch.Tensor) for tensor in value.values())
    )


def _foreign_names(path: Path, wanted: tuple[str, ...]) -> list[str]:
    """Return what a file wants to make or call that torch does not know, if it is wanted."""
    names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    return [name for name in names if name.startswith(wanted)]


def _why(path: Path, error: Exception) -> str:
    text = _COLOURS.sub("", str(error))
    if called := _CALLED.search(text):
        return (
            f"it wants to run code ({called[1]}), which trm never does; save the model's "
            f"state_dict() alone"
        )
    found = _REASON.search(text)
    reason = (found[1] if found else text.strip().partition("\n")[0])[:120]
    with open(path, "rb") as file:
        begins = file.read(4)
    cut = not is_zipfile(path) and not (begins.startswith(_PICKLE) and found)
    what = "it is truncated, or no torch file" if cut else "it is damaged, or no torch file"
    return f"{what} ({reason or type(error).__name__})"
