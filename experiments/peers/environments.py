"""An environment for each peer, made once and kept."""

import shutil
import subprocess
import sys
from pathlib import Path

from experiments.peers.subjects import SUBJECTS, TORCH, Subject
from experiments.table import HERE
from trm.support.errors import InputError

_CONSTRAINTS = HERE.parent / "constraints.txt"


def interpreter(name: str, work: Path) -> Path:
    """Return the interpreter for a subject, after making its environment where that is needed.

    Raises:
        InputError: it cannot be made; nothing is left of it
    """
    subject = SUBJECTS[name]
    if subject.requirement is None:
        return Path(sys.executable)
    folder = work / name
    inside = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
    found = folder.joinpath(*inside)
    done = folder / ".installed"
    if done.is_file() and done.read_text() == subject.requirement:
        return found
    print(f"installing {subject.requirement} into {folder} ...", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _make(name, subject, folder, found)
        done.write_text(subject.requirement)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return found


def check_work(work: Path) -> None:
    """Make the folder of the environments.

    Raises:
        InputError: it cannot be made or written to
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
        (work / ".written").touch()
        (work / ".written").unlink()
    except OSError as error:
        raise InputError(
            f"--work={work} cannot be written to ({error.strerror}); name a folder of yours"
        ) from None


def _make(name: str, subject: Subject, folder: Path, found: Path) -> None:
    _run([sys.executable, "-m", "venv", str(folder)], name, folder)
    lines = _CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.partition("==")[0] not in subject.loosened]
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(kept) + "\n", encoding="utf-8")
    pip = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["-c", str(constraints)]
    assert subject.requirement is not None, "asked for before"
    # First torch alone, so that an index with the CPU build, if one is set up, is asked for it.
    _run([*pip, TORCH], name, folder)
    # nano-trm's metadata ask for Python 3.12.1 exactly; its code needs no more than 3.11.
    _run([*pip, "--ignore-requires-python", subject.requirement], name, folder)
    if subject.unneeded:
        _run([str(found), "-m", "pip", "uninstall", "--yes", *subject.unneeded], name, folder)


def _run(command: list[str], name: str, folder: Path) -> None:
    ended = subprocess.run(command, capture_output=True, text=True)
    if not ended.returncode:
        return
    lines = [line.strip() for line in ended.stderr.splitlines() + ended.stdout.splitlines()]
    said = next((line for line in lines if line.startswith("ERROR")), (lines or ["no word"])[-1])
    raise InputError(
        f"{name} cannot be installed into {folder} ({said.removeprefix('ERROR: ')}); pip needs a "
        f"network or an index that has it, or leave it out with --only"
    )
