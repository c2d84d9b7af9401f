"""Runs tasks on the workers of an Apache Beam runner, with the same results as on this machine.

Tasks and results are files in a folder that all workers share, and the runner sends only their
numbers. A job's description stays small however large the data set is, and no runner has to send
results back.
"""

import contextlib
import functools
import itertools
import logging
import os
import pickle
from collections.abc import Callable, Iterable, Iterator

import apache_beam
from apache_beam.options import pipeline_options

from fv import errors, files
from fv.errors import TemporaryError, UserError

# Beam knows this runner only by its full name. An element is seconds of work, and Dask would send
# 128 elements to one worker.
_FLAGS = {
    "DaskRunner": [
        "--runner=apache_beam.runners.dask.dask_runner.DaskRunner",
        "--dask_partition_size=1",
    ]
}
_GROUP_BYTES = 64 << 10  # of pickled tasks in an element: about 1,000 images to check, or one shard


class Runner:
    """Runs tasks as Beam pipelines.

    Args:
      name: of the runner.
      options: of the runner, as command-line flags.
      shared: a folder that its workers can read and write.
    """

    def __init__(self, name: str, options: list[str], shared: str):
        self._name, self._shared, self._stages = name, shared, itertools.count()
        self._flags = [*_FLAGS.get(name, [f"--runner={name}"]), *options]

    def map(self, function: Callable, tasks: Iterable) -> Iterator:
        """Yields `function(task)` in the order of `tasks`, after the pipeline has ended.

        Raises:
          UserError: the runner failed.
          TemporaryError: the runner failed in a way that may pass.
          Exception: the first UserError, TemporaryError or OSError of a task.
        """
        stage = os.path.join(self._shared, f"stage-{next(self._stages)}")
        files.make_folder(stage)
        count = _save_tasks(tasks, stage)
        logging.getLogger("apache_beam").setLevel(logging.ERROR)
        try:
            options = pipeline_options.PipelineOptions(self._flags)
            with apache_beam.Pipeline(options=options) as pipeline:
                numbers = pipeline | apache_beam.Create(range(count)) | apache_beam.Reshuffle()
                run = functools.partial(run_group, function=function, stage=stage)
                numbers | apache_beam.Map(run)
        except Exception as error:  # each runner has its own errors
            first = next(iter(str(error).splitlines()), type(error).__name__)
            # A runner quotes the error of a worker.
            passes = errors.is_temporary(error) or errors.quotes_temporary(str(error))
            kind = TemporaryError if passes else UserError
            raise kind(f"--runner={self._name} failed: {first} (see its own log)") from error
        for number in range(count):
            for result in _load(os.path.join(stage, f"{number}.results")):
                if isinstance(result, Exception):
                    raise result
                yield result
        files.remove_folder(stage)


def run_group(number: int, function: Callable, stage: str) -> int:
    """Runs a group of tasks in a worker and saves the results.

    A UserError, TemporaryError or OSError of a task ends the group and is its last result.
    """
    results: list = []
    tasks = _load(os.path.join(stage, f"{number}.tasks"))
    with contextlib.suppress(UserError, TemporaryError, OSError):
        for task in tasks:
            try:
                results.append(function(task))
            except (UserError, TemporaryError, OSError) as error:
                results.append(error)
                raise
    _save(results, os.path.join(stage, f"{number}.results"))
    return number


def _save_tasks(tasks: Iterable, stage: str) -> int:
    """Saves the tasks in groups, and returns the number of groups."""
    group: list = []
    size = count = 0
    for task in tasks:
        group.append(task)
        size += len(pickle.dumps(task))
        if size >= _GROUP_BYTES:
            _save(group, os.path.join(stage, f"{count}.tasks"))
            group, size, count = [], 0, count + 1
    if group:
        _save(group, os.path.join(stage, f"{count}.tasks"))
        count += 1
    return count


def _save(content: list, path: str) -> None:
    with files.atomic_open(path, "wb") as file:
        file.write(pickle.dumps(content))


def _load(path: str) -> list:
    return pickle.loads(files.read_bytes(path))
