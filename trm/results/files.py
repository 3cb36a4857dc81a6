"""``result.json``: a run's numbers with their birth certificate."""

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trm.support.errors import InputError
from trm.support.files import written_whole
from trm.support.version import __version__

FORMAT = 1  # of result.json


def birth_certificate(device: torch.device) -> dict[str, Any]:
    """Say which code, libraries and machine made a number."""
    on_gpu = device.type == "cuda"
    return {
        "trm": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "processor": torch.cuda.get_device_name(device) if on_gpu else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def write_json(path: Path, contents: dict[str, Any]) -> None:
    """Write a file that appears whole or not at all."""
    text = json.dumps(contents, indent=2, ensure_ascii=False) + "\n"
    with written_whole(path) as file:
        file.write(text.encode())


def read_result(path: Path) -> dict[str, Any]:
    """Read the ``result.json`` of a run, given as file or as run folder.

    Raises:
        InputError: no such file, or no result of this version
    """
    file = path / "result.json" if path.is_dir() else path
    try:
        result: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is no result of a run ({error})") from None
    if not isinstance(result, dict) or "format" not in result:
        raise InputError(f"{file} is no result of a run (it has no 'format')")
    if result["format"] != FORMAT:
        raise InputError(f"{file} has format {result['format']}, this version reads {FORMAT}")
    return result


def _commit() -> str | None:
    """Commit of the checkout this package lies in, with ``+`` if it was changed since."""
    try:
        head = _git("rev-parse", "HEAD")
        tracked = _git("ls-files", "__init__.py")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    # A wheel inside someone else's checkout is not that checkout's code.
    return head + ("+" if changed else "") if tracked else None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return run.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def bits(which: torch.Tensor | None) -> str | None:
    """Write a (puzzles,) bool as hexadecimal digits, eight puzzles for two of them."""
    return None if which is None else np.packbits(which.numpy()).tobytes().hex()


def from_bits(digits: str, n: int) -> np.ndarray:
    """Read what ``bits`` wrote: (n,) bool."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8), count=n).astype(bool)
