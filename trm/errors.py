"""The one error class for what a person can mend."""


class InputError(ValueError):
    """A value from outside (file, config, command line) breaks a rule.

    The message names the value, the rule and the remedy in one line. Commands print it
    without a traceback and exit with status 2; in Python it is an ordinary ``ValueError``.
    """
