"""Data that is only to be evaluated has no training puzzles, and need not have them."""

import pytest

from tests.conftest import TINY, compose
from trm import InputError
from trm.evaluate import run_evaluation
from trm.train import run_training


@pytest.fixture
def folder(tmp_path, puzzles, sudoku):
    """Make a folder with test puzzles alone."""
    test = puzzles.splits["test"]
    pairs = zip(test.x_input, test.y_true, strict=True)
    rows = [f"{sudoku.decode(x)},{sudoku.decode(y)}\n" for x, y in pairs]
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "test.csv").write_text("puzzle,solution\n" + "".join(rows))
    return tmp_path / "own"


def evaluated(trained, *overrides: str):
    checkpoint = trained[0] / "checkpoints" / "last.ckpt"
    return run_evaluation(compose("evaluate", f"checkpoint={checkpoint}", *overrides))


@pytest.mark.parametrize("source", [(), ("data=sudoku_extreme",)])
def test_test_puzzles_alone_are_evaluated(trained, folder, source):
    result = evaluated(trained, *source, f"data.path={folder}", "split=test")
    assert result["manifest"]["counts"] == {"test": 8}
    assert result["manifest"]["source"] == "folder own: test.csv alone"
    as_trained = evaluated(trained, "split=test")
    assert result["evaluation"] == as_trained["evaluation"]


def test_one_file_of_a_folder_is_evaluated_by_its_name(trained, folder):
    (folder / "test.csv").rename(folder / "mine.csv")
    result = evaluated(trained, f"data.path={folder}", "+data.test_file=mine.csv")
    assert result["manifest"]["counts"] == {"test": 8}


def test_a_split_that_is_not_there_is_refused(trained, folder):
    with pytest.raises(InputError, match="test.csv alone has no train puzzles but test; these can"):
        evaluated(trained, f"data.path={folder}", "split=train")


def test_training_puzzles_that_cannot_be_read_are_no_matter_of_the_test(trained, folder, tmp_path):
    (folder / "train.csv").write_text("garbage\n")
    result = evaluated(trained, f"data.path={folder}", "split=test")
    assert result["manifest"]["counts"] == {"test": 8}
    with pytest.raises(InputError, match=r"train.csv, line 1: header 'garbage' must"):
        evaluated(trained, f"data.path={folder}", "split=train")
    tiny = [text for text in TINY if not text.startswith("data.")]
    settings = ("data=sudoku_extreme", f"data.path={folder}", f"run_dir={tmp_path / 'run'}")
    with pytest.raises(InputError, match=r"train.csv, line 1: header 'garbage' must"):
        run_training(compose("train", *tiny, *settings))


def test_training_on_test_puzzles_alone_is_refused_at_once(tmp_path, folder):
    tiny = [text for text in TINY if not text.startswith("data.")]
    settings = ("data=sudoku_extreme", f"data.path={folder}", f"run_dir={tmp_path / 'run'}")
    with pytest.raises(InputError, match="own: test.csv alone has no train puzzles but test") as e:
        run_training(compose("train", *tiny, *settings))
    assert "\n" not in str(e.value)
    assert not (tmp_path / "run").exists()
