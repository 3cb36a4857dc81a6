"""``all_config.yaml``, which the published training scripts write beside their files."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import yaml

from trm.models.recursion import Halting, Trained
from trm.support.errors import InputError
from trm.support.files import written_whole
from trm.tasks import Maze, Sudoku, task_named
from trm.tasks.base import Task

NAME = "all_config.yaml"

_CONSTANTS = {  # as they are in every model here
    **{"rope_theta": 10_000, "rms_norm_eps": 1e-5},
    **{"H_init_std": 1.0, "L_init_std": 1.0},  # of random starts
}
_LOSSES = {"stablemax_cross_entropy": "stablemax", "softmax_cross_entropy": "softmax"}
_KIND = re.compile(r"(?<![a-z])(sudoku|maze|arc(?![a-z]))")  # of puzzle, in the name of a folder
# Others that the builders know, so that a vocabulary with a token more, as another library has it,
# is not taken for a larger grid.
_SUDOKU_SIDES = 4, 6, 9, 16


@dataclass(frozen=True)
class AllConfig:
    """What is said of a published file's training, beside it or in it.

    Attributes:
        source: for messages
        arch: what the model was made with; empty where nothing is said
        top: what is said beside ``arch``
    """

    source: str = ""
    arch: Mapping[str, Any] = field(default_factory=dict)
    top: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, contents: Any, source: str, file: Path) -> "AllConfig":
        """Read a config; ``file`` is whose it is.

        Raises:
            InputError: it is none, or says what no model here has
        """
        arch = contents.get("arch") if isinstance(contents, Mapping) else None
        if not isinstance(arch, Mapping):
            raise InputError(f"{source} cannot be read as a published config: it has no arch")
        for constant, value in _CONSTANTS.items():
            if arch.get(constant, value) != value:
                raise InputError(
                    f"{source} says {constant}={arch[constant]}, and models here have {value}; "
                    f"loading {file.name} would be silently wrong"
                )
        return cls(source, arch, contents)

    @classmethod
    def beside(cls, path: Path) -> "AllConfig":
        """Read the config in the folder of a file, if there is one.

        Raises:
            InputError: it cannot be read
        """
        file = path.parent / NAME
        return cls.of(_read(file), str(file), path) if file.is_file() else cls()

    @property
    def module(self) -> str:
        """Name of the published module that has the model's class: ``trm``, ``hrm`` ..."""
        return str(self.arch.get("name", "")).partition("@")[0].rpartition(".")[2]

    def share(self, name: str) -> float | None:
        """Return a number from 0 to 1 of ``arch``, None where it is not said.

        Raises:
            InputError: something else
        """
        value = self.arch.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"{self.source} says {name}={value!r}, which is not from 0 to 1")
        return float(value)

    def number(self, name: str) -> int | None:
        """Return a whole number of ``arch`` or beside it, None where it is not said.

        Raises:
            InputError: something else
        """
        value = self.arch.get(name, self.top.get(name))
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise InputError(f"{self.source} says {name}={value!r}, which is no whole number")
        return value

    def train(self, halts_on_continue: bool) -> dict[str, Any]:
        """Return how it was trained, under the names of our section ``train``.

        Args:
            halts_on_continue: whatever is said, as HRM does
        """
        said: dict[str, Any] = {}
        if (steps := self.number("halt_max_steps")) is not None:
            if steps < 1:
                raise InputError(f"{self.source} says halt_max_steps={steps}; it must be 1 or more")
            said["N_sup"] = steps
        continues = halts_on_continue or self.arch.get("no_ACT_continue") is False
        halting: Halting = "continue" if continues else "solved"
        if self.arch:
            said["halting"] = halting
        if self._loss_type in _LOSSES:
            said["loss"] = _LOSSES[self._loss_type]
        return said

    @property
    def other_loss(self) -> str | None:
        """Name of its loss where this library has none like it."""
        return None if self._loss_type in (None, *_LOSSES) else self._loss_type

    @property
    def _loss_type(self) -> str | None:
        loss = self.arch.get("loss")
        said = loss.get("loss_type") if isinstance(loss, Mapping) else None
        return None if said is None else str(said)

    def task(self, vocab_size: int, cells: int | None) -> Task | None:
        """Return the task that the folders of its data are named after, if that fits.

        Args:
            vocab_size: of the model
            cells: of its grid, or None where nobody knows
        """
        kinds = {(kind[1], name) for name in self._folders() for kind in _KIND.finditer(name)}
        if len({kind for kind, _ in kinds}) != 1:
            return None
        kind, name = min(kinds)
        task: Task | None = None
        if kind == "sudoku" and vocab_size - 2 in _SUDOKU_SIDES:
            task = Sudoku().of_size((vocab_size - 2) ** 2)
        elif kind == "maze":
            said = re.search(r"(\d{1,3})x\1(?!\d)", name)
            task = Maze().of_size(int(said[1]) ** 2 if said else cells or 0)
        elif kind == "arc":
            task = task_named("arc")
        fits = task is not None and task.vocab_size == vocab_size and cells in (None, task.cells)
        return task if fits else None

    def _folders(self) -> Iterator[str]:
        paths = self.top.get("data_paths")
        dataset = self.top.get("dataset")
        paths = list(paths) if isinstance(paths, list) else []
        paths += [self.top.get("data_path")]
        paths += [dataset.get("data_path")] if isinstance(dataset, Mapping) else []
        for path in paths:
            if isinstance(path, str):
                yield PurePath(path.lower()).name


def published_config(
    arch: Mapping[str, Any], top: Mapping[str, Any], trained: Trained
) -> dict[str, Any]:
    """Return the contents of an ``all_config.yaml``: what is known, under published names."""
    loss_type = {ours: theirs for theirs, ours in _LOSSES.items()}[trained.loss]
    how = {
        "loss": {"name": "losses@ACTLossHead", "loss_type": loss_type},
        "halt_max_steps": trained.N_sup,
        "halt_exploration_prob": 0.1,  # of training alone, but the published class asks for it
        "forward_dtype": "float32",
    }
    return {"arch": {**arch, **how}, **top}


def check_config(config: Mapping[str, Any], path: Path) -> None:
    """Refuse to write beside a config that says otherwise.

    Args:
        config: of the file to write
        path: of that file

    Raises:
        InputError: naming the first difference
    """
    file = path.parent / NAME
    if not file.exists():
        return
    there = AllConfig.of(_read(file), str(file), path)
    expected = [(there.arch, name, value) for name, value in config["arch"].items()]
    expected += [(there.top, name, value) for name, value in config.items() if name != "arch"]
    for said, name, value in expected:
        if said.get(name) != value:
            says = f"says {name}={said[name]!r}" if name in said else f"does not say {name}"
            raise InputError(
                f"{file} is there already and {says}, where this model needs {value!r}; save it "
                f"into a folder of its own"
            )


def write_config(config: Mapping[str, Any], path: Path) -> None:
    """Write a config beside a file, unless it is there."""
    file = path.parent / NAME
    if not file.exists():
        with written_whole(file) as stream:
            stream.write(yaml.safe_dump(config, sort_keys=False).encode())


def _read(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{file} cannot be read as a published config: {reason}") from None
