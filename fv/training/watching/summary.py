"""What ends a run's output, whichever way it ends: whether the input bound it, and a line of JSON."""

import contextlib
from collections.abc import Iterator

from fv import files
from fv.errors import Stopped
from fv.training.watching import run_record
from fv.training.watching.reporter import Reporter
from fv.training.watching.run_record import Start


@contextlib.contextmanager
def written_at_the_end(reporter: Reporter, start: Start) -> Iterator[None]:
    """Prints the reporter's summary on stdout when the block ends, its verdict on the input first; notes it in run.json."""
    reason = "failed"
    try:
        yield
        reason = "finished"
    except Stopped:
        reason = "stopped"
        raise
    finally:
        summary = reporter.summary(reason)
        if summary["input_verdict"]:
            print(summary["input_verdict"])
        print(files.to_json(summary), flush=True)
        run_record.end(start, summary)
