"""Which subsets of ARC tasks a folder has, and which of them are trained on and asked."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trm.data.arc.reading import ENDINGS, ArcTask, has_many, read_challenges, read_files, stem
from trm.support.errors import InputError

__all__ = ["WHOLE", "ArcTask", "Subsets", "choose", "read_subset", "subsets_of"]

WHOLE = "."  # the subset that is the folder itself, with all its subfolders
# Trained on where it is there: neither Kaggle's folders nor the ARC-AGI repositories have it.
_OPTIONAL = ("concept",)
_PREFIX, _CHALLENGES = "arc-agi_", "_challenges"
# How the name of a subset begins. A folder of any other name is a part of one, such as a concept.
_NAMES = ("train", "eval", "test", "val", "concept", _PREFIX)
_DEEPEST = 3  # levels of subfolders that are searched

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subsets:
    """What of a folder is read.

    Attributes:
        folder: where the subsets lie, maybe within the one that was given
        train: subsets to read
        test: the one of them that is asked
    """

    folder: Path
    train: tuple[str, ...]
    test: str

    @property
    def is_single(self) -> bool:
        """Whether what is asked must be split off from what is trained on."""
        return self.train == (self.test,)


def read_subset(folder: Path, subset: str) -> dict[str, ArcTask]:
    """Read a subset, such as ``training``, of a folder.

    Looks for ``arc-agi_<subset>_challenges.json`` with ``..._solutions.json``, for a folder
    ``<subset>`` with JSON files in it or in its subfolders, and for ``<subset>.json`` or
    ``<subset>.jsonl``; each plain or ``.gz``. ``.`` is the folder itself.

    Raises:
        InputError: nothing of that name, or a bad file, naming file, task and rule
    """
    challenges, files = _source(folder, subset)
    if challenges is not None:
        solutions = challenges.name.replace(_CHALLENGES, "_solutions").removesuffix(".gz")
        return read_challenges(challenges, _existing(folder, solutions))
    if not files:
        found = subsets_of(folder)
        has = f"it has the subsets {', '.join(found)}" if found else "it has no JSON files"
        raise InputError(f"{_lacks(folder, subset)}; {has}")
    return read_files(files)


def subsets_of(folder: Path) -> list[str]:
    """Return the names of the subsets in a folder: training first, the rest by name."""
    loose = _files(folder, deepest=0)
    names = {_bare(stem(file)) for file in loose if stem(file).endswith(_CHALLENGES)}
    if not names:  # a file beside challenges is theirs, such as sample_submission.json
        names = {stem(file) for file in loose if _is_subset(file)}
    below = next(os.walk(folder), ("", [], []))[1]
    names |= {name for name in below if _is_shown(name) and _has_files(folder / name)}
    if loose and not names:
        return [WHOLE]
    return sorted(names, key=lambda name: (not name.startswith("train"), name))


def choose(path: Path, train: Sequence[str], test: str) -> Subsets:
    """Find the subsets that are wanted, or the one that there is.

    A folder ``data``, or the only subfolder, is gone into. What is the only subset is trained on
    and asked (``Subsets.is_single``), and so is a whole folder of which no part has the name of a
    subset, such as a folder per concept. ``concept`` may be missing.

    Raises:
        InputError: no such folder, no tasks, or other subsets, with the override to type
    """
    if os.path.isfile(path):
        if not path.name.endswith(ENDINGS):
            raise InputError(
                f"data.path={path} is no {', '.join(ENDINGS)} file; give one, or the folder with "
                f"the ARC tasks, unpacked"
            )
        is_half = stem(path).endswith(_CHALLENGES)  # the other one has the solutions
        name = _bare(stem(path)) if is_half else path.name
        return Subsets(path.parent, (name,), name)
    if not os.path.isdir(path):
        raise InputError(f"data.path={path} does not exist; give the folder with the ARC tasks")
    folder, found = _descend(path, train)
    lacking = [name for name in train if not _has(folder, name)]
    if not lacking or set(lacking) <= {*_OPTIONAL} - {test}:
        if lacking:
            _log.warning(f"warning: {folder} has no subset {lacking[0]}: it is not trained on")
        return Subsets(folder, tuple(name for name in train if name not in lacking), test)
    if not found:
        raise InputError(
            f"{_lacks(path, lacking[0])}, nor any JSON file {_DEEPEST} folders deep; give the "
            f"folder with the ARC tasks"
        )
    # Who types another name than the usual ones wants that one, and may have misspelt it.
    is_usual = all(_is_name(name) for name in train)
    if is_usual and (len(found) == 1 or not any(_is_name(name) for name in found)):
        single = found[0] if len(found) == 1 else WHOLE
        return Subsets(folder, (single,), single)
    raise InputError(f"{_lacks(folder, lacking[0])}; {_remedy(found)}")


def _descend(folder: Path, wanted: Sequence[str]) -> tuple[Path, list[str]]:
    """Go into the folder in which the subsets lie."""
    for _ in range(_DEEPEST):
        found = subsets_of(folder)
        inner = "data" if "data" in found else found[0] if len(found) == 1 else WHOLE
        is_here = inner == WHOLE or any(_has(folder, name) for name in wanted)
        # With JSON files of its own it is a subset, not a folder of subsets.
        if is_here or not os.path.isdir(folder / inner) or _has_files(folder / inner, deepest=0):
            break
        folder = folder / inner
    return folder, subsets_of(folder)


def _remedy(found: list[str]) -> str:
    asked = [name for name in found if name.startswith("eval")] or found[-1:]
    # Tests of a competition have no solutions: good for a submission, not to begin with.
    train = [name for name in found if not name.startswith("test") or name in asked]
    return (
        f"it has the subsets {', '.join(found)}: type data.train=[{','.join(train)}] "
        f"data.test={asked[0]}"
    )


def _lacks(folder: Path, subset: str) -> str:
    return (
        f"{folder} holds neither {_PREFIX}{subset}{_CHALLENGES}.json (or .gz) nor a folder "
        f"{subset} of JSON files nor {subset}.json or {subset}.jsonl"
    )


def _is_name(name: str) -> bool:
    return name.lower().startswith(_NAMES)


def _has(folder: Path, subset: str) -> bool:
    challenges, files = _source(folder, subset)
    return challenges is not None or bool(files)


def _source(folder: Path, subset: str) -> tuple[Path | None, list[Path]]:
    """Return the challenges of a subset, or else its files of tasks; none if it is not there."""
    for name in (f"{_PREFIX}{subset}", subset):
        if challenges := _existing(folder, f"{name}{_CHALLENGES}.json"):
            return challenges, []
    loose = _files(folder, deepest=0)
    files = _files(folder / subset)
    return None, files or [file for file in loose if subset in (stem(file), file.name)]


def _existing(folder: Path, name: str) -> Path | None:
    paths = folder / name, folder / f"{name}.gz"
    return next((path for path in paths if os.path.isfile(path)), None)


def _is_subset(file: Path) -> bool:
    """Whether a file among others is a subset; one that has the name alone may be a task."""
    return ".jsonl" in file.name or (_is_name(stem(file)) and has_many(file))


def _bare(name: str) -> str:
    return name.removeprefix(_PREFIX).removesuffix(_CHALLENGES)


def _has_files(folder: Path, deepest: int = _DEEPEST) -> bool:
    return next(_walk(folder, deepest), None) is not None


def _files(folder: Path, deepest: int = _DEEPEST) -> list[Path]:
    """Return the JSON files of a folder and its subfolders, the kinds one after the other."""
    found = sorted(_walk(folder, deepest))
    return [file for ending in ENDINGS for file in found if file.name.endswith(ending)]


def _walk(folder: Path, deepest: int) -> Iterator[Path]:
    """Yield the JSON files, of any kind and in any order; hidden ones are no data."""
    for where, folders, names in os.walk(folder):
        depth = len(Path(where).relative_to(folder).parts)
        folders[:] = [name for name in folders if depth < deepest and _is_shown(name)]
        yield from (
            Path(where, name) for name in names if name.endswith(ENDINGS) and _is_shown(name)
        )


def _is_shown(name: str) -> bool:
    return not name.startswith((".", "__"))
