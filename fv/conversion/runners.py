"""Where a conversion's tasks run: processes of this machine, or workers of an Apache Beam runner."""

import contextlib
import importlib.util
import shlex
from collections.abc import Iterator

from fv import workers
from fv.conversion.settings import LOCAL, Options
from fv.errors import UserError

_PRELOADED = ("fv.conversion.checking", "fv.conversion.shards")


@contextlib.contextmanager
def start(chosen: Options, scratch: str) -> Iterator[workers.Map]:
    """Gives a function that maps a module's function over tasks and yields the results in order.

    Args:
      chosen: the options.
      scratch: a folder that every worker of a Beam runner can read and write.

    Raises:
      UserError: a Beam runner is asked for and Beam is not installed.
    """
    if chosen.runner == LOCAL:
        with workers.pool(chosen.processes, _PRELOADED) as run:
            yield run
        return
    if importlib.util.find_spec("apache_beam") is None:
        raise UserError(
            f"--runner={chosen.runner} needs Apache Beam: pip install 'fv[beam]', or take --runner={LOCAL}"
        )
    from fv.conversion import beam

    yield beam.Runner(chosen.runner, shlex.split(chosen.runner_options), scratch).map
