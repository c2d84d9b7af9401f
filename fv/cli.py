"""What every entry point shares: flags to options, one line for a user's mistake, exit codes."""

import os
import sys
import textwrap
from collections.abc import Callable, Sequence

from absl import flags

from fv import errors, progress
from fv import options as fv_options
from fv.errors import Stopped, UserError, WorkerLost

EXIT_ERROR = 2  # `fv.verify` needs 0 and 1 for its verdict
EXIT_TEMPORARY = (
    75  # EX_TEMPFAIL of sysexits.h: a disk or the network failed, the same command may succeed
)
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_SAVED = 138  # stopped by a signal with all saved, or another worker was lost: start again


def run(
    main: Callable,
    options_class: type,
    positional: Sequence[str] = (),
    *,
    description: str = "",
    argv: Sequence[str] | None = None,
) -> None:
    """Parses the command line, calls `main(options, *positional arguments)` and exits the process with what it returns.

    Args:
      main: function of the options and of one string per name in `positional`; returns the exit code, None for 0.
      options_class: options dataclass (see `fv.options`) that defines the flags.
      positional: names of the arguments that follow the flags, for messages; one that ends in '…' takes any number.
      description: what `--help` says first: the entry point's docstring.
      argv: the command line with the program first; `sys.argv` by default.
    """
    argv = list(sys.argv if argv is None else argv)
    program = os.path.basename(argv[0])
    progress.start_logging()
    try:
        options, arguments = _parse(options_class, positional, argv, description)
        code = main(options, *arguments)
    except UserError as error:
        code = _fail(program, str(error))
    except (Stopped, WorkerLost) as stop:
        print(f"{program}: {stop}", file=sys.stderr)
        code = EXIT_SAVED
    except Exception as error:
        if errors.is_temporary(error):
            code = _fail(
                program,
                f"{errors.describe(error)}: this may pass, run the same command again",
                EXIT_TEMPORARY,
            )
        elif errors.is_user_fixable(error):
            code = _fail(program, errors.describe(error))
        else:
            raise  # a bug of fv, which needs its traceback
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        code = EXIT_INTERRUPTED
    sys.exit(code)


def parse(options_class: type, argv: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    """Reads a command line, the program first.

    Returns:
      The flags of `options_class` and --help, and the arguments beside them.

    Raises:
      UserError: a flag is unknown or its value is not one that it takes, or a flagfile cannot be read.
    """
    values = flags.FlagValues()
    fv_options.define_flags(options_class, values)
    flags.DEFINE_boolean(
        "help", False, "Print this text and exit.", flag_values=values, short_name="h"
    )
    try:
        given = values.read_flags_from_files(list(argv[1:]), force_gnu=False)
        return values, values([argv[0], *fv_options.drop_removed(given, values)])[1:]
    except flags.Error as error:
        raise UserError(
            f"{str(error).removeprefix('ERROR:: ')} (--help lists the flags)"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"the flagfile is not a text file: {error}") from error


def _parse(options_class: type, positional: Sequence[str], argv: list[str], description: str):
    values, arguments = parse(options_class, argv)
    if values["help"].value:
        _print_help(options_class, positional, os.path.basename(argv[0]), description)
        sys.exit(0)
    if len(arguments) != len(positional) and not "".join(positional).endswith("…"):
        wanted = " ".join(positional) or "no arguments beside flags"
        raise UserError(
            f"expected {wanted}, got {' '.join(arguments) or 'none'} (--help lists the flags)"
        )
    return fv_options.from_flags(options_class, values), arguments


def _print_help(
    options_class: type, positional: Sequence[str], program: str, description: str
) -> None:
    print(f"{description.strip()}\n\nusage: {' '.join([program, '[flags]', *positional])}\n")
    for flag, help in fv_options.describe(options_class):
        print(f"  {flag}")
        print(textwrap.indent(textwrap.fill(help, 100), "      "))
    print("  --flagfile=\n      Read flags from this file; give it first, since later flags win.")


def _fail(program: str, message: str, code: int = EXIT_ERROR) -> int:
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    return code
