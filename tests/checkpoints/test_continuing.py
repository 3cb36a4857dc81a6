"""What a continued run takes from its checkpoint, and what it does not."""

import pytest

from trm import InputError
from trm.checkpoints.continuing import merged_overrides


def test_the_later_of_two_overrides_wins_and_stands_last():
    earlier = ["experiment=sudoku_6x6", "seed=1", "run_dir=a", "ckpt_path=b"]
    assert merged_overrides(earlier, ["seed=2"]) == ["experiment=sudoku_6x6", "seed=2"]


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
