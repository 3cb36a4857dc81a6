"""The error for what a person can mend, the commonest rules, and the end of a stopped run."""

from collections.abc import Iterable


class InputError(ValueError):
    """A value from outside (file, config, command line) breaks a rule.

    The message names the value, the rule and the remedy in one line. Commands print it
    without a traceback and exit with status 2; in Python it is an ordinary ``ValueError``.
    """


def check_at_least(bound: float, prefix: str = "", **values: float | None) -> None:
    """Refuse numbers below a bound, and what is no number; None says that there is none.

    Args:
        bound: smallest that is allowed
        prefix: of the names, such as ``train.``
        values: by name

    Raises:
        InputError: the first that is too small
    """
    for name, value in values.items():
        if value is not None and not value >= bound:
            raise InputError(f"{prefix}{name}={value} must be at least {bound}")


def check_between(low: float, high: float, prefix: str = "", **values: float) -> None:
    """Refuse numbers outside of ``low`` to ``high``; see ``check_at_least``."""
    for name, value in values.items():
        if not low <= value <= high:
            raise InputError(f"{prefix}{name}={value} must lie between {low} and {high}")


def check_choice(choices: Iterable[str], prefix: str = "", **values: str) -> None:
    """Refuse words that are not among ``choices``; see ``check_at_least``."""
    for name, value in values.items():
        if value not in (known := list(choices)):
            raise InputError(f"{prefix}{name}={value} must be one of {', '.join(known)}")


class Stopped(Exception):  # noqa: N818 - it is no error
    """A signal asked a run to stop, and it has saved; the message says how to go on.

    Args:
        message: for the person who reads the log
        signal: its number; commands exit with 128 more, as shells do
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal
