"""Every row at its own best learning rate: what a column with ``tune`` searches first.

A search trains a recipe once at each factor times its own ``optimizer.lr``, so that optimizers
whose rates differ in size are searched equally, with a seed that no row has and without a test
puzzle. The rate that did best on validation puzzles is the row's. What came out lies in one file
per recipe, rewritten after each run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from experiments.table import HERE, Cell, Tune
from trm.results.files import FORMAT, read_result, write_json
from trm.support.errors import InputError
from trm.training.run_folder import LOCK

TUNING = HERE / "results" / "tuning"
SEED = 1000  # of searches alone
_MONITOR = "val/exact_accuracy"
_KEPT = ("val_exact_accuracy", "training_wall_time_s", "training_cpu_time_s", "device")


def searches(cells: Iterable[Cell], folder: Path = TUNING) -> "list[Search]":
    """List the searches of those cells whose rates are searched."""
    return [Search(cell, cell.column.tune, folder) for cell in cells if cell.column.tune]


def best(accuracies: Sequence[float | None]) -> int:
    """Return the place of the best accuracy; None, of a run that diverged, is below all.

    Of equals it is the one nearest to the middle, and of two such the first: the search does not
    tell them apart, and there it saw what both higher and lower rates do.
    """
    ranked = [-1.0 if accuracy is None else accuracy for accuracy in accuracies]
    middle = (len(ranked) - 1) / 2
    return max(range(len(ranked)), key=lambda place: (ranked[place], -abs(place - middle)))


@dataclass(frozen=True)
class Outcome:
    """What is known of a recipe's rates.

    Attributes:
        recipe: hash of what was searched
        rates: from low to high
        runs: by rate, those that are done
    """

    recipe: str
    rates: tuple[float, ...]
    runs: Mapping[float, Mapping[str, Any]]

    @property
    def place(self) -> int | None:
        """Which of the rates did best; None until all are known."""
        if any(rate not in self.runs for rate in self.rates):
            return None
        return best([self.runs[rate]["val_exact_accuracy"] for rate in self.rates])

    @property
    def rate(self) -> float | None:
        """The rate that did best; None until all are known."""
        return None if self.place is None else self.rates[self.place]

    @property
    def at_edge(self) -> bool:
        """Whether a better rate may lie beyond those searched."""
        return self.place in (0, len(self.rates) - 1)

    @property
    def minutes(self) -> float:
        """What the search took, counted as a table's minutes are."""
        runs = [self.runs[rate] for rate in self.rates if rate in self.runs]
        kinds = ("cpu" if run["device"] == "cpu" else "wall" for run in runs)
        times = (run[f"training_{kind}_time_s"] for run, kind in zip(runs, kinds, strict=True))
        return float(sum(times)) / 60


@dataclass(frozen=True)
class Search:
    """The search for the rate of one recipe.

    Attributes:
        cell: the recipe, at its own rate
        tune: how to search
        folder: of the files

    Raises:
        InputError: the recipe's checkpoint is chosen by another number
    """

    cell: Cell
    tune: Tune
    folder: Path = TUNING

    def __post_init__(self) -> None:
        if (monitor := self.cell.config.checkpoint.monitor) != _MONITOR:
            raise InputError(
                f"{self.cell.row.label} has checkpoint.monitor={monitor}; rates are chosen by "
                f"{_MONITOR}, so give it that one or take tune out of the table"
            )

    @cached_property
    def base(self) -> Cell:
        """What is trained while searching, but for the rate."""
        column = replace(self.cell.column, measure="exact")  # votes are of test puzzles
        words = (*self.cell.overrides, *self.tune.overrides, "test.limit=0")
        return replace(self.cell, column=column, overrides=words)

    @cached_property
    def rates(self) -> dict[float, float]:
        """Factors by the rates they give, from low to high."""
        factors = sorted(self.tune.factors)
        return {float(f"{factor * self.cell.rate:.12g}"): factor for factor in factors}

    @property
    def path(self) -> Path:
        """Where the outcome lies."""
        return self.folder / f"{self.base.recipe[:16]}.json"

    def trial(self, rate: float) -> Cell:
        """Return what is trained for one of the rates."""
        return self.base.at(rate)

    def outcome(self, data: str | None = None) -> Outcome:
        """Read what is known; given a checksum of data, only what is known on these.

        Raises:
            InputError: a file that is no outcome
        """
        kept = read_result(self.path) if self.path.is_file() else {"runs": []}
        on_these = data in (None, kept.get("data"))
        runs = {run["rate"]: run for run in kept["runs"] if on_these}
        return Outcome(self.base.recipe, tuple(self.rates), runs)

    def tuned(self, data: str | None = None) -> Cell | None:
        """Return the recipe at the rate that did best; None until all are known."""
        rate = self.outcome(data).rate
        return None if rate is None else self.cell.at(rate)

    def keep(self, rate: float, result: Mapping[str, Any]) -> None:
        """Put a run beside the others on the same data."""
        run = {
            "factor": self.rates[rate],
            "rate": rate,
            **{name: result[name] for name in _KEPT},
            **{name: result["certificate"][name] for name in ("commit", "processor", "torch")},
        }
        data = result["manifest"]["sha256"]
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / LOCK):  # other runners keep theirs
            known = self.outcome(data)
            known = replace(known, runs=dict(sorted({**known.runs, rate: run}.items())))
            told = {
                "format": FORMAT,
                "recipe": known.recipe,
                "overrides": [w for w in self.base.overrides if not w.startswith("data.path=")],
                "data": data,
                "seed": SEED,
                "factors": list(self.rates.values()),
                "runs": list(known.runs.values()),
                "rate": known.rate,
            }
            write_json(self.path, told)
