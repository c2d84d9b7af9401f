"""run.json: what each start of a run computed with, and how it ended.

{"starts": [{"at", "command", "first_step", "python", "versions", "revision", "host", "devices", "replicas",
             "input_workers", "position", "manifest_sha256", "flags", "ended"}]}, the first start first. `ended` is the
summary that `fv.training.watching.summary` prints, null where the process was killed. `position` is where the start
began in the stream of pairs (`fv.training.position`). Of several workers the chief writes, and host, command and devices
are its own; all have as many GPUs, and `replicas` counts those of all.
"""

import dataclasses
import datetime
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata

import tensorflow as tf

import fv
from fv import files, manifest, workdir
from fv import options as fv_options
from fv.training import strategy as strategies
from fv.training.options import TrainOptions
from fv.training.position import Position

_PACKAGES = (
    "tensorflow",
    "tf_keras",
    "tensorflow-addons",
    "numpy",
    "simplejpeg",
    "opencv-python-headless",
)
_GIT_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class Start:
    """One start of a run in a workdir."""

    path: str
    number: int


def begin(
    options: TrainOptions,
    strategy: tf.distribute.Strategy,
    first_step: int,
    position: Position = Position(),  # noqa: B008  frozen
) -> Start:
    """Adds this start to the workdir's run.json; what a user added to the file stays."""
    path = os.path.join(options.workdir, workdir.RUN)
    starts = workdir.starts(options.workdir)
    content = files.load_json(path, not_finite_as_none=True) if files.exists(path) else {}
    files.save_json(
        content | {"starts": [*starts, describe(options, strategy, first_step, position)]}, path
    )
    return Start(path, len(starts))


def end(start: Start, summary: dict) -> None:
    """Notes how that start ended."""
    record = files.load_json(
        start.path, not_finite_as_none=True
    )  # an older fv wrote a loss that was none
    record["starts"][start.number]["ended"] = summary
    files.save_json(record, start.path)


def describe(
    options: TrainOptions, strategy: tf.distribute.Strategy, first_step: int, position: Position
) -> dict:
    """What this process computes with."""
    return {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "first_step": first_step,
        "python": platform.python_version(),
        "versions": {
            "fv": fv.__version__,
            **{name: version for name in _PACKAGES if (version := _version(name))},
        },
        "revision": revision(os.path.dirname(os.path.abspath(fv.__file__))),
        "host": platform.node(),
        "devices": [_device(device) for device in tf.config.list_physical_devices()],
        "replicas": strategy.num_replicas_in_sync,
        "input_workers": strategies.count_input_workers(strategy),
        "position": dataclasses.asdict(position),
        "manifest_sha256": files.sha256(os.path.join(options.tfrecords, manifest.FILE_NAME)),
        "flags": fv_options.to_flagfile(options).splitlines(),
        "ended": None,
    }


def revision(folder: str) -> str | None:
    """The commit that a folder's files are of, with "-dirty" where tracked ones were changed; None outside a repository."""
    if (
        _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None
    ):  # installed inside someone else's repository
        return None
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: str, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _device(device: tf.config.PhysicalDevice) -> str:
    details = tf.config.experimental.get_device_details(device)
    return " ".join(filter(None, [device.device_type, device.name, details.get("device_name", "")]))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
