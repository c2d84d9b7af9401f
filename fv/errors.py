"""The one exception that a user's mistake raises."""


class UserError(ValueError):
    """Something the user gave is wrong: the message is one line that says what, with its value, and what to do.

    Entry points print it without a traceback and exit with `fv.cli.EXIT_ERROR`.
    """
