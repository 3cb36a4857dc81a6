"""Peers take turns; one that fails is reported in words, and the table claims what was measured."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.peers import __main__ as peers
from experiments.peers import environments, table
from experiments.peers.drive_lucidrains import hidden
from experiments.peers.drive_released import check_checkout
from experiments.peers.subjects import OURS, SUBJECTS
from experiments.peers.table import NAME, ratios, rendered
from experiments.peers.turns import Puzzles, Setting, Turns
from experiments.peers.workers import Job, in_turns
from experiments.render import DOCUMENTS, filled
from tests.conftest import TINY
from trm.results.files import FORMAT, read_result, write_json
from trm.support.errors import InputError

SIZES = ("data.train=32", "data.val=12", "data.test=8")
TURN = {"steps": 4, "puzzles": 32, "ms_per_step": 2.0, "train_s": 0.5}
TURN |= {"answered_per_s": 50.0, "hits": 1, "answered": 4}


@pytest.fixture
def setting(tmp_path):
    random = np.random.default_rng(0)
    shapes = {"batches": (4, 4), "train": (8,), "test": (8,)}
    arrays = {
        f"{letter}_{name}": random.integers(1, 8, (*shape, 36), dtype=np.uint8)
        for name, shape in shapes.items()
        for letter in "xy"
    }
    np.savez(tmp_path / "puzzles.npz", **arrays)
    return Setting(
        puzzles=str(tmp_path / "puzzles.npz"),
        **{"dim": 16, "layers": 1, "n": 1, "T": 2, "N_sup": 2, "batch_size": 4, "expansion": 1},
        **{"hidden_multiple": 8, "lr": 1e-3, "betas": (0.9, 0.95), "weight_decay": 0.1},
        **{"warmup_steps": 1, "ema": 0.5, "halt_exploration": 0.1, "vocab_size": 8, "cells": 36},
        **{"precision": "float32", "seed": 0, "turns": 2, "steps": 2, "answered": 6},
        **{"halts": True, "checkout": None},
    )


def script(path: Path, *, says: str, turns: int) -> Path:
    """Make a program that does as a driver, reports turns and then ends with words."""
    ready = json.dumps({"parameters": 7, "versions": {"torch": "2"}})
    lines = ["#!/bin/sh", f"echo '{ready}'"]
    lines += [f"read go; echo '{json.dumps(TURN)}'"] * turns
    lines += ["read go || exit 0", f"echo '{says}' >&2", "exit 1"]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o755)
    return path


def test_ours_gives_numbers_and_a_peer_that_fails_words(setting, tmp_path):
    dying = script(tmp_path / "dying", says="out of luck", turns=1)
    job = Job(Path(sys.executable), SUBJECTS[OURS].driver, setting)
    jobs = {
        "missing": replace(job, driver="experiments.peers.no_driver"),
        "nowhere": replace(job, python=tmp_path / "nowhere"),
        "dying": replace(job, python=dying),
        OURS: job,
    }
    found = in_turns(jobs, tmp_path)
    assert "No module named experiments.peers.no_driver" in found["missing"]["failed"]
    assert found["nowhere"]["failed"] == "nowhere cannot be run: No such file or directory"
    assert found["dying"] == {"failed": "out of luck"}
    ours = found[OURS]
    assert ours["parameters"] > 0
    assert set(ours["versions"]) == {"torch", "lightning"}
    assert [turn["steps"] for turn in ours["turns"]] == [2, 4]
    for turn in ours["turns"]:
        assert turn["puzzles"] == 8
        assert turn["answered"] == 6
        assert 0 <= turn["hits"] <= 6
        assert min(turn["ms_per_step"], turn["train_s"], turn["answered_per_s"]) > 0


def test_no_round_begins_that_would_end_too_late(setting, tmp_path):
    patient = script(tmp_path / "patient", says="", turns=2)
    found = in_turns({"patient": Job(patient, "", setting)}, tmp_path, seconds=0)
    assert found["patient"]["turns"] == [TURN]


def test_a_turn_reports_its_own_steps_and_the_first_of_all_is_not_clocked(setting, monkeypatch):
    said = []
    clock = iter(range(100))
    monkeypatch.setattr("time.process_time", lambda: float(next(clock)))
    turns = Turns(setting, Puzzles(setting), said.append)
    monkeypatch.setattr(turns, "_answers", lambda: (3, 2.0))
    monkeypatch.setattr(turns, "_wait", lambda: None)
    turns.begin(5, lambda: None)
    for in_hand in (4, 4, 3, 2):
        assert not turns.over
        turns.stepped(in_hand)
    assert turns.over
    ready, first, second = said
    assert ready["parameters"] == 5
    assert first | {"versions": 0} == {
        **{"steps": 2, "puzzles": 8, "ms_per_step": 1000.0, "train_s": 1.0},
        **{"answered_per_s": 3.0, "hits": 3, "answered": 6, "versions": 0},
    }
    assert (second["steps"], second["puzzles"], second["train_s"]) == (4, 5, 2.0)


def measured(tmp_path, monkeypatch, *arguments):
    living = script(tmp_path / "living", says="", turns=2)
    dying = script(tmp_path / "dying", says="no | luck", turns=0)
    programs = {"nano-trm": dying}
    monkeypatch.setattr(peers, "interpreter", lambda name, work: programs.get(name, living))
    words = ["--work", str(tmp_path / "work"), "--rounds", "2", "--learn", "8", "--every", "4"]
    options = peers.parser().parse_args([*words, *arguments])
    return peers.measure(options, (*TINY, *SIZES))


def test_what_was_measured_stays_when_a_peer_fails(tmp_path, monkeypatch, capsys):
    result = measured(tmp_path, monkeypatch)
    found = result["subjects"]
    assert found["nano-trm"] == {"failed": "no | luck"}
    assert found["released"] == {"failed": "not run"}  # its folder was not named
    for name in (OURS, "tiny-recursive-model", "recipe"):
        assert found[name]["speed"] == {"ms_per_step": [2, 2], "answered_per_s": [50, 50]}
        assert found[name]["learning"] == [TURN, TURN]
    assert "nano-trm failed: no | luck" in capsys.readouterr().err
    assert result["certificate"]["threads"] == 1
    assert str(tmp_path) not in json.dumps(result)
    write_json(tmp_path / "result.json", result)
    peers.show(tmp_path / "result.json")
    shown = capsys.readouterr().out
    assert "| nano-trm 0.1.0 | no / luck | – | – | – | – |" in shown
    assert "| ours, equal configuration | 7 | 2 | 1 | 50.0 | 1 |" in shown


def test_without_ours_there_is_nothing_to_compare_with(tmp_path, monkeypatch):
    broken = script(tmp_path / "broken", says="broken", turns=0)
    monkeypatch.setattr(peers, "interpreter", lambda name, work: broken)
    options = peers.parser().parse_args(["--only", OURS, "--work", str(tmp_path)])
    with pytest.raises(InputError, match=r"ours could not be measured \(broken\)"):
        peers.measure(options, (*TINY, *SIZES))


def fixture() -> dict:
    def subject(ms, per_s, hits):
        learning = [
            {"steps": 100 * k, "train_s": 10.0, "hits": hits * k, "answered": 200} for k in (1, 2)
        ]
        speed = {"ms_per_step": ms, "answered_per_s": per_s}
        return {"parameters": 1234, "versions": {}, "speed": speed, "learning": learning}

    return {
        "format": FORMAT,
        "setting": {"dim": 96, "layers": 2, "n": 3, "T": 2, "batch_size": 64, "N_sup": 8}
        | {"precision": "float32"},
        "subjects": {
            OURS: subject([100, 110, 90], [20, 20, 20], 40),
            "nano-trm": subject([200, 110, 100], [10, 20, 16], 41),
            "released": {"failed": "not run"},
        },
        "certificate": {"processor": "P", "torch": "2"},
    }


def test_ratios_are_of_each_round():
    assert ratios(fixture()["subjects"], "nano-trm", "ms_per_step") == [0.5, 0.9, 1.0]
    text = rendered(fixture())
    assert "| ours, equal configuration | 1,234 | 100 | 1 | 20.0 | 1 |" in text
    row = (
        "| nano-trm 0.1.0 | 1,234 | 110 | **0.90** (0.50 – 1.00) | 16.0 | **1.25** (1.00 – 2.00) |"
    )
    assert row in text
    assert "| released code, e7b6871 | not run |" in text
    assert "| exact % after training for | 100 steps | 200 steps |" in text
    assert "| nano-trm 0.1.0 | 20.5 (10 s) | 41.0 (20 s) |" in text
    assert "P, torch 2, one seed" in text
    assert table._TOO_SHORT not in text
    document = f"a\n<!-- {NAME} -->\nold\n<!-- end -->\nb\n"
    assert filled(document, {NAME: text}) == f"a\n<!-- {NAME} -->\n{text}<!-- end -->\nb\n"


def test_training_too_short_to_compare_accuracy_is_said_to_be():
    result = fixture()
    for name in (OURS, "nano-trm"):
        result["subjects"][name]["learning"][-1]["hits"] = 0
    assert table._TOO_SHORT in rendered(result)


def test_the_documents_show_the_recorded_result():
    text = rendered(read_result(peers.RESULT))
    for path in DOCUMENTS:
        document = path.read_text(encoding="utf-8")
        remedy = "run python -m experiments.peers --render"
        assert filled(document, {NAME: text}) == document, remedy


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--released", "nowhere"], "nowhere holds no models/common.py"),
        (["--only", "released"], "needs --released=FOLDER"),
        (["--only", "nobody"], "--only=nobody must be one of ours, nano-trm"),
        (["--steps", "1"], "--steps=1 must be at least 2"),
        (["--learn", "10"], "--learn=10 must be at least 100"),
        (["--precision", "float16"], "--precision=float16 must be one of float32, bfloat16"),
        (["--output", "nowhere/x.json"], "--output=nowhere/x.json cannot be written"),
        (["--work", "file"], "--work=file cannot be written to"),
        (["--render", "--output", "none.json"], "none.json cannot be read"),
    ],
)
def test_what_a_person_can_mend_is_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["peers", "--output", "out.json", *arguments])
    with pytest.raises(SystemExit) as ended:
        peers.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_another_version_of_the_released_code_is_refused(tmp_path):
    for name in (
        "common",
        "ema",
        "layers",
        "losses",
        "recursive_reasoning/trm",
        "sparse_embedding",
    ):
        file = tmp_path / "models" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    with pytest.raises(InputError, match="is not at commit e7b6871; check out"):
        check_checkout(tmp_path)


def test_an_environment_is_made_once_and_whole_or_not_at_all(tmp_path, monkeypatch):
    status, commands = 0, []

    def run(command, **settings):
        commands.append(command)
        (tmp_path / "nano-trm").mkdir(exist_ok=True)
        code = status if "install" in command else 0
        return subprocess.CompletedProcess(command, code, "", "WARNING: x\nERROR: no network\n")

    monkeypatch.setattr(environments.subprocess, "run", run)
    status = 1
    with pytest.raises(InputError, match=r"nano-trm cannot be installed .*\(no network\).*--only"):
        environments.interpreter("nano-trm", tmp_path)
    assert not (tmp_path / "nano-trm").exists()
    status = 0
    commands.clear()
    made = environments.interpreter("nano-trm", tmp_path)
    assert tmp_path in made.parents
    _, torch, peer, _ = commands
    assert torch[-1] == "torch==2.13.0"
    assert peer[-2:] == ["--ignore-requires-python", "nano-trm==0.1.0"]
    constraints = (tmp_path / "nano-trm" / "constraints.txt").read_text().splitlines()
    assert "torch==2.13.0" in constraints
    assert not [line for line in constraints if line.startswith("psutil")]
    commands.clear()
    assert environments.interpreter("nano-trm", tmp_path) == made
    assert not commands
    assert environments.interpreter(OURS, tmp_path) == Path(sys.executable)


def test_the_mixer_of_another_make_gets_products_of_equal_cost():
    assert hidden(96, 4) == hidden(36, 4) == 384
    assert 2 * hidden(96, 4) == 3 * 256
