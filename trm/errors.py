"""The error class for what a person can mend, and the end of a run that was told to stop."""


class InputError(ValueError):
    """A value from outside (file, config, command line) breaks a rule.

    The message names the value, the rule and the remedy in one line. Commands print it
    without a traceback and exit with status 2; in Python it is an ordinary ``ValueError``.
    """


class Stopped(Exception):  # noqa: N818 - it is no error
    """A signal asked a run to stop, and it has saved; the message says how to go on.

    Args:
        message: for the person who reads the log
        signal: its number; commands exit with 128 more, as shells do
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal
