"""Runs entry points: parses their flags, reports errors in one line and sets the exit code."""

import atexit
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from absl import flags

from fv import errors, progress
from fv import options as fv_options
from fv.errors import Stopped, UserError, WorkerLost

EXIT_ERROR = 2  # 0 and 1 are the verdicts of fv.verify
EXIT_BUG = 70  # EX_SOFTWARE of sysexits.h; Python's own 1 would be a verdict
EXIT_TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h: a disk or network failed, try again
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_SAVED = 138  # saved and stopped, by a signal or because a worker was lost: start again


def run(
    main: Callable,
    options_class: type,
    positional: Sequence[str] = (),
    *,
    description: str = "",
    argv: Sequence[str] | None = None,
) -> None:
    """Parses the command line, calls `main(options, *arguments)` and exits with what it returns.

    A process whose program this command is ends here, without deleting TensorFlow's objects.

    Args:
      main: returns the exit code, None for 0.
      options_class: options dataclass (see `fv.options`) that defines the flags.
      positional: names of the arguments beside flags. A last name with '…' takes any number.
      description: first part of `--help`.
      argv: the command line, program first; `sys.argv` by default.
    """
    argv = list(sys.argv if argv is None else argv)
    program = os.path.basename(argv[0])
    progress.start_logging()
    try:
        values, arguments = parse(options_class, argv)
        if values["help"].value:
            _print_help(options_class, positional, program, description)
            sys.exit(0)
        if len(arguments) != len(positional) and not "".join(positional).endswith("…"):
            expected = " ".join(positional) or "no arguments beside flags"
            given = " ".join(arguments) or "none"
            raise UserError(f"expected {expected}, got {given} (--help lists the flags)")
        code = main(fv_options.from_flags(options_class, values), *arguments)
        sys.stdout.flush()  # a full disk or a closed pipe is an error like any other
    except UserError as error:
        code = _fail(program, str(error))
    except (Stopped, WorkerLost) as stop:
        print(f"{program}: {stop}", file=sys.stderr)
        code = EXIT_SAVED
    except Exception as error:
        message = errors.describe(error)
        if errors.is_temporary(error):
            message += ": this may pass, run the same command again"
            code = _fail(program, message, EXIT_TEMPORARY)
        elif errors.is_user_fixable(error):
            code = _fail(program, message)
        else:  # a bug of fv
            traceback.print_exc()
            code = EXIT_BUG
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        code = EXIT_INTERRUPTED
    if "tensorflow" in sys.modules and _is_main_program():
        _end_process(code or 0)
    sys.exit(code)


def _is_main_program() -> bool:
    """Whether only a command's module, at most by way of a function of it, called `run`."""
    frame: FrameType | None = sys._getframe(2)
    callers = 0
    while frame is not None:
        callers += frame.f_globals["__name__"] != "runpy"  # python -m
        frame = frame.f_back
    return callers <= 2


def _end_process(code: int) -> NoReturn:
    """Does all that Python does when a program ends, except to delete its objects.

    An iterator of tf.data that is deleted waits, in one run of four, up to a minute for the thread
    that tunes its pipeline.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads and executors
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def parse(options_class: type, argv: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    """Parses a command line, program first.

    Returns:
      The values of the flags, `help` included, and the arguments beside flags.

    Raises:
      UserError: a flag is unknown, a value is not allowed, or a flagfile cannot be read.
    """
    values = flags.FlagValues()
    fv_options.define_flags(options_class, values)
    flags.DEFINE_boolean(
        "help", False, "Print this text and exit.", flag_values=values, short_name="h"
    )
    try:
        return values, values(list(argv))[1:]
    except flags.Error as error:
        message = str(error).removeprefix("ERROR:: ")
        raise UserError(f"{message} (--help lists the flags)") from error
    except UnicodeDecodeError as error:
        raise UserError(f"the flagfile is not a text file: {error}") from error


def _print_help(
    options_class: type, positional: Sequence[str], program: str, description: str
) -> None:
    print(f"{description.strip()}\n\nusage: {' '.join([program, '[flags]', *positional])}\n")
    for flag, text in fv_options.describe(options_class):
        print(f"  {flag}\n{textwrap.indent(textwrap.fill(text, 100), '      ')}")
    print("  --flagfile=\n      Read flags from this file. Flags after it override it.")


def _fail(program: str, message: str, code: int = EXIT_ERROR) -> int:
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def run_module(*arguments: str, accepted: Sequence[int] = (0,)) -> None:
    """Prints and runs `python -m`, which gets the time to save when this process is stopped.

    Raises:
      SystemExit: its exit code is not among the accepted ones.
    """
    print(f"$ {program('python')} -m {shlex.join(arguments)}", flush=True)
    with subprocess.Popen([sys.executable, "-m", *arguments]) as child:
        # Ctrl-C reaches the child by itself.
        before = {
            signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
            signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: child.terminate()),
        }
        code = child.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    if code not in accepted:
        print("\nfv: a stage stopped, as it says above; the same command continues", flush=True)
        # A negative code is a signal, which a shell reports as 128 and its number.
        sys.exit(code if code > 0 else 128 - code)


def program(name: str) -> str:
    """Returns what starts a program of this environment from the current folder."""
    path = os.path.join(os.path.dirname(sys.executable), name)
    found = shutil.which(name)
    return name if found and os.path.samefile(found, path) else os.path.relpath(path)
