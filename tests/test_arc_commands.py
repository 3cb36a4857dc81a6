"""ARC from raw files to a submission, through the commands."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import compose
from tests.data.test_from_arc import folder, task_of
from trm import InputError, load
from trm.evaluate import run_evaluation
from trm.train import run_training

__all__ = ["folder"]  # a fixture

TINY_ARC = (
    "experiment=arc_tiny",
    "data.train=[training,evaluation]",
    "data.tasks=3",
    "data.augmentations=3",
    "data.val_tasks=1",
    "model.dim=8",
    "model.heads=2",
    "model.hidden_multiple=8",
    "model.prefix_len=1",
    "recursion.n=1",
    "recursion.T=1",
    "train.N_sup=2",
    "train.batch_size=2",
    "trainer.accelerator=cpu",
    "trainer.max_steps=4",
    "trainer.val_check_interval=2",
)


def test_training_votes_and_a_submission_that_fits_its_challenges(folder, tmp_path):
    run = tmp_path / "run"
    result = run_training(compose("train", *TINY_ARC, f"data.path={folder}", f"run_dir={run}"))
    assert result["manifest"]["identifiers"] == result["config"]["model"]["identifiers"]
    assert [row["n"] for row in result["test"]] == [6, 6]
    checkpoint = run / "checkpoints" / "best.ckpt"
    assert load(checkpoint).identifiers.weights.abs().sum() > 0, "rows were learned"

    path = tmp_path / "submission.json"
    cfg = compose(
        "evaluate", f"checkpoint={checkpoint}", f"submission={path}", "votes=2", "batch_size=5"
    )
    evaluated = run_evaluation(cfg)
    assert evaluated["votes"] == 6 * 2
    assert [row["k"] for row in evaluated["pass_at"]] == [1, 2, 5, 10, 100, 1000]
    assert all(row["n"] == 3 and len(row["interval"]) == 2 for row in evaluated["pass_at"])
    submitted = json.loads(path.read_text())
    challenges = json.loads((folder / "arc-agi_evaluation_challenges.json").read_text())
    assert submitted.keys() == challenges.keys()
    for name, attempts in submitted.items():
        assert len(attempts) == len(challenges[name]["test"])
        for attempt in attempts:
            assert attempt.keys() == {"attempt_1", "attempt_2"}
            for grid in attempt.values():
                grid = np.array(grid)  # rows of equal length
                assert grid.ndim == 2
                assert 0 <= grid.min() <= grid.max() <= 9
    # Other augmentations have other identifiers.
    other = ("data=arc", f"data.path={folder}", *TINY_ARC[1:5], "data.seed=1")
    with pytest.raises(InputError, match="was trained on other tasks or augmentations"):
        run_evaluation(compose("evaluate", f"checkpoint={checkpoint}", *other))
    with pytest.raises(InputError, match="submission and votes are for the split test of ARC"):
        run_evaluation(compose("evaluate", f"checkpoint={checkpoint}", "split=val", "votes=2"))
    # The run goes on: the number of rows is found anew.
    more = compose("train", *TINY_ARC, f"data.path={folder}", f"ckpt_path={run}")
    more.trainer.max_steps = 5
    assert run_training(more)["steps"] == 5


def test_a_folder_of_tasks_alone_trains_and_is_split_alike_in_evaluation(tmp_path):
    for k in range(6):
        contents = task_of(k)
        for pair in contents["test"] * (k == 5):
            pair["output"] = None
        (tmp_path / "tasks").mkdir(exist_ok=True)
        (tmp_path / "tasks" / f"t{k}.json").write_text(json.dumps(contents))
    run, path = tmp_path / "run", tmp_path / "submission.json"
    words = [word for word in TINY_ARC if not word.startswith(("data.train", "data.tasks"))]
    words += [f"data.path={tmp_path / 'tasks'}", "data.test_tasks=2", f"run_dir={run}"]
    result = run_training(compose("train", *words))
    assert "tested on 2 of its 6 tasks, drawn with seed 0" in result["manifest"]["source"]
    checkpoint = run / "checkpoints" / "best.ckpt"
    evaluated = run_evaluation(
        compose("evaluate", f"checkpoint={checkpoint}", f"submission={path}", "votes=2")
    )
    assert evaluated["tasks"] == len(json.loads(path.read_text())) == 2
    assert all(row["n"] == 2 for row in evaluated["pass_at"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.identifiers=2", "model.identifiers=2 is too few for this data"),
        ("model.prefix_len=0", "tells its tasks apart by identifiers"),
        ("task=maze", "take task=arc"),
        ("data.path=nowhere", "data.path=nowhere does not exist; give the folder"),
        ("checkpoint.monitor=val/valid_accuracy", "must be one of val/exact_accuracy, val/cell"),
    ],
)
def test_what_cannot_be_is_refused_at_start(folder, tmp_path, monkeypatch, override, said):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match=said):
        run_training(compose("train", *TINY_ARC, f"data.path={folder}", override))
    assert set(Path().resolve().iterdir()) == before
