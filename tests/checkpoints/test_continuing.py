"""What a continued run takes from its checkpoint, and what it does not."""

import pytest

from tests.conftest import TINY, compose
from trm import InputError
from trm.checkpoints.continuing import completed, merged_overrides
from trm.train import run_training


def test_the_later_of_two_overrides_wins_and_stands_last():
    earlier = ["experiment=sudoku_6x6", "seed=1", "run_dir=a", "ckpt_path=b"]
    assert merged_overrides(earlier, ["seed=2"]) == ["experiment=sudoku_6x6", "seed=2"]


def test_a_key_that_only_the_run_s_own_command_line_brought_may_be_set_anew(tmp_path):
    own = ["data=sudoku_extreme", "data.path=there", "run_dir=RUN"]
    run_training(compose("train", *TINY, f"run_dir={tmp_path / 'run'}"), own)
    words = ["--cfg", "job", f"ckpt_path={tmp_path / 'run'}", "data.path=moved", "seed=1"]
    assert completed(words) == ["--cfg", "job", "data=sudoku_extreme", *words[2:]]


def test_a_command_line_that_continues_no_run_stays_as_it_is():
    for words in (["seed=1", "ckpt_path=null"], ["-m", "seed=1,2"], ["~ema", "--info"]):
        assert completed(words) == words


def test_a_command_line_from_before_ablations_had_a_group_is_read():
    earlier = ["experiment=[sudoku_6x6,no_ema,four_layers]", "seed=1"]
    expected = ["experiment=[sudoku_6x6]", "ablation=[no_ema,four_layers]", "seed=1"]
    assert merged_overrides(earlier, []) == expected
    own = ["experiment=[sudoku_6x6,my_changes]"]
    assert merged_overrides(own, []) == own
    assert merged_overrides(["experiment=[sudoku_6x6]"], []) == ["experiment=[sudoku_6x6]"]


def test_a_file_may_not_choose_what_is_called():
    earlier = ["+callbacks.mine._target_=os.system"]
    with pytest.raises(InputError, match="names what to call .*os.system.*give it again"):
        merged_overrides(earlier, [])
    assert merged_overrides(earlier, earlier) == earlier
