"""Tasks on the workers of any Apache Beam runner, with the same results as on this machine.

Tasks and results go through files in a folder that all workers share: a runner sends only their numbers, so a job's
description stays small however large the data set, and no runner's own way back to the driver is needed.
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

from fv import files
from fv.errors import UserError

_CLASSES = {
    "DaskRunner": "apache_beam.runners.dask.dask_runner.DaskRunner"
}  # Beam knows it by its full name only
_DEFAULTS = {
    "DaskRunner": ["--dask_partition_size=1"]
}  # an element is seconds of work; Dask would send 128 to one worker
_GROUP_BYTES = (
    64 << 10
)  # of pickled tasks in one element: about 1,000 images to check, or one shard to write


class Runner:
    """Runs tasks as Beam pipelines."""

    def __init__(self, name: str, options: list[str], shared: str):
        """Takes a runner's name, its options as command-line flags, and a folder that its workers can read and write."""
        self._name, self._shared, self._stages = name, shared, itertools.count()
        self._flags = [f"--runner={_CLASSES.get(name, name)}", *_DEFAULTS.get(name, []), *options]

    def map(self, function: Callable, tasks: Iterable) -> Iterator:
        """Yields `function(task)` in the order of `tasks`, after the pipeline has ended.

        Raises:
          UserError: the runner failed.
          Exception: the UserError or OSError that a task ended in.
        """
        stage = os.path.join(self._shared, f"stage-{next(self._stages)}")
        files.make_folder(stage)
        count = _save_tasks(tasks, stage)
        logging.getLogger("apache_beam").setLevel(logging.ERROR)
        try:
            options = pipeline_options.PipelineOptions(self._flags)
            with apache_beam.Pipeline(options=options) as pipeline:
                numbers = pipeline | apache_beam.Create(range(count)) | apache_beam.Reshuffle()
                numbers | apache_beam.Map(
                    functools.partial(run_group, function=function, stage=stage)
                )
        except Exception as error:  # each runner has errors of its own
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"--runner={self._name} failed: {first} (see its own log)") from error
        for number in range(count):
            for result in _load(os.path.join(stage, f"{number}.results")):
                if isinstance(result, Exception):
                    raise result
                yield result
        files.remove_folder(stage)


def run_group(number: int, function: Callable, stage: str) -> int:
    """Runs one element's tasks in a worker and saves their results; a user's error ends the group and is its last result."""
    results = []
    with contextlib.suppress(UserError, OSError):
        for task in _load(os.path.join(stage, f"{number}.tasks")):
            try:
                results.append(function(task))
            except (UserError, OSError) as error:
                results.append(error)
                raise
    _save(results, os.path.join(stage, f"{number}.results"))
    return number


def _save_tasks(tasks: Iterable, stage: str) -> int:
    """Saves the tasks in groups; returns the number of groups."""
    group, size, count = [], 0, 0
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
