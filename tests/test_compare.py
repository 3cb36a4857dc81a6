"""Runs and evaluations side by side."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy import stats

from tests.conftest import compose
from trm.compare import grids
from trm.compare import main as compare
from trm.evaluate import run_evaluation
from trm.results.comparing import Subject, differences, paired
from trm.results.files import bits, write_json
from trm.results.statistics import mcnemar
from trm.train import run_training


@pytest.fixture
def changed(trained, tmp_path):
    """Write the result of a run, with changes, into a folder of its own."""

    def write(name: str, solved: list[bool], **changes):
        result = json.loads((trained[0] / "result.json").read_text())
        result["test_solved"] = bits(torch.tensor(solved))
        result["config"] = result["config"] | changes
        result["seed"] = result["config"]["seed"]
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "result.json", result)
        return tmp_path / name

    return write


def told(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("alone", "other"), [(0, 0), (1, 0), (5, 5), (3, 14), (40, 12), (0, 60)])
def test_mcnemar_is_the_binomial_test_of_the_puzzles_that_one_alone_solves(alone, other):
    expected = stats.binomtest(alone, alone + other).pvalue if alone + other else 1.0
    assert mcnemar(alone, other) == pytest.approx(expected)
    assert mcnemar(alone, other) == mcnemar(other, alone)


def test_mcnemar_of_as_many_puzzles_as_there_are():
    assert mcnemar(100_000, 100_000) == 1.0
    assert 0 < mcnemar(100_000, 99_000) < 0.05
    assert mcnemar(200_000, 0) == 0.0


def test_runs_are_named_and_tested_against_the_first(changed, capsys):
    one = changed("plain", [False, False, False, False, False, False, True, True])
    other = changed("wide", [True, True, True, True, True, True, False, True], seed=3)
    assert compare([str(one), str(other)]) == 0
    shown = told(capsys)
    assert "1 plain sudoku_4x4 TinyRecursiveModel 0 9,442" in shown
    assert "2 wide sudoku_4x4 TinyRecursiveModel 3 9,442" in shown
    assert "2 − 1 wide +62.5 6 1 0.12" in shown
    assert "seed 0 3" in shown


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_no_table_loses_anything_on_a_narrow_terminal(changed, width):
    name = "2026-11-20_12-33-44"
    one, other = changed("plain", [False] * 7 + [True]), changed(name, [True] * 8, seed=3)
    console = Console(file=io.StringIO(), width=width)
    subjects = [Subject.read(one), Subject.read(other)]
    for grid in grids(subjects):
        console.print(grid.drawn())
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert "…" not in text
    share = f"{subjects[1].score.percent:.1f} ("
    for expected in (name, "TinyRecursiveModel", "9,442", share, "+87.5", "0.016"):
        assert expected in text


def test_config_keys_that_differ_are_listed_and_no_others(changed):
    first = Subject.read(changed("first", [True] * 8))
    place = {"run_dir": "there", "ckpt_path": "x", "logger": {}, "footprint": {"watts": 5}}
    other = Subject.read(changed("other", [True] * 8, **place, ema={"decay": 0.5, "new": 1}))
    assert differences([first, other]) == {"ema.decay": [0.99, 0.5], "ema.new": ["–", 1]}


def test_of_a_section_that_one_file_does_not_know_nothing_is_said(changed):
    first = Subject.read(changed("first", [True] * 8))
    run = changed("other", [True] * 8)
    result = json.loads((run / "result.json").read_text())
    del result["config"]["optimizer"]
    write_json(run / "result.json", result)
    assert differences([first, Subject.read(run)]) == {}


def test_an_evaluation_of_other_puzzles_is_not_paired(trained, tmp_path, capsys):
    run = trained[0]
    for name, limit in (("all", "null"), ("few", "4")):
        words = (f"checkpoint={run}", f"limit={limit}", "compute.max_steps=3")
        run_evaluation(compose("evaluate", *words, f"output={tmp_path / name}.json"))
    capsys.readouterr()
    files = [str(tmp_path / f"{name}.json") for name in ("all", "few")]
    assert compare([str(run), *files]) == 0
    shown = told(capsys)
    assert f"2 {run.name}: all sudoku_4x4" in shown
    assert f"2 − 1 {run.name}: all +0.0 0 0 1" in shown, "the same weights on the same puzzles"
    assert f"3 − 1 {run.name}: few other puzzles" in shown


def test_equal_test_puzzles_pair_evaluations_whatever_else_the_data_held(trained, tmp_path):
    subjects = []
    for name, val in (("one", 12), ("two", 5)):
        file = tmp_path / f"{name}.json"
        words = (f"checkpoint={trained[0]}", f"output={file}")
        run_evaluation(compose("evaluate", *words))
        result = json.loads(file.read_text())
        result["manifest"]["sha256"] = str(val)
        write_json(file, result)
        subjects.append(Subject.read(file))
    assert paired(*subjects).p == 1.0


def test_a_run_that_was_not_tested_is_shown(tiny_config, trained, capsys):
    cfg = tiny_config("test.limit=0")
    run_training(cfg)
    capsys.readouterr()
    assert compare([str(cfg.run_dir), str(trained[0])]) == 0
    assert told(capsys).count("not tested") == 2


def test_the_tables_are_written_as_csv_and_markdown(changed, tmp_path):
    one = changed("plain", [False] * 7 + [True])
    other = changed("wi|de", [True] * 8, seed=3)
    files = tmp_path / "t.csv", tmp_path / "t.md"
    words = [str(one), str(other), "--csv", str(files[0]), "--markdown", str(files[1])]
    assert compare(words) == 0
    with open(files[0], newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["name"], second["name"], second["config.seed"]) == ("plain", "wi|de", "3")
    assert float(second["points"]) == 87.5
    assert float(second["p"]) == pytest.approx(2 / 2**7)
    assert first["p"] == first["not_paired"] == second["not_paired"] == ""
    text = files[1].read_text()
    assert r"| 2 | wi\|de | sudoku_4x4 |" in text
    assert "| seed | 0 | 3 |" in text


def test_a_table_that_cannot_be_written_is_refused_before_anything_is_read(capsys):
    assert compare(["nothing", "--csv", "/nowhere/x.csv"]) == 2
    assert capsys.readouterr().err.startswith("error: --csv=/nowhere/x.csv cannot be written")


def test_a_record_of_another_length_is_damage(changed, capsys):
    run = changed("plain", [True] * 8)
    result = json.loads((run / "result.json").read_text())
    write_json(
        run / "result.json", result | {"test_solved": np.zeros(99, np.uint8).tobytes().hex()}
    )
    assert compare([str(run)]) == 2
    assert "no result of training or evaluation" in capsys.readouterr().err


def test_votes_of_arc_are_shown_as_pass_at_2(trained, tmp_path, capsys):
    file = tmp_path / "votes.json"
    run_evaluation(compose("evaluate", f"checkpoint={trained[0]}", f"output={file}"))
    result = json.loads(file.read_text())
    for name in ("evaluation", "solved", "puzzles_sha256"):
        del result[name]
    interval = {"n": 4, "interval": [0.1, 0.9]}
    result["pass_at"] = [{"k": k, "accuracy": k / 4, **interval} for k in (1, 2)]
    write_json(file, result)
    capsys.readouterr()
    assert compare([str(file)]) == 0
    assert "pass@2 50.0 (10.0 - 90.0)" in told(capsys)
