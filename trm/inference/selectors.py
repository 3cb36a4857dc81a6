"""What trajectories show of themselves, which of them may end a puzzle, and which one answers."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from pkgutil import resolve_name
from typing import Literal

import torch
from torch import Tensor

from trm.support.batched import Batched
from trm.support.errors import InputError

Stop = Literal["all", "first_halted", "first_valid", "all_valid"]


@dataclass(frozen=True)
class Signals(Batched):
    """What a step shows of R trajectories, by which one is chosen; (..., R) unless said.

    Attributes:
        halting: logit, positive where it says "solved", float32
        residuals: root mean square by which each part of the state changed (``y``, ``z``),
            (..., R, parts) float32
        confidence: mean over cells of the probability of the token chosen, float32
        valid: bool, the answer obeys the rules; False where a task has none
        cost: of a valid answer, see ``Task.cost``, float32
        answer: int64 hash of the answer, equal for equal answers
    """

    halting: Tensor
    residuals: Tensor
    confidence: Tensor
    valid: Tensor
    cost: Tensor
    answer: Tensor


# The score of each trajectory, (..., R), given the signals of all and a mask of those that may be
# chosen, (..., R) bool; the highest answers. Scores of trajectories that may not are ignored.
Selector = Callable[[Signals, Tensor], Tensor]


def halting(signals: Signals, among: Tensor) -> Tensor:
    """Prefer the one that is surest of being solved."""
    return signals.halting


def residual(signals: Signals, among: Tensor) -> Tensor:
    """Prefer the one whose state changed least in the last step."""
    return -signals.residuals.sum(-1)


def confidence(signals: Signals, among: Tensor) -> Tensor:
    """Prefer the highest mean probability of the tokens chosen."""
    return signals.confidence


def majority(signals: Signals, among: Tensor) -> Tensor:
    """Prefer the most frequent answer, and of equally frequent ones the surest of being solved."""
    same = signals.answer[..., :, None] == signals.answer[..., None, :]
    votes = (same & among[..., None, :]).float()
    count, sure = votes.sum(-1), (votes * signals.halting.sigmoid()[..., None, :]).sum(-1)
    return count + sure / (count + 1)  # the second term stays below one vote


def validity(signals: Signals, among: Tensor) -> Tensor:
    """Prefer a valid answer, and of several the surest of being solved."""
    return signals.valid.float() + signals.halting.sigmoid() / 2


def cost(signals: Signals, among: Tensor) -> Tensor:
    """Prefer the valid answer that costs least, and of several the first."""
    return torch.where(signals.valid, -signals.cost, -torch.inf)


_BUILT_IN = (halting, residual, confidence, majority, validity, cost)
BY_RULES = validity.__name__, cost.__name__
SELECTORS: dict[str, Selector] = {function.__name__: function for function in _BUILT_IN}


def selector(name: str) -> Selector:
    """Return the selector of a name, or import one's own by its path, ``package.function``.

    Raises:
        InputError: no such name, nothing to import there, or nothing that can be called
    """
    if name in SELECTORS:
        return SELECTORS[name]
    if "." not in name:
        known = ", ".join(SELECTORS)
        raise InputError(f"select={name} must be one of {known}, or package.function of your own")
    try:
        own = resolve_name(name)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise InputError(f"select={name} cannot be imported: {error}") from None
    if not callable(own):
        raise InputError(f"select={name} is no function of signals and a mask, but {own!r}")
    return own


def select_trajectory(select: str, signals: Signals, among: Tensor) -> Tensor:
    """Return the number of the trajectory that answers, (...) int64; of equal ones the first.

    Args:
        select: name or path of a selector
        signals: of all trajectories, (..., R)
        among: those that may be chosen, (..., R) bool; all, where none is marked

    Raises:
        InputError: a selector of one's own that does not give one score for each trajectory
    """
    among = among | ~among.any(-1, keepdim=True)
    score = selector(select)(signals, among)
    if not isinstance(score, Tensor) or score.shape != among.shape:
        given = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
        raise InputError(
            f"select={select} returned {given}; it must return one score for each trajectory, a "
            f"tensor of shape {tuple(among.shape)}"
        )
    return score.float().masked_fill(~among, -torch.inf).argmax(-1)


def candidates(stop: Stop, sure: float, signals: Signals) -> Tensor:
    """Mark, as (..., R) bool, the trajectories by which a puzzle may end before the last step.

    Args:
        stop: what ends a puzzle, see ``trm.inference.compute.Compute``
        sure: halting probability above which a trajectory counts as saying "solved"
        signals: of all trajectories, (..., R)
    """
    if stop == "first_halted":
        return signals.halting > log(sure / (1 - sure))
    if stop == "all_valid":
        return signals.valid & signals.valid.all(-1, keepdim=True)
    return signals.valid if stop == "first_valid" else torch.zeros_like(signals.valid)
