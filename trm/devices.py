"""Which device to use, and how much memory was in use there."""

import contextlib
import re
import sys
from pathlib import Path

import torch

from trm.errors import InputError


def pick_device(name: str) -> torch.device:
    """Resolve ``auto`` to the best device there is.

    Raises:
        InputError: no such device here
    """
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        torch.ones(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = str(error).strip().partition("\n")[0]
        raise InputError(f"device={name} cannot be used ({said}); device=cpu always can") from None
    return torch.device(name)


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def start_peak_memory(device: torch.device) -> None:
    """Begin to watch for the peak that ``peak_memory`` returns."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):  # Linux alone can forget a process's earlier peak
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Return the peak since then in bytes: of a GPU's memory, or of the process's.

    Where the system cannot forget an earlier peak (not Linux), that of the whole process so far.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return 1024 * int(found[1])
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
