"""The runner trains what is lacking, may be stopped anywhere, and keeps what is done."""

import signal
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from experiments import run, runner
from experiments.run import jobs, wanted
from experiments.runner import Job, Runner
from experiments.table import Cell, Column, Row, read_table, recorded
from tests.conftest import TINY
from trm.results.files import FORMAT, write_json
from trm.support.errors import InputError, Stopped
from trm.training.run_folder import LOCK

pytestmark = pytest.mark.usefixtures("preloaded")


def tiny(tmp_path: Path, *more: str, label: str = "tiny", seed: int = 0) -> Job:
    overrides = ("experiment=sudoku_4x4", *TINY, *more)
    cell = Cell(Row(label, label), Column("Sudoku 4×4", "sudoku_4x4"), overrides)
    return Job(cell, seed, tmp_path / "runs" / f"{cell.recipe[:12]}_seed{seed}")


def test_rows_are_trained_once_and_keep_their_results(tmp_path, capfd):
    results = tmp_path / "results"
    work = [tiny(tmp_path), tiny(tmp_path, "ema=null", label="no EMA")]
    Runner(results, processes=2, threads=1).run(work)
    found = recorded(results)
    assert set(found) == {job.key for job in work}
    for result in found.values():
        assert "run_dir" not in result["config"]
        assert len(result["test_solved"]) == 2  # eight puzzles
    files = {path: path.stat().st_mtime_ns for path in results.iterdir()}
    Runner(results, processes=1, threads=1).run(work)
    assert {path: path.stat().st_mtime_ns for path in results.iterdir()} == files
    assert "2 of 2 runs have results" in capfd.readouterr().err


def test_a_stopped_runner_loses_nothing_that_was_done(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_LOOK_EVERY_S", 0.05)
    results = tmp_path / "results"
    short, long = tiny(tmp_path), tiny(tmp_path, "trainer.max_steps=3000", label="long")
    stopped = Runner(results, processes=1, threads=1)

    def stop_when_the_first_is_done() -> None:
        while not (long.folder / "checkpoints" / "last.ckpt").exists():
            if done.wait(0.05):
                return
        stopped.stop(signal.SIGTERM, None)

    done = threading.Event()
    watcher = threading.Thread(target=stop_when_the_first_is_done)
    watcher.start()
    try:
        with pytest.raises(Stopped, match="the same command goes on"):
            stopped.run([short, long])
    finally:
        done.set()
        watcher.join()
    assert set(recorded(results)) == {short.key}
    assert (long.folder / "checkpoints" / "last.ckpt").is_file()
    assert not (long.folder / "result.json").exists()
    assert "stopped by SIGTERM" in long.folder.with_suffix(".log").read_text()


def test_a_row_that_fails_says_why_and_the_others_go_on(tmp_path):
    bad = tiny(tmp_path, "optimizer.lr=-1", label="bad")
    good = tiny(tmp_path, label="good")
    with pytest.raises(InputError, match=r"1 of 2 runs failed: bad, .*optimizer: .*-1"):
        Runner(tmp_path / "results", processes=1, threads=1).run([bad, good])
    assert set(recorded(tmp_path / "results")) == {good.key}


def test_one_recipe_is_one_job_whatever_asks_for_it(tmp_path):
    cells = wanted(read_table("1", "laptop"), ["trm", "hrm"], None)
    cells += wanted(read_table("2", "laptop"), ["trm"], None)
    assert len(jobs(cells, [0, 1], tmp_path)) == 4
    mazes = wanted(read_table("4", "laptop"), ["trm_mlp"], ["maze_10x10"])
    assert [cell.column.name for cell in mazes] == ["Maze 10×10"]
    with pytest.raises(InputError, match="column=maze_10x1 is not in table 4; did you mean maze_"):
        wanted(read_table("4", "laptop"), None, ["maze_10x1"])
    with pytest.raises(InputError, match="row=trn is not in table 1; did you mean trm?"):
        wanted(read_table("1", "laptop"), ["trn"], None)


def test_where_the_puzzles_lie_is_said_and_changes_no_recipe():
    (cell,) = wanted(read_table("1", "paper"), ["trm"], None)
    told = run._with_data(cell, "/data/sudoku")
    assert "data.path=/data/sudoku" in told.command(0, Path("x"))
    assert told.recipe == cell.recipe
    (laptop,) = wanted(read_table("1", "laptop"), ["trm"], None)
    assert run._with_data(laptop, "/data/sudoku") is laptop


def test_a_run_that_another_process_trains_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_LOOK_EVERY_S", 0.05)
    results, job = tmp_path / "results", tiny(tmp_path)
    job.folder.mkdir(parents=True)
    (job.folder / "config.yaml").touch()  # it had begun
    lock = FileLock(job.folder / LOCK, thread_local=False)
    lock.acquire()
    assert job.busy
    other = threading.Timer(1.5, lock.release)
    other.start()
    Runner(results, processes=1, threads=1).run([job])
    assert other.finished.is_set()
    assert set(recorded(results)) == {job.key}


def test_a_run_on_other_data_is_not_taken_for_a_result(tmp_path, monkeypatch):
    job = tiny(tmp_path)
    Runner(tmp_path / "first", processes=1, threads=1).run([job])
    monkeypatch.setattr(runner, "data_checksum", lambda config: "0" * 64)
    with pytest.raises(InputError, match="was trained on other data; remove it"):
        Runner(tmp_path / "second", processes=1, threads=1).run([job])
    assert not recorded(tmp_path / "second")


def test_no_run_outlives_a_runner_that_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_LOOK_EVERY_S", 0.05)
    long = tiny(tmp_path, "trainer.max_steps=3000", label="long")
    failing = Runner(tmp_path / "results", processes=1, threads=1)

    def look(waiting, shown):
        if (long.folder / "checkpoints" / "last.ckpt").exists():
            raise ZeroDivisionError

    monkeypatch.setattr(failing, "_look", look)
    with pytest.raises(ZeroDivisionError):
        failing.run([long])
    assert not long.busy
    assert "stopped by SIGTERM" in long.folder.with_suffix(".log").read_text()


def test_a_signal_while_a_run_is_started_reaches_it(tmp_path, monkeypatch):
    long = tiny(tmp_path, "trainer.max_steps=100000", label="long")
    stopped = Runner(tmp_path / "results", processes=1, threads=1)
    popen = runner.subprocess.Popen

    def signalled(*arguments, **settings):
        stopped.stop(signal.SIGTERM, None)  # it does not know the new process yet
        return popen(*arguments, **settings)

    monkeypatch.setattr(runner.subprocess, "Popen", signalled)
    with pytest.raises(Stopped):
        stopped.run([long])
    assert not (long.folder / "result.json").exists()


def test_folders_that_hold_no_results_are_refused_in_one_line(tmp_path):
    write_json(tmp_path / "other.json", {"format": FORMAT, "measured": {}})
    with pytest.raises(InputError, match="other.json is no result of training"):
        recorded(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"):
        Runner(tmp_path / "file", processes=1, threads=1).run([])
