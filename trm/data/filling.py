"""Training puzzles of which a part is filled in, rightly or wrongly."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trm.support import counter_rng
from trm.support.errors import InputError, check_between
from trm.tasks.base import PAD, Task

_WRONG_SHARE = 0.01, 0.15  # of the cells filled in, in a row that has wrong ones


@dataclass(frozen=True)
class Filling:
    """How training puzzles are filled in at every draw.

    A puzzle that is half done is an easier puzzle with the same answer; one with a wrong entry has
    no answer, and shows what a contradiction looks like. Its label is all PAD. Both need puzzles
    with one solution.

    Attributes:
        untouched: share of puzzles that stay as they are
        wrong: share of puzzles with some wrong entries among the right ones

    Raises:
        InputError: shares that are negative or more than all
    """

    untouched: float = 1.0
    wrong: float = 0.0

    def __post_init__(self) -> None:
        check_between(0, 1, "train.filling.", untouched=self.untouched, wrong=self.wrong)
        if self.untouched + self.wrong > 1:
            raise InputError(
                f"train.filling.untouched={self.untouched} and wrong={self.wrong} are more than "
                "all puzzles"
            )

    def check(self, task: Task) -> None:
        """Refuse a task without open cells to fill.

        Raises:
            InputError: it has none
        """
        if self.untouched < 1 and task.blank is None:
            raise InputError(
                f"train.filling.untouched={self.untouched}: {task.name} has no open cells that "
                "could be filled in; take train.filling.untouched=1"
            )

    def __call__(
        self, task: Task, x_input: Tensor, y_true: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Fill in a random share of the open cells of most puzzles.

        Args:
            task: says what an open cell is
            x_input: (batch, cells) int64
            y_true: (batch, cells) int64
            keys: of the draws, (batch,) int64
        """
        if self.untouched == 1 or task.blank is None:
            return x_input, y_true
        kind, share, wrong_share = counter_rng.uniforms(counter_rng.key(keys, 1), 3).unbind(-1)
        place, slip = (
            counter_rng.uniforms(counter_rng.key(keys, word), task.cells) for word in (2, 3)
        )
        least, most = _WRONG_SHARE
        filled = (x_input == task.blank) & (place < share[:, None])
        filled &= (kind >= self.untouched)[:, None]
        wrong_share = least + (most - least) * wrong_share
        wrong = filled & (slip < wrong_share[:, None]) & (kind >= 1 - self.wrong)[:, None]
        symbols = task.vocab_size - task.blank - 1
        step = 1 + counter_rng.draws(counter_rng.key(keys, 4), task.cells) % (symbols - 1)
        other = (y_true - task.blank - 1 + step) % symbols + task.blank + 1
        x_input = torch.where(filled, torch.where(wrong, other, y_true), x_input)
        return x_input, torch.where(wrong.any(1, keepdim=True), PAD, y_true)


UNTOUCHED = Filling()
