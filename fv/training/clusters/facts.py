"""What has to be the same for all workers of a run."""

from typing import Any

from fv import options as fv_options

_OWN = ("--worker_index", "--tfrecords")  # a machine may have a copy of the shards of its own


def of_run(options: Any) -> dict[str, str]:
    """The flags of a run by name, but for those that are a worker's own.

    Args:
      options: an options dataclass (see `fv.options`).
    """
    flags = (line.partition("=") for line in fv_options.to_flagfile(options).splitlines())
    return {name: value for name, _, value in flags if name not in _OWN}
