"""Which device to use and in which precision, and how much memory there is and was in use."""

import contextlib
import ctypes
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from trm.support.errors import InputError

Precision = Literal["auto", "bf16-mixed", "32-true"]  # in Lightning's words

_NATIVE_BFLOAT16 = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
_PAYS = 2.0  # so many times as fast bfloat16 products must be: casts and elementwise work cost
_SIDE, _TURNS = 512, 5  # of the products that are timed
_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT_BYTES = 2**30


def best_kind() -> str:
    """Name the best kind of device there is; none is touched."""
    mps = torch.backends.mps.is_available()
    return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"


def pick_device(name: str) -> torch.device:
    """Resolve ``auto`` to the best device there is.

    Raises:
        InputError: no such device here
    """
    name = best_kind() if name == "auto" else name
    try:
        torch.ones(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"device={name} cannot be used ({reason}); device=cpu always can"
        ) from None
    return torch.device(name)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 matrices at least twice as fast as float32's.

    GPUs since Ampere do. CPUs without AVX512-BF16 or AMX emulate them (6 to 70 times as slow as
    float32), but having such instructions is not enough: an AMD EPYC is 4 to 6 times as fast, an
    Intel Xeon whose AMX a hypervisor hides half as fast. So a CPU that has them is timed, once in a
    process, in some 30 ms. Nothing measured is near the limit: a run that is continued on its
    machine finds the same.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    # Private names, for torch 2.11 has no public ones; where they are gone the answer is no.
    asked = (getattr(torch.cpu, name, bool) for name in _NATIVE_BFLOAT16)
    return any(can() for can in asked) and _bfloat16_gain() >= _PAYS


@cache
def _bfloat16_gain() -> float:
    """Time products in float32 over those in bfloat16, the best of some turns."""
    # In a thread of its own no context of the caller's counts: autocast, a default device, a mode.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_timed_gain).result()


def _timed_gain() -> float:
    wide = torch.ones(_SIDE, _SIDE, device="cpu")
    operands = wide, wide.bfloat16()
    best = [float("inf"), float("inf")]
    for turn in range(1 + _TURNS):  # the first one makes the kernels
        for kind, operand in enumerate(operands):
            start = time.perf_counter()
            operand @ operand
            spent = time.perf_counter() - start
            best[kind] = min(best[kind], spent) if turn else best[kind]
    return best[0] / best[1]


def pick_precision(name: str, device: torch.device) -> str:
    """Resolve ``auto`` to what a device is fast at: bfloat16 autocast or float32."""
    if name != "auto":
        return name
    return "bf16-mixed" if multiplies_bfloat16(device) else "32-true"


def why_precision(device: torch.device) -> str:
    """Say what ``auto`` went by."""
    return f"bfloat16 products are {'' if multiplies_bfloat16(device) else 'not '}fast here"


def autocast(device: torch.device | str, precision: str) -> AbstractContextManager[object]:
    """Return a context in which a model runs in a precision, ``auto`` or one of Lightning's.

    Weights and state stay as wide as they are; of a mixed precision only the products are narrow.
    """
    device = torch.device(device)
    dtype = _AUTOCAST.get(pick_precision(precision, device))
    return torch.autocast(device.type, dtype) if dtype else nullcontext()


def machine_memory() -> int | None:
    """Return how many bytes of memory the machine has; None where nobody says, as on Windows."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def keep_freed_memory() -> bool:
    """Let the process keep what it frees, up to a gigabyte, and say whether that could be asked.

    glibc gives large blocks back to the kernel, which fills them with zeros at the next step: a
    pass over the same puzzles then takes up to twice as long, by chance. Other systems, and other
    C libraries, are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    successes = [mallopt(what, _KEPT_BYTES) for what in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD)]
    return all(successes)


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
        status = Path("/proc/self/status").read_text()
        if peak_kb := re.search(r"VmHWM:\s+(\d+) kB", status):
            return 1024 * int(peak_kb[1])
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
