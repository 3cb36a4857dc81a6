"""The paper's tables as data: what each row trains, what the paper says, which results are its own.

A table is ``experiments/tables/table_NAME.yaml``. Its rows are recipes (a base experiment of the
column, then ablations and overrides); at each scale it has one column of numbers or more. A result
belongs to a cell if it was trained with the same resolved config, on data of the same checksum,
with that seed: which row or table asked for it does not matter, so rows that tables share are
trained once. A column with ``tune: {factors: [...], overrides: [...]}`` has each row at its own
best learning rate, see ``tuning.py``.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
import yaml

from trm.checkpoints.continuing import CAME_LATER, flat
from trm.checkpoints.native import build_model
from trm.commands import composed
from trm.data.loading import load_data
from trm.models import TinyRecursiveModel
from trm.results.files import read_result
from trm.support.build import build, nearest
from trm.support.errors import InputError
from trm.tasks.base import Task
from trm.training.config import TrainingConfig

HERE = Path(__file__).parent
TABLES = HERE / "tables"
RESULTS = HERE / "results" / "tables"

# Of a config, what a number may depend on. The rest says where and how fast it was made.
_DECIDES = ("task", "data", "model", "optimizer", "recursion", "train", "ema", "test")
_DECIDES_OF = {
    "trainer": ("max_steps", "val_check_interval", "limit_val_batches", "precision"),
    "checkpoint": ("monitor", "mode"),
}
_DECIDES_IF_GIVEN = ("init_from", "callbacks")
_DECIDES_NOTHING = {
    *(("data", "path"), ("model", "identifiers")),  # the data's checksum says it
    *(("train", key) for key in ("micro_batch", "eval_batch_size", "log_every_n_steps")),
}


@dataclass(frozen=True)
class Tune:
    """How the learning rate of each recipe is searched.

    Attributes:
        factors: of the recipe's own rate
        overrides: of the runs of the search alone
    """

    factors: tuple[float, ...]
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) <= 0:
            raise InputError(f"tune.factors={list(self.factors)} must be positive, one or more")


@dataclass(frozen=True)
class Column:
    """A benchmark at one scale.

    Attributes:
        name: heading
        experiment: base of every row's recipe
        overrides: of every row
        beside: the paper's column it stands beside
        measure: ``exact`` accuracy, or ``pass@2`` of ARC
        tune: how the learning rates of its rows are searched, if they are
    """

    name: str
    experiment: str
    overrides: tuple[str, ...] = ()
    beside: str = ""
    measure: str = "exact"
    tune: Tune | None = None


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        name: short, for commands and files
        label: as printed
        paper: the paper's ``parameters``, ``depth``, ``passes``, and its number by column
        ablations: changes to the base
        overrides: after them
        columns: further ``ablations`` and ``overrides`` by column
        quoted: another's system: the number is the paper's and nothing is trained
        scale: the only scale at which there is such a row
        only: the columns in which there is such a row; () for all
        block: heading above this and the following rows
    """

    name: str
    label: str
    paper: Mapping[str, Any] = field(default_factory=dict)
    ablations: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    quoted: bool = False
    scale: str | None = None
    only: tuple[str, ...] = ()
    block: str = ""


@dataclass(frozen=True)
class Cell:
    """One row in one column: a recipe.

    Attributes:
        row: of the table
        column: of the table
        overrides: of ``trm.train``, but for seed and folder
    """

    row: Row
    column: Column
    overrides: tuple[str, ...]

    @cached_property
    def config(self) -> TrainingConfig:
        """What the words come to."""
        return training_config(self.overrides)

    @cached_property
    def recipe(self) -> str:
        """Hash of what decides about the number, but for data and seed."""
        return recipe_hash(self.config.plain)

    @property
    def rate(self) -> float:
        """Learning rate."""
        return float(self.config.optimizer["lr"])

    def at(self, rate: float) -> "Cell":
        """Return the recipe with this learning rate."""
        if rate == self.rate:  # the same words, too
            return self
        return replace(self, overrides=(*self.overrides, f"optimizer.lr={rate}"))

    def command(self, seed: int, run_dir: Path) -> list[str]:
        """Return the words that train it, or go on where that was stopped."""
        words = ["python", "-m", "trm.train", *self.overrides, f"seed={seed}"]
        return [*words, f"run_dir={run_dir}", "ckpt_path=auto"]


@dataclass(frozen=True)
class Table:
    """A table at one scale."""

    name: str
    title: str
    source: str
    scale: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    reference: Mapping[str, str]

    def cells(self) -> Iterator[Cell]:
        """Go through what is to be trained, row by row."""
        for row in self.rows:
            for column in self.columns:
                if not row.quoted and row in self.rows_of(column):
                    yield self.cell(row, column)

    def rows_of(self, column: Column) -> list[Row]:
        """Return the rows that a column has."""
        return [row for row in self.rows if not row.only or column.name in row.only]

    def cell(self, row: Row, column: Column) -> Cell:
        """Return the recipe of a row in a column."""
        here = row.columns.get(column.name, {})
        names = [*row.ablations, *here.get("ablations", ())]
        ablations = [f"ablation=[{','.join(names)}]"] if names else []
        given = (*ablations, *column.overrides, *row.overrides, *here.get("overrides", ()))
        return Cell(row, column, (f"experiment={column.experiment}", *given))


def read_table(name: str, scale: str) -> Table:
    """Read ``experiments/tables``.

    Args:
        name: such as ``1``
        scale: ``paper``, ``laptop``, or another that the table has

    Raises:
        InputError: no such table, or no such scale of it
    """
    told = _told(name)
    if scale not in told["scales"]:
        scales = " or ".join(told["scales"])
        raise InputError(f"table {name} has no scale={scale}; it has {scales}")
    columns = tuple(_column(name, told) for name, told in told["scales"][scale].items())
    rows = tuple(Row(short, **_tuples(settings)) for short, settings in told["rows"].items())
    rows = tuple(row for row in rows if row.scale in (None, scale))
    reference = told.get("reference", {})
    if isinstance(reference, str):
        reference = {column.name: reference for column in columns}
    return Table(name, told["title"], told["source"], scale, columns, rows, reference)


def names() -> list[str]:
    """List the tables."""
    return [path.stem.removeprefix("table_") for path in sorted(TABLES.glob("table_*.yaml"))]


def scales(name: str) -> list[str]:
    """List the scales of a table.

    Raises:
        InputError: no such table
    """
    return list(_told(name)["scales"])


def _told(name: str) -> dict[str, Any]:
    path = TABLES / f"table_{name}.yaml"
    if not path.is_file():
        raise InputError(f"table={name} does not exist; {nearest(name, names())}")
    told: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return told


def _column(name: str, told: Mapping[str, Any]) -> Column:
    tune = {"tune": Tune(**_tuples(told["tune"]))} if "tune" in told else {}
    return Column(name, **{"beside": name} | _tuples(told) | tune)


def _tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }


@cache
def training_config(overrides: tuple[str, ...]) -> TrainingConfig:
    """Compose the config of a training run, within a Hydra command or without one.

    Raises:
        HydraException: an override that does not fit
        InputError: a group that is no group any more
    """
    return TrainingConfig.of(composed("train", overrides))


def compose(overrides: tuple[str, ...]) -> dict[str, Any]:
    """Return the same in plain types."""
    return training_config(overrides).plain


def recipe_hash(config: Mapping[str, Any]) -> str:
    """Hash what decides about a run's number, but for its data's checksum and its seed."""
    kept = {name: config[name] for name in _DECIDES}
    for name, keys in _DECIDES_OF.items():
        kept[name] = {key: config[name][key] for key in keys}
    kept |= {name: config[name] for name in _DECIDES_IF_GIVEN if config.get(name)}
    for group, settings in kept.items():
        if isinstance(settings, dict):
            kept[group] = {
                k: v
                for k, v in settings.items()
                if (group, k) not in _DECIDES_NOTHING
                and not any(f"{name}.".startswith(f"{group}.{k}.") for name in CAME_LATER)
            }
    # What came after results were recorded counts where it differs from what these were made with.
    values = flat(config)
    kept |= {k: values[k] for k, was in CAME_LATER.items() if values.get(k) not in (None, was)}
    text = json.dumps(kept, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def identity(recipe: str, data: str, seed: int) -> str:
    """Name a result: hash of the recipe, the data's checksum and the seed."""
    return hashlib.sha256(f"{recipe} {data} {seed}".encode()).hexdigest()[:16]


def data_checksum(config: TrainingConfig) -> str:
    """Load or make the data of a config and return their checksum.

    Raises:
        InputError: data that cannot be read
    """
    return _checksum(json.dumps([config.task, config.data], sort_keys=True))


@cache
def _checksum(task_and_data: str) -> str:
    task, data = json.loads(task_and_data)
    return str(load_data(data, build(task, Task, "task")).manifest["sha256"])


def recorded(results: Path = RESULTS) -> dict[tuple[str, int], dict[str, Any]]:
    """Read all results by recipe and seed.

    Raises:
        InputError: a file that is no result, or two for one recipe and seed
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for path in sorted(results.glob("*.json")):
        result = read_result(path)
        try:
            key = recipe_hash(result["config"]), int(result["seed"])
        except (KeyError, TypeError, AttributeError):
            raise InputError(
                f"{path} is no result of training; keep it in another folder"
            ) from None
        if key in found:
            raise InputError(
                f"{path} repeats another result's recipe and seed, on other data unless it is a "
                "copy; remove one of them"
            )
        found[key] = result
    return found


def file_name(result: Mapping[str, Any]) -> str:
    """Return where a result lies among the others."""
    name = identity(recipe_hash(result["config"]), result["manifest"]["sha256"], result["seed"])
    return f"{result['task']}_{name}.json"


def size_and_depth(config: TrainingConfig) -> tuple[int, int | None]:
    """Return how many parameters a config's model has, and its effective depth.

    The identifier rows of ARC count with neither. None of networks that are not the paper's.
    """
    if config.counts_identifiers:
        config = config.changed("model", identifiers=1)
    with torch.device("meta"):
        model = build_model(config.model, build(config.task, Task, "task"))
    return model.size, model.effective_depth if isinstance(model, TinyRecursiveModel) else None
