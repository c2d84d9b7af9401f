"""The exceptions that end a command in one line: a user's mistake, a stop on request, a worker that is lost."""


class UserError(ValueError):
    """Something the user gave is wrong: the message is one line that says what, with its value, and what to do.

    Entry points print it without a traceback and exit with `fv.cli.EXIT_ERROR`.
    """


class Stopped(Exception):
    """Someone asked a run to stop, and it has saved what it had: the message is one line that says how far it is.

    Entry points print it without a traceback and exit with `fv.cli.EXIT_SAVED`.
    """


class WorkerLost(Exception):
    """Another worker of a run on several machines has ended or is silent: the message is one line that says which.

    Entry points print it without a traceback and exit with `fv.cli.EXIT_SAVED`: started again, the run goes on.
    """
