"""Puzzles from files, in a local folder or on the Hugging Face Hub."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download

from trm.data.builder_folders import built_splits, is_built_split, read_built
from trm.data.csv_files import read_csv
from trm.data.puzzles import PuzzleData, PuzzleSet, Splits, hold_out
from trm.support import counter_rng
from trm.support.errors import InputError
from trm.tasks.base import Task

__all__ = ["from_folder", "from_hub", "read_csv"]

_ENDS = (".csv", ".csv.gz")
_TEST = 1  # tells the draw of test puzzles from that of validation puzzles
_REMEDY = "give the folder that holds train.csv and test.csv (or .csv.gz), or one CSV file"


def from_folder(
    task: Task,
    path: str | None,
    val_share: float = 0.1,
    seed: int = 0,
    augmentations: int | None = None,
    train_file: str | None = None,
    test_file: str | None = None,
) -> PuzzleData:
    """Read ``train`` and ``test`` as ``.csv`` or ``.csv.gz`` from a folder.

    The published data has no validation split: a seeded ``val_share`` of the training puzzles,
    whole symmetry classes at a time, is held out of training. Of a single CSV file, a share of the
    same size is held out before that as the test split. Test puzzles alone make a test split
    alone, which can be evaluated. A folder without CSV files may be one that the released builders
    wrote.

    Args:
        task: whose puzzles these are
        path: folder, or a CSV file
        val_share: of the training puzzles, held out
        seed: of what is held out
        augmentations: see ``PuzzleData``
        train_file: name of the training file; None for ``train.csv`` or another ``train*``
        test_file: name of the test file; None for ``test.csv`` or another ``test*``

    Raises:
        InputError: a missing folder or file, or a bad row
    """
    if path is None:
        raise InputError(
            f"data.path=null names no folder; {_REMEDY}, read from the Hub with "
            f"data=sudoku_extreme_hub, or make other puzzles with data=generated"
        )
    place, problem = Path(path).expanduser(), None
    named = {"train": train_file, "test": test_file}
    try:
        if place.is_file():
            if any(named.values()):
                raise InputError(
                    f"data.path={path} is a file, in which data.train_file and data.test_file "
                    f"name none; {_REMEDY}"
                )
            sets, source = {"train": read_csv(place, task)}, f"file {place.name}"
        elif place.is_dir():
            sets, source, problem = _read_folder(task, place, named)
        else:
            raise InputError(f"data.path={path} is no folder and no file; {_REMEDY}")
    except OSError as error:
        raise InputError(f"data.path={path} cannot be read: {error.strerror}; {_REMEDY}") from None
    data = _splits(task, sets, source, val_share, seed, augmentations)
    return replace(data, splits=Splits(data.splits, source, problem)) if problem else data


def from_hub(
    task: Task,
    repo: str,
    revision: str | None = None,
    subsample: int | None = None,
    val_share: float = 0.1,
    seed: int = 0,
    augmentations: int | None = None,
    train_file: str = "train.csv",
    test_file: str = "test.csv",
) -> PuzzleData:
    """Read the same layout from a data set on the Hugging Face Hub.

    Files in the Hub's local cache are used without a network. Without ``revision`` the newest
    commit is taken; either way the manifest names the commit that was read.

    Args:
        task: whose puzzles these are
        repo: data set, ``owner/name``
        revision: commit, for data that cannot change
        subsample: puzzles drawn from the training file; None for all
        val_share: see ``from_folder``
        seed: of the draw and of the held-out share
        augmentations: see ``PuzzleData``
        train_file: name of the training file
        test_file: name of the test file

    Raises:
        InputError: a file that cannot be had, or a bad row
    """
    files = {}
    for name, file in (("train", train_file), ("test", test_file)):
        try:
            files[name] = Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision))
        except Exception as error:  # the Hub client raises a dozen classes for one remedy
            raise InputError(
                f"{file} of {repo} at revision {revision or 'main'} cannot be downloaded "
                f"({type(error).__name__}); download {train_file} and {test_file} by hand and use "
                f"data=sudoku_extreme data.path=<their folder>"
            ) from None
    commit = files["train"].parent.name  # the cache keeps files under their commit
    source = f"hub {repo} at {commit}"
    sets = {name: read_csv(file, task) for name, file in files.items()}
    return _splits(task, sets, source, val_share, seed, augmentations, subsample)


def _read_folder(
    task: Task, folder: Path, named: Mapping[str, str | None]
) -> tuple[dict[str, PuzzleSet], str, str | None]:
    """Return the sets that a folder holds, ``train`` or ``test`` or both, and say what was read.

    Training puzzles that cannot be read are a problem of those who ask for them, and come third.
    """
    source = f"folder {folder.absolute().name}"
    here = sorted(file for file in folder.iterdir() if _is_csv(file))
    if not here and not any(named.values()) and (built := built_splits(folder)):
        sets, said = {}, []
        for name in built:
            sets[name], rows = read_built(folder / name, task)
            said.append(f"{name} {rows}")
        return sets, f"{source}: a builder's, one row of each group ({', '.join(said)} rows)", None
    if not here and is_built_split(folder):
        raise InputError(f"{folder} is one split of a builder's folder; give {folder.parent}")
    files = _files(folder, here, named)
    names = [file.name for file in files.values()]
    if len(files) == 1:
        source += f": {names[0]} alone"
    elif any(files[name].name not in _usual(name) for name in files):
        source += f": {' and '.join(names)}"
    sets, problem = {}, None
    for name, file in files.items():
        try:
            sets[name] = read_csv(file, task)
        except InputError as error:
            if name == "test" or "test" not in files:
                raise
            problem = str(error)
    return sets, source, problem


def _is_csv(file: Path) -> bool:
    return file.name.lower().endswith(_ENDS) and not file.name.startswith(".") and file.is_file()


def _files(folder: Path, here: list[Path], named: Mapping[str, str | None]) -> dict[str, Path]:
    """Say which file of a folder is ``train`` and which ``test``; one may be missing."""
    files = {}
    for name, file in named.items():
        if file is not None and not (folder / file).is_file():
            raise InputError(f"data.{name}_file={file}: {folder} holds no such file{_list(here)}")
        if found := _found(here, name, named) if file is None else folder / file:
            files[name] = found
    if not files and len(here) == 1:
        files = {"train": here[0]}  # to be split, whatever its name
    if not files:
        raise InputError(
            f"{folder} holds neither train.csv nor train.csv.gz, nor one CSV file alone"
            f"{_list(here)}; name files with data.train_file and data.test_file"
        )
    if "test" not in files and named["train"] is None and len(here) > 1:
        raise InputError(
            f"{folder} holds no test.csv{_list(here)}; name one with data.test_file, or the one "
            f"to be split with data.path"
        )
    return files


def _found(here: list[Path], name: str, named: Mapping[str, str | None]) -> Path | None:
    """Return the file of a split that has no name in the config, by how it is called."""
    free = [file for file in here if file.name not in named.values()]
    for file in free:  # in order: .csv before .csv.gz
        if file.name in _usual(name):
            return file
    alike = [file for file in free if file.name.lower().startswith(name)]
    if len(alike) > 1:
        raise InputError(
            f"{alike[0].parent} holds no {name}.csv{_list(alike)}; name one with data.{name}_file"
        )
    return alike[0] if alike else None


def _usual(name: str) -> list[str]:
    return [name + end for end in _ENDS]


def _list(files: list[Path]) -> str:
    return f", but {', '.join(file.name for file in files[:8])}" if files else ""


def _splits(
    task: Task,
    sets: Mapping[str, PuzzleSet],
    source: str,
    val_share: float,
    seed: int,
    augmentations: int | None,
    subsample: int | None = None,
) -> PuzzleData:
    """Hold out of the training puzzles what has no file of its own."""
    if "train" not in sets:
        return PuzzleData.of(sets, task, augmentations, source)
    pool = sets["train"]
    if subsample is not None:
        if not 1 < subsample <= len(pool):
            raise InputError(f"data.subsample={subsample} must lie between 2 and {len(pool)}")
        source += f"; {subsample} of {len(pool)} training puzzles drawn with seed {seed}"
        drawn = counter_rng.key(seed, torch.arange(len(pool))).argsort()[:subsample]
        pool = pool[drawn.sort().values.numpy()]
    test = sets.get("test")
    if test is None:
        both = len(pool)
        pool, test = hold_out(pool, task, val_share, int(counter_rng.key(seed, _TEST)))
        source += f"; split with seed {seed}: {len(test)} of {both} puzzles held out for the test"
    train, val = hold_out(pool, task, val_share, seed)
    source += f"; {len(val)} of {len(pool)} training puzzles held out for validation"
    return PuzzleData.of({"train": train, "val": val, "test": test}, task, augmentations, source)
