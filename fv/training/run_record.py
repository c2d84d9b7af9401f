"""Where a run goes on in its stream of pairs, counted in pairs whatever the batch size of each start was.

run.json keeps the flags and the first step of every start, and so the number of pairs before any checkpoint. A start that
changes nothing but the batch size goes on with the very next pair. A start that changes the order itself (its seed, its
shards, the number of input workers, …) begins a new epoch, because a place in one order says nothing about another.
"""

import dataclasses
import datetime
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata

import tensorflow as tf

import fv
from fv import files, manifest, workdir
from fv import options as fv_options
from fv.training import strategy as strategies
from fv.training.options import TrainOptions

_OF_THE_ORDER = ("seed", "genuine_only", "images_per_identity")
_ONCE_OF_THE_ORDER = {
    "shuffle_buffer": "2048",
    "synthetic_input": "false",
}  # removed flags, and what they are now
_MIXED = "hard_tfrecords"  # a flag of earlier versions: a second data set mixed into the batches


@dataclasses.dataclass(frozen=True)
class Position:
    """A place in the stream of pairs; the default is its beginning.

    Attributes:
      pairs: trained on so far, over all workers.
      order_pairs: those of them in the present order.
      order_epoch: number of its first epoch; later orders of a run have higher ones, so that none is shown again.
    """

    pairs: int = 0
    order_pairs: int = 0
    order_epoch: int = 0

    def advance(self, pairs: int) -> "Position":
        """The place so many pairs later."""
        return dataclasses.replace(
            self, pairs=self.pairs + pairs, order_pairs=self.order_pairs + pairs
        )


def find_position(
    options: TrainOptions, step: int, workers: int, epoch_pairs: int
) -> tuple[Position, str | None]:
    """The position behind the checkpoint of a workdir, and a line for the user where a new epoch begins there.

    Args:
      options: of this start.
      step: steps before the checkpoint, 0 for none.
      workers: number of input workers of this start.
      epoch_pairs: pairs in an epoch.
    """
    if step == 0:
        return Position(), None
    start = _start_behind(options, step)
    flags = _flags(start["flags"])
    batch, first = int(flags["global_batch_size"]), start["first_step"]
    here = _place(start, first * batch).advance((step - first) * batch)
    changes = _changes(flags, start, options, workers)
    if not changes:
        return here, None
    epoch = here.order_epoch + -(-here.order_pairs // epoch_pairs)
    line = f"a new epoch begins at step {step}, in another order of the pairs: {'; '.join(changes)}"
    return Position(here.pairs, 0, epoch), line


def _place(start: dict, pairs: int) -> Position:
    """Where a start of run.json began; behind so many pairs of one order if its version of fv noted no place."""
    if "position" not in start:
        return Position().advance(pairs)
    return Position(
        **{field.name: start["position"][field.name] for field in dataclasses.fields(Position)}
    )


def _start_behind(options: TrainOptions, step: int) -> dict:
    """The start in run.json that trained up to `step`; a workdir of an older fv has the flags of its last start alone."""
    for start in reversed(workdir.starts(options.workdir)):
        if start["first_step"] < step:
            return start
    path = os.path.join(options.workdir, workdir.FLAGS)
    text = (
        files.read_bytes(path).decode() if files.exists(path) else fv_options.to_flagfile(options)
    )
    return {"first_step": 0, "flags": text.splitlines()}


def _flags(lines: list[str]) -> dict[str, str]:
    """Values by name; what an older fv did not have was as its default is."""
    default = fv_options.to_flagfile(TrainOptions(tfrecords="", workdir="")).splitlines()
    pairs = (line.removeprefix("--").partition("=") for line in (*default, *lines))
    return {name: value for name, _, value in pairs}


def _changes(
    before: Mapping[str, str], start: dict, options: TrainOptions, workers: int
) -> list[str]:
    """What makes the order of this start another one than before."""
    now = _flags(fv_options.to_flagfile(options).splitlines())
    changes = [
        f"--{name}={now[name]}, before {before[name]}"
        for name in _OF_THE_ORDER
        if before[name] != now[name]
    ]
    changes += [
        f"before --{name}={before[name]}, which is {value} now"
        for name, value in _ONCE_OF_THE_ORDER.items()
        if before.get(name, value) != value
    ]
    if _MIXED in before:
        changes.append(f"--{_MIXED}={before[_MIXED]} is no longer mixed in")
    if now["data_service"] or before["data_service"]:
        changes.append("a data service keeps no place (--data_service)")
    shards = files.sha256(os.path.join(options.tfrecords, manifest.FILE_NAME))
    if start.get("manifest_sha256", shards) != shards:
        changes.append(f"--tfrecords={options.tfrecords} holds other shards than before")
    if start.get("input_workers", workers) != workers:
        changes.append(f"{workers} input workers, before {start['input_workers']}")
    return changes


# run.json: what each start of a run computed with, and how it ended.
#
# {"starts": [{"at", "command", "first_step", "python", "versions", "revision", "host", "devices",
# "replicas",
#              "input_workers", "position", "manifest_sha256", "flags", "ended"}]}, the first
# start first. `ended` is the
# summary that `fv.training.run` prints, null where the process was killed. `position` is where
# the start
# began in the stream of pairs (`fv.training.run_record`). Of several workers the chief writes,
# and host, command and devices
# are its own; all have as many GPUs, and `replicas` counts those of all.

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


def begin_run(
    options: TrainOptions,
    strategy: tf.distribute.Strategy,
    first_step: int,
    position: Position = Position(),
) -> Start:
    """Adds this start to the workdir's run.json; what a user added to the file stays."""
    path = os.path.join(options.workdir, workdir.RUN)
    starts = workdir.starts(options.workdir)
    content = files.load_json(path, not_finite_as_none=True) if files.exists(path) else {}
    files.save_json(
        content | {"starts": [*starts, describe_run(options, strategy, first_step, position)]}, path
    )
    return Start(path, len(starts))


def end_run(start: Start, summary: dict) -> None:
    """Notes how that start ended."""
    record = files.load_json(
        start.path, not_finite_as_none=True
    )  # an older fv wrote a loss that was none
    record["starts"][start.number]["ended"] = summary
    files.save_json(record, start.path)


def describe_run(
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
        "revision": git_revision(os.path.dirname(os.path.abspath(fv.__file__))),
        "host": platform.node(),
        "devices": [_device(device) for device in tf.config.list_physical_devices()],
        "replicas": strategy.num_replicas_in_sync,
        "input_workers": strategies.count_input_workers(strategy),
        "position": dataclasses.asdict(position),
        "manifest_sha256": files.sha256(os.path.join(options.tfrecords, manifest.FILE_NAME)),
        "flags": fv_options.to_flagfile(options).splitlines(),
        "ended": None,
    }


def git_revision(folder: str) -> str | None:
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
