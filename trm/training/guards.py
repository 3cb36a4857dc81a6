"""What can go wrong with numbers while a model trains, and how it is said."""

import logging
from collections.abc import Iterable

import torch
from torch import Tensor

from trm.support.errors import InputError
from trm.training.tally import Measured

_log = logging.getLogger(__name__)

NOT_FINITE = "not finite at step"  # by which a table runner knows such a run by its last words
_READINGS = 5  # of the metrics in a row that must agree before the halting head is complained of
_DECAYS = (0.999, 0.995, 0.99, 0.95, 0.9, 0.5)  # to propose
_LAG = 0.1  # the most an average should still hold of the initial weights at the end


class DivergenceError(InputError):
    """Loss or weights are no longer finite numbers."""


def diverged(what: str, step: int, lr: float) -> DivergenceError:
    """Make the error of a run whose numbers are no longer finite.

    Args:
        what: is not finite
        step: at which it was first so
        lr: learning rate then
    """
    return DivergenceError(
        f"{what} {NOT_FINITE} {step} (learning rate {lr:.3g}); start anew, from a good "
        f"checkpoint with init_from=... if you like, with a lower optimizer.lr, a longer "
        f"train.warmup_steps, or train.gradient_clip=1"
    )


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Check tensors on their device, and wait for it once.

    The ends of a tensor say it without a mask of its size, which for a table of identifiers would
    weigh gigabytes: a NaN is both of them.
    """
    ends = [torch.stack(tensor.aminmax()).isfinite().all() for tensor in tensors if tensor.numel()]
    return not ends or bool(torch.stack(ends).all())


class HaltingWatch:
    """Says, once, that a halting head has got stuck.

    A head that never says stop wastes supervision steps on solved puzzles; one that always does
    takes puzzles away before they are solved.
    """

    def __init__(self) -> None:
        self._in_a_row = {"no": 0, "every": 0}
        self._warned = False

    def look(self, measured: Measured, step: int) -> None:
        """Look at metrics just read."""
        stuck = {
            "no": measured.says_stop == 0 and measured.solved > 0.5,
            "every": measured.says_stop == 1 and measured.solved < 0.5,
        }
        for which, is_so in stuck.items():
            self._in_a_row[which] = self._in_a_row[which] + 1 if is_so else 0
            if self._in_a_row[which] >= _READINGS and not self._warned:
                self._warned = True
                _log.warning(
                    f"warning: step {step}: the halting head says stop for {which} puzzle, and "
                    f"{100 * measured.solved:.0f} % of those in hand are solved"
                )


def check_lag(decay: float, steps: int) -> None:
    """Say that an average will hardly have left the initial weights when training ends."""
    share = decay**steps
    if share > _LAG:
        fitting = next((decay for decay in _DECAYS if decay**steps <= 0.01), None)
        remedy = "ema=null does without" if fitting is None else f"ema.decay={fitting} forgets them"
        _log.warning(
            f"warning: ema.decay={decay} is slow for {steps} steps: at the end the average still "
            f"holds {100 * share:.0f} % of the initial weights; {remedy}"
        )
