"""``result.json``: a run's numbers with their birth certificate."""

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import trm

FORMAT = 1  # of result.json


def birth_certificate() -> dict[str, Any]:
    """Say which code, libraries and machine made a number."""
    cuda = torch.cuda.is_available()
    return {
        "trm": trm.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "processor": torch.cuda.get_device_name() if cuda else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def write_json(path: Path, contents: dict[str, Any]) -> None:
    """Write a file that appears whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "w", encoding="utf-8") as file:
            json.dump(contents, file, indent=2, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _commit() -> str | None:
    """Commit of the checkout this package lies in, with ``+`` if it was changed since."""
    git = ["git", "-C", str(Path(trm.__file__).parent)]
    try:
        options = {"capture_output": True, "text": True, "timeout": 10, "check": True}
        head = subprocess.run([*git, "rev-parse", "HEAD"], **options).stdout.strip()
        tracked = subprocess.run([*git, "ls-files", trm.__file__], **options).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], **options).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    # A wheel inside someone else's checkout is not that checkout's code.
    return head + ("+" if changed else "") if tracked else None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
