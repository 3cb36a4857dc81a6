"""Shares and their intervals."""

from math import exp, lgamma, log, sqrt
from typing import Any

_Z95 = 1.959963984540054  # standard normal quantile of 97.5 %


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share (Wilson 1927)."""
    share, z2 = hits / n, _Z95**2 / n
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z95 / (1 + z2) * sqrt(share * (1 - share) / n + z2 / (4 * n))
    # Rounding may carry the bounds of none and of all past 0 and 1, or not quite there.
    return (middle - half if hits > 0 else 0.0), (middle + half if hits < n else 1.0)


def accuracy(name: str, hits: float, n: int) -> dict[str, Any]:
    """Return ``<name>_accuracy`` and ``<name>_interval`` as results hold them; None of none."""
    share, interval = (hits / n, list(wilson(hits, n))) if n else (None, None)
    return {f"{name}_accuracy": share, f"{name}_interval": interval}


def mcnemar(one_alone: int, other_alone: int) -> float:
    """Return the p-value of McNemar's exact test: do two solvers solve equally many puzzles?

    Puzzles that both or neither solve say nothing; of the others, each would be as likely to be the
    one's as the other's.

    Args:
        one_alone: puzzles that the one solves and the other does not
        other_alone: the other way round
    """
    n, fewer = one_alone + other_alone, min(one_alone, other_alone)
    tail = sum(exp(_log_choose(n, k) - n * log(2)) for k in range(fewer + 1))
    return min(1.0, 2 * tail)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
