"""Every row at its own best learning rate: what is chosen, kept, trained and shown."""

import json
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments import render, run, runner, table
from experiments.numbers import lines
from experiments.run import at_their_rates, jobs, trials
from experiments.runner import Runner
from experiments.table import HERE, Cell, Tune, data_checksum, read_table, recorded
from experiments.tuning import SEED, Search, best, searches
from tests.conftest import TINY
from trm.results.files import read_result, write_json
from trm.support.errors import InputError

TABLE = f"""
title: Since
source: this library
reference: base
scales:
  laptop:
    Sudoku 4×4:
      experiment: sudoku_4x4
      overrides: [{", ".join(TINY)}]
      tune: {{factors: [2, 0.5, 1], overrides: [trainer.max_steps=3]}}
rows:
  base: {{label: as it stands}}
  muon: {{label: Muon, overrides: [optimizer=muon]}}
"""


@pytest.fixture
def since(tmp_path, monkeypatch):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "table_since.yaml").write_text(TABLE, encoding="utf-8")
    monkeypatch.setattr(table, "TABLES", tmp_path / "tables")
    return read_table("since", "laptop")


@pytest.fixture
def found(since, tmp_path) -> list[Search]:
    return searches(since.cells(), tmp_path / "tuning")


def outcome(accuracy: float | None, data: str = "d") -> dict:
    return {
        "val_exact_accuracy": accuracy,
        "training_wall_time_s": 90.0,
        "training_cpu_time_s": 60.0,
        "device": "cpu",
        "manifest": {"sha256": data},
        "certificate": {"commit": "c", "processor": "P", "torch": "2", "threads": 1},
    }


def keep(search: Search, *accuracies: float | None, data: str = "d") -> None:
    for rate, accuracy in zip(search.rates, accuracies, strict=False):
        search.keep(rate, outcome(accuracy, data))


@pytest.mark.parametrize(
    ("accuracies", "place"),
    [
        ([0.1, 0.3, 0.2], 1),
        ([0.3, 0.2, 0.1], 0),
        ([0.0, 0.0, 0.0], 1),
        ([0.9, 0.9, 0.2], 1),
        ([0.2, 0.9, 0.9], 1),
        ([0.9, 0.2, 0.9], 0),
        ([0.1, 0.5, 0.5, 0.5], 1),
        ([None, 0.0, None], 1),
        ([0.0, None, None], 0),
    ],
)
def test_the_best_rate_is_chosen_and_of_equals_the_middle_one(accuracies, place):
    assert best(accuracies) == place


def test_each_optimizer_is_searched_around_its_own_rate(found):
    base, muon = found
    assert list(base.rates.values()) == list(muon.rates.values()) == [0.5, 1, 2]
    own = base.cell.rate, muon.cell.rate
    assert own[0] != own[1]
    assert [[r / rate for r in s.rates] for s, rate in zip(found, own, strict=True)] == (
        [pytest.approx([0.5, 1, 2])] * 2
    )


def test_a_search_sees_no_test_puzzle_and_no_seed_of_a_row(found, tmp_path):
    for job in trials([search.cell for search in found], tmp_path, tmp_path):
        assert job.seed == SEED
        assert job.cell.config.test.limit == 0
        assert job.cell.config.trainer.max_steps == 3
        (command,) = job.commands()
        assert f"seed={SEED}" in command
    assert all(search.cell.config.test.limit is None for search in found)
    pass_at = replace(found[0].cell, column=replace(found[0].cell.column, measure="pass@2"))
    assert len(trials([pass_at], tmp_path, tmp_path)[0].commands()) == 1  # votes are of the test


def test_a_key_tune_changes_no_recipe_and_one_s_own_rate_is_the_same_recipe(found, tmp_path):
    since = read_table("since", "laptop")
    plain = replace(since, columns=tuple(replace(column, tune=None) for column in since.columns))
    assert not searches(plain.cells())
    for search, cell in zip(found, plain.cells(), strict=True):
        assert search.cell.recipe == cell.recipe
        keep(search, 0.1, 0.2, 0.1)
        assert search.tuned().command(0, tmp_path) == cell.command(0, tmp_path)


def test_tables_without_the_key_have_no_searches():
    for name in ("1", "2", "3", "4", "5", "recipes"):
        scale = table.scales(name)[0]
        assert searches(read_table(name, scale).cells()) == []


def test_rows_that_coincide_are_searched_once(found, tmp_path):
    cells = [found[0].cell, replace(found[0].cell, row=found[1].cell.row), found[1].cell]
    assert len(trials(cells, tmp_path, tmp_path)) == 6


def test_a_rate_is_known_when_all_are_and_told_if_it_stands_at_the_edge(found):
    search, other = found
    keep(search, 0.1, 0.2)
    assert search.outcome().rate is None
    assert search.tuned() is None
    assert json.loads(search.path.read_text())["rate"] is None
    keep(search, 0.1, 0.2, 0.3)
    assert search.outcome().at_edge
    assert (
        search.tuned().rate == 2 * search.cell.rate == json.loads(search.path.read_text())["rate"]
    )
    keep(search, 0.1, 0.4, 0.3)
    assert not search.outcome().at_edge
    assert search.outcome().minutes == 3
    assert other.outcome().runs == {}


def test_factors_that_are_added_keep_what_is_known_and_other_data_or_settings_do_not(found):
    search, _ = found
    keep(search, 0.1, 0.2, 0.3)
    more = replace(search, tune=replace(search.tune, factors=(0.5, 1, 2, 4)))
    assert [rate in more.outcome().runs for rate in more.rates] == [True, True, True, False]
    assert more.tuned() is None
    longer = replace(search, tune=replace(search.tune, overrides=("trainer.max_steps=4",)))
    assert longer.outcome().runs == {}
    assert search.tuned("other") is None
    assert search.tuned("d") is not None
    search.keep(min(search.rates), outcome(0.1, data="other"))
    assert set(search.outcome().runs) == {min(search.rates)}


def test_a_write_that_fails_leaves_what_was_known(found, monkeypatch):
    search, _ = found
    keep(search, 0.1, 0.2)
    before = search.path.read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("trm.support.files.os.fsync", full)
        with pytest.raises(InputError, match="No space left"):
            search.keep(max(search.rates), outcome(0.3))
    assert search.path.read_bytes() == before
    assert {path.name for path in search.folder.iterdir()} - {".lock"} == {search.path.name}


def test_runners_side_by_side_keep_each_other_s_runs(found):
    search, _ = found
    begin = threading.Barrier(len(search.rates))

    def one(rate: float) -> None:
        begin.wait()
        search.keep(rate, outcome(0.5))

    threads = [threading.Thread(target=one, args=(rate,)) for rate in search.rates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(search.outcome().runs) == list(search.rates)


def test_what_cannot_be_searched_is_refused(since, found):
    with pytest.raises(InputError, match=r"tune.factors=\[0\] must be positive"):
        Tune((0,))
    other = replace(found[0].cell, overrides=(*found[0].cell.overrides, "checkpoint.monitor=val/x"))
    with pytest.raises(InputError, match="checkpoint.monitor=val/x; rates are chosen by val/exact"):
        searches([other])


def result(cell: Cell, seed: int) -> dict:
    test = {"n": 8, "exact_accuracy": 0.5, "exact_interval": [0.2, 0.8]}
    more = {"seed": seed, "test": [test], "test_solved": "f0"}
    return outcome(0.5) | more


def test_a_row_that_is_not_tuned_is_not_run_whatever_other_tables_have(since, found, tmp_path):
    base, muon = found
    recipes = {(cell.recipe, seed): result(cell, seed) for cell in since.cells() for seed in (0, 1)}
    keep(base, 0.1, 0.2, 0.1)
    assert at_their_rates([base.cell, muon.cell], tmp_path / "tuning", False) == [base.cell]
    (column,) = lines(since, recipes, tmp_path / "tuning").values()
    assert [line.seeds for line in column] == [[0, 1], []]
    keep(muon, 0.1, 0.1, 0.2)
    (column,) = lines(since, recipes, tmp_path / "tuning").values()
    assert column[1].seeds == []  # these results are of its own rate, not of twice that
    tuned = muon.tuned()
    (column,) = lines(since, {(tuned.recipe, 0): result(tuned, 0)}, tmp_path / "tuning").values()
    assert [line.seeds for line in column] == [[], [0]]


def test_a_table_shows_the_rates_and_how_they_were_chosen(since, found, tmp_path):
    base, muon = found
    keep(base, 0.1, 0.2, 0.1)
    results = {(base.cell.recipe, seed): result(base.cell, seed) for seed in (0, 1)}
    files = render._texts(since, lines(since, results, tmp_path / "tuning"))
    heading, _, first, second = files["md"].splitlines()[4:8]
    assert heading == "|  | parameters | depth | rate | ours % | seeds | min |"
    rate = f"{base.cell.rate:.0e}".replace("e-0", "e-")
    assert first.split(" | ")[3:5] == [f"**{rate}**", "**50.0 ± 0.0**"]
    assert second.split(" | ")[3:5] == ["–", "not run"]
    assert "of 0.5, 1, 2 times the recipe's own `optimizer.lr`" in files["md"]
    assert "(with trainer.max_steps=3)" in files["md"]
    assert "3 min for all" in files["md"]
    assert "†" not in files["md"]
    assert [line.split(",")[-2:] for line in files["csv"].splitlines()[1:]] == (
        [[f"{base.cell.rate:g}", "False"], ["", ""]]
    )
    keep(muon, 0.1, 0.1, 0.2)
    files = render._texts(since, lines(since, results, tmp_path / "tuning"))
    assert files["md"].count("†") == 2  # at the rate, and what it means
    assert "6 min for all. †: the highest or lowest rate tried" in files["md"]
    assert "†" not in files["tex"]
    assert r"4e-2$\dagger$" in files["tex"]
    assert files["csv"].splitlines()[2].endswith(",0.04,True")


@pytest.fixture
def quick(found, monkeypatch):
    """Train without training: a run's accuracy on validation puzzles is its rate."""
    monkeypatch.setattr(runner, "_LOOK_EVERY_S", 0.01)
    begun: dict[tuple[str, float, int], None] = {}  # in order; a run is asked for twice

    def command(cell: Cell, seed: int, folder: Path) -> list[str]:
        begun[cell.row.name, cell.rate, seed] = None
        if seed == SEED and cell.row.name == "muon" and cell.rate > 0.03:
            said = "error: the loss is not finite at step 2 (learning rate 1)"
            return ["python", "-c", f"print({said!r}); exit(2)"]
        folder.mkdir(parents=True, exist_ok=True)
        data = data_checksum(cell.config)
        more = {"format": 1, "task": "sudoku_4x4", "config": cell.config.plain, "seed": seed}
        made = result(cell, seed) | outcome(min(1.0, cell.rate), data) | more
        write_json(folder / "result.json", made)
        return ["python", "-c", ""]

    monkeypatch.setattr(Cell, "command", command)
    return begun


def main(tmp_path: Path, monkeypatch, *words: str) -> None:
    """Run the command in this process, which keeps its signal handlers."""
    cfg = OmegaConf.load(HERE / "run.yaml")
    places = [f"{name}={tmp_path / name}" for name in ("results", "tuning", "runs")]
    told = OmegaConf.from_dotlist(["table=since", *places, *words])
    monkeypatch.setattr(sys, "argv", ["run", "table=since", *words])
    monkeypatch.setattr(run.signal, "signal", lambda *arguments: None)
    plain = {name: value for name, value in cfg.items() if name not in ("defaults", "hydra")}
    run._main(OmegaConf.merge(plain, told))


def test_rates_are_found_first_and_the_same_command_goes_on(
    quick, found, tmp_path, monkeypatch, capsys
):
    base, muon = found
    main(tmp_path, monkeypatch, "seeds=2")
    assert not quick
    said = "2 of 2 rows are not tuned yet: python -m experiments.run table=since seeds=2 tune=true"
    assert said in capsys.readouterr().err
    main(tmp_path, monkeypatch, "seeds=2", "tune=true", "row=base")
    assert [(rate, seed) for _, rate, seed in quick] == [
        *((rate, SEED) for rate in base.rates),
        *((max(base.rates), seed) for seed in (0, 1)),
    ]
    assert "0 of 3 runs have results" in (err := capsys.readouterr().err)
    assert "0 of 2 runs have results" in err
    quick.clear()
    main(tmp_path, monkeypatch, "seeds=2", "tune=true")
    assert {row for row, _, _ in quick} == {"muon"}
    assert len(quick) == 5
    # The highest rate diverged, which is an outcome and the lowest of all.
    assert muon.outcome().runs[max(muon.rates)]["val_exact_accuracy"] is None
    assert muon.tuned().rate == muon.cell.rate
    assert set(recorded(tmp_path / "results")) == {
        (search.tuned().recipe, seed) for search in found for seed in (0, 1)
    }
    quick.clear()
    main(tmp_path, monkeypatch, "seeds=2", "tune=true")
    main(tmp_path, monkeypatch, "seeds=2")
    assert not quick


def test_a_dry_run_prints_the_searches_too(found, tmp_path, monkeypatch, capsys):
    main(tmp_path, monkeypatch, "tune=true", "dry=true")
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 6
    assert all(f"seed={SEED}" in line and "test.limit=0" in line for line in out.splitlines())
    assert "6 runs, 6 without a result" in err
    keep(found[0], 0.1, 0.3, 0.2)
    main(tmp_path, monkeypatch, "tune=true", "dry=true")
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 7
    assert "7 runs, 4 without a result" in err


def test_a_search_needs_a_key_and_its_own_seed(found, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="seed 1000 is that of searches"):
        main(tmp_path, monkeypatch, f"seed={SEED}")
    path = table.TABLES / "table_since.yaml"
    untuned = "\n".join(line for line in TABLE.splitlines() if "tune:" not in line)
    path.write_text(untuned, encoding="utf-8")
    with pytest.raises(InputError, match="no column of these tables has a key tune"):
        main(tmp_path, monkeypatch, "tune=true")


@pytest.mark.slow
def test_a_tiny_table_is_tuned_and_trained(found, tmp_path):
    tuning, runs = tmp_path / "tuning", tmp_path / "runs"
    tune = Tune((0.5, 1), ("trainer.max_steps=3",))
    base = replace(found[0].cell, column=replace(found[0].cell.column, tune=tune))
    # Twice the rate: the two searches have one run in common, and both get to know it.
    cells = [base, replace(base.at(2 * base.rate), row=found[1].cell.row)]
    Runner(tmp_path / "results", processes=2, threads=1).run(
        trials(cells, runs, tuning),
        lambda: jobs(at_their_rates(cells, tuning, check_data=True), [0], runs),
    )
    for search in searches(cells, tuning):
        assert set(search.outcome().runs) == set(search.rates)
        for rate, run_ in search.outcome().runs.items():
            made = read_result(runs / f"{search.trial(rate).recipe[:12]}_seed{SEED}")
            assert "test" not in made
            assert made["config"]["optimizer"]["lr"] == rate
            assert made["val_exact_accuracy"] == run_["val_exact_accuracy"]
    tuned = {search.tuned().recipe for search in searches(cells, tuning)}
    assert set(recorded(tmp_path / "results")) == {(recipe, 0) for recipe in tuned}
