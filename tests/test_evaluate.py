"""What the command evaluate keeps, and what it refuses before it works."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import compose
from trm import evaluate
from trm.compare import main as compare
from trm.evaluate import run_evaluation
from trm.results import keeping
from trm.support.errors import InputError


@pytest.fixture
def run(trained, tmp_path, monkeypatch) -> Path:
    """Copy a run to where the test stands."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained[0], tmp_path / "run")


def kept(capsys, *overrides: str) -> Path:
    """Evaluate; return the file that is said on the screen."""
    capsys.readouterr()
    result = run_evaluation(compose("evaluate", "output=auto", *overrides))
    file = Path(capsys.readouterr().out.strip().splitlines()[-1].removeprefix("result  "))
    assert json.loads(file.read_text())["evaluation"] == result["evaluation"]
    return file


@pytest.mark.parametrize("named", ["run", "run/checkpoints/best.ckpt"])
def test_numbers_are_kept_in_the_run_s_folder(run, capsys, named):
    files = [kept(capsys, f"checkpoint={named}", "limit=4") for _ in range(2)]
    assert {file.parent.resolve() for file in files} == {run / "evaluations"}
    assert len({*files}) == 2, "none is overwritten"
    assert compare([*map(str, files)]) == 0


def test_numbers_of_a_model_without_a_run_are_kept_in_logs(run, capsys):
    file = kept(capsys, "checkpoint=sudoku-4x4", "limit=4", "compute.max_steps=1")
    assert file.parent == Path("logs", "sudoku_4x4", "evaluations")


def test_a_run_s_folder_that_lets_nobody_write_is_no_failure(run, capsys):
    (run / "evaluations").write_text("in the way")
    assert kept(capsys, "checkpoint=run", "limit=4").parts[0] == "logs"


def test_numbers_that_no_folder_takes_are_shown_all_the_same(run, capsys, caplog):
    for place in (run / "evaluations", run.parent / "logs"):
        place.write_text("in the way")
    run_evaluation(compose("evaluate", "output=auto", "checkpoint=run", "limit=4"))
    assert "95 % interval" in capsys.readouterr().out
    assert "the numbers are not kept" in caplog.text


def test_a_file_that_is_there_is_left_alone(run, monkeypatch):
    monkeypatch.setattr(keeping, "_places", lambda *_: iter([Path("a.json"), Path("b.json")]))
    Path("a.json").write_text("mine")
    assert keeping.keep({}, "run", "sudoku_4x4") == Path("b.json")
    assert Path("a.json").read_text() == "mine"


def test_null_keeps_nothing(run, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    run_evaluation(compose("evaluate", "output=null", "checkpoint=run", "limit=4"))
    assert sorted(tmp_path.rglob("*")) == before


def command(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trm.evaluate", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.mark.usefixtures("preloaded")
def test_the_jobs_of_a_multirun_keep_theirs_in_its_folders(run, tmp_path):
    ended = command(tmp_path, "-m", "checkpoint=run", "limit=2,4")
    assert ended.returncode == 0, ended.stderr
    folders = sorted(file.parent for file in tmp_path.glob("logs/multiruns/*/*/evaluation.json"))
    assert [folder.name for folder in folders] == ["0", "1"]
    assert compare([*map(str, folders)]) == 0


@pytest.mark.usefixtures("preloaded")
def test_help_lists_what_the_command_takes_with_its_comments(tmp_path):
    ended = command(tmp_path, "--help", "compute=rollouts")
    assert ended.returncode == 0, ended.stderr
    assert "trm.evaluate" in ended.stdout
    lines = {
        line.split()[0]: " ".join(line.split()[1:]) for line in ended.stdout.splitlines() if line
    }
    assert lines["limit=null"].startswith("puzzles (ARC: tasks), from the start of the split")
    assert lines["compute.rollouts=8"].startswith("trajectories from different starts")
    for other in ("ablation", "optimizer", "trainer", "experiment", "logger"):
        assert other not in lines
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("limit=-1", "limit=-1 must be at least 1"),
        ("votes=2", "submission and votes are for the split test of ARC"),
        ("submission=s.json", "submission and votes are for the split test of ARC"),
        ("split=nothing", "split=nothing must be one of train, val, test"),
        ("output=", "cannot be written"),
        ("output=file/x.json", "output=file/x.json cannot be written"),
        ("output=/proc/x.json", "output=/proc/x.json cannot be written"),
        (f"output={'x' * 300}", "File name too long"),
        ("plot=/nowhere/x.png", "plot=/nowhere/x.png cannot be written"),
        ("plot=x.jpg", "plot=x.jpg must end in .png"),
        ("plot=x", "plot=x must end in .png"),
        ("heads=0", "heads=0 must be at least 1"),
        ("n=5", "n=5 is not so: run has n=1; leave it null"),
        ("compute.noise=-1", "compute.noise=-1 must be 0 or a positive number"),
        ("compute.select=foo", "compute.select=foo must be one of"),
    ],
)
def test_a_bad_value_is_refused_before_any_data_is_read(run, tmp_path, monkeypatch, override, said):
    def read(*_):
        raise AssertionError("data was read")

    monkeypatch.setattr(evaluate, "load_data", read)
    Path("file").touch()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError) as refused:
        run_evaluation(compose("evaluate", "checkpoint=run", override))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert sorted(tmp_path.iterdir()) == before


def test_one_file_is_not_written_twice(run):
    cfg = compose("evaluate", "checkpoint=run", "plot=x.png", "output=./x.png")
    with pytest.raises(InputError, match="are to be different files"):
        run_evaluation(cfg)


def test_more_steps_than_memory_holds_are_refused_before_the_model_runs(run):
    with pytest.raises(InputError, match="compute.max_steps=9999999999999 of 8 puzzles are"):
        run_evaluation(compose("evaluate", "checkpoint=run", "compute.max_steps=9999999999999"))
