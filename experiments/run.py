"""Train what a table still lacks: ``python -m experiments.run table=1 scale=laptop seeds=3``.

``table`` is 1 to 5, or a list as [1,2]; ``row`` and ``column`` pick some of it by name, a column as
``column=sudoku_6x6``;
``processes=2`` trains two rows side by side, each with ``threads`` threads; ``dry=true`` prints the
commands and trains nothing. What has a result is not trained again, and a run that was stopped goes
on from its last checkpoint. Several runners may share a table: each run is trained by one of them.
``tune=true`` first searches, for columns with a key ``tune``, the learning rate of every row (see
``tuning.py``); without it such a column trains the rows whose rates are known.
The paper's scale needs the paper's puzzles: ``data_path=FOLDER`` (with ``column=…``, where a table
has several).
On a cluster Hydra's launchers carry the rows, one job for each:

    python -m experiments.run -m table=1 scale=paper row=trm,hrm seed=0,1 hydra/launcher=joblib
"""

import re
import shlex
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from experiments.runner import Job, Runner
from experiments.table import HERE, Cell, Table, data_checksum, read_table, recorded
from experiments.tuning import SEED, searches
from trm.commands import run_command
from trm.support.build import check_types, nearest
from trm.support.errors import InputError, check_at_least

_TYPES = {
    "scale": str,
    "seeds": int,
    "seed": int | None,
    "processes": int,
    "threads": int,
    "data_path": str | None,
    "dry": bool,
    "tune": bool,
    "results": str,
    "tuning": str,
    "runs": str,
}
ConfigStore.instance().store("experiments_run", OmegaConf.load(HERE / "run.yaml"))


def wanted(table: Table, rows: list[str] | None, columns: list[str] | None) -> list[Cell]:
    """Select cells.

    Raises:
        InputError: a name that the table does not have
    """
    for kind, names, known in (
        ("row", rows, [row.name for row in table.rows if not row.quoted]),
        ("column", columns, [_plain(column.name) for column in table.columns]),
    ):
        for name in names or ():
            if name not in known:
                raise InputError(
                    f"{kind}={name} is not in table {table.name}; {nearest(name, known)}"
                )
    return [
        cell
        for cell in table.cells()
        if (rows is None or cell.row.name in rows)
        and (columns is None or _plain(cell.column.name) in columns)
    ]


def _plain(name: str) -> str:
    """Write a heading as a command line can take it: ``Sudoku 6×6`` is ``sudoku_6x6``."""
    return "_".join(re.findall(r"[\w-]+", name.lower().replace("×", "x")))


def jobs(cells: list[Cell], seeds: list[int], runs: Path) -> list[Job]:
    """List what is to be trained, seed by seed, each recipe once."""
    found: dict[tuple[str, int], Job] = {}
    for seed in seeds:
        for cell in cells:
            folder = runs / f"{cell.recipe[:12]}_seed{seed}"
            found.setdefault((cell.recipe, seed), Job(cell, seed, folder))
    return list(found.values())


def trials(cells: list[Cell], runs: Path, tuning: Path) -> list[Job]:
    """List what is to be trained to find learning rates, recipe by recipe, each once."""
    found: dict[tuple[str, float], Job] = {}
    for search in searches(cells, tuning):
        for rate in search.rates:
            cell = search.trial(rate)
            folder = runs / f"{cell.recipe[:12]}_seed{SEED}"
            found.setdefault((search.base.recipe, rate), Job(cell, SEED, folder, search))
    return list(found.values())


def at_their_rates(cells: list[Cell], tuning: Path, check_data: bool) -> list[Cell]:
    """Return the cells as they are to be trained, without those whose rates are not known."""
    found: list[Cell | None] = [cell for cell in cells if cell.column.tune is None]
    for search in searches(cells, tuning):
        found.append(search.tuned(data_checksum(search.cell.config) if check_data else None))
    return [cell for cell in found if cell is not None]


def _lacks_data(cell: Cell) -> bool:
    return bool(cell.config.data.get("path", "") is None)


def _with_data(cell: Cell, path: str | None) -> Cell:
    """Say where the puzzles lie, if the recipe does not; it stays the same recipe."""
    if path is None or not _lacks_data(cell):
        return cell
    return replace(cell, overrides=(*cell.overrides, f"data.path={path}"))


def _names(value: Any) -> list[str] | None:
    if value is None:
        return None
    return [str(name) for name in (value if isinstance(value, list) else [value])]


def _main(cfg: DictConfig) -> None:
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    check_types(settings, _TYPES)
    if settings["table"] is None:
        raise InputError("table=null names no table; give table=1, or table=[1,2]")
    check_at_least(1, **{name: settings[name] for name in ("seeds", "processes", "threads")})
    seed = settings["seed"]
    seeds = list(range(settings["seeds"])) if seed is None else [seed]
    rows, columns = _names(settings["row"]), _names(settings["column"])
    cells = [
        cell
        for name in _names(settings["table"]) or []
        for cell in wanted(read_table(name, settings["scale"]), rows, columns)
    ]
    cells = [_with_data(cell, settings["data_path"]) for cell in cells]
    results, runs, tuning = (Path(settings[name]) for name in ("results", "runs", "tuning"))
    if SEED in seeds and any(cell.column.tune for cell in cells):
        raise InputError(f"seed {SEED} is that of searches for learning rates; take another")
    if settings["tune"] and not any(cell.column.tune for cell in cells):
        raise InputError("tune=true, but no column of these tables has a key tune; leave it out")
    first = trials(cells, runs, tuning) if settings["tune"] else []

    def of_rows() -> list[Job]:
        ready = at_their_rates(cells, tuning, check_data=not settings["dry"])
        if lacking := len(cells) - len(ready):
            words = [word for word in sys.argv[1:] if not word.startswith(("tune=", "dry="))]
            command = shlex.join(["python", "-m", "experiments.run", *words, "tune=true"])
            print(f"{lacking} of {len(cells)} rows are not tuned yet: {command}", file=sys.stderr)
        return jobs(ready, seeds, runs)

    if settings["dry"]:
        done = recorded(results)
        work = first + of_rows()
        for job in work:
            for command in job.commands():
                print(shlex.join(command))
        lacking = sum(not (job.tried() if job.search else job.key in done) for job in work)
        print(f"{len(work)} runs, {lacking} without a result", file=sys.stderr)
        if any(_lacks_data(job.cell) for job in work):
            print("they need their puzzles: data_path=FOLDER", file=sys.stderr)
        return
    runner = Runner(results, settings["processes"], settings["threads"])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, runner.stop)
    runner.run(first, of_rows)


if __name__ == "__main__":
    run_command(_main, "experiments_run")
