"""run.json: what each start of a run computed with, how it ended, and where it began in the pairs.

    {"starts": [{"at", "command", "first_step", "python", "versions", "revision", "host",
                 "devices", "replicas", "input_workers", "position", "manifest_sha256", "flags",
                 "ended"}]}

`ended` is the summary that the run prints, null where the process was killed. The chief writes the
file: host, command and devices are its own, `replicas` are those of all workers.

A run continues with the very next pair, also with another batch size: the record says how many
pairs came before any checkpoint. A start that changes the order of the pairs (its seed, its shards,
the number of input workers, …) begins a new epoch, because a place in one order means nothing in
another.
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

_ORDER_FLAGS = ("seed", "genuine_only", "images_per_identity")
_REMOVED_ORDER_FLAGS = {
    "shuffle_buffer": "2048",
    "synthetic_input": "false",
}  # and their values now
_MIXED = "hard_tfrecords"  # a flag of earlier versions: a second data set mixed into the batches
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
class Position:
    """A place in the stream of pairs; the default is its beginning.

    Attributes:
      pairs: trained on so far, over all workers.
      order_pairs: those of them in the present order.
      order_epoch: number of its first epoch. Later orders of a run have higher numbers, so that no
        epoch's order comes twice.
    """

    pairs: int = 0
    order_pairs: int = 0
    order_epoch: int = 0

    def advance(self, pairs: int) -> "Position":
        """The place so many pairs later."""
        return Position(self.pairs + pairs, self.order_pairs + pairs, self.order_epoch)


def find_position(
    options: TrainOptions, step: int, workers: int, epoch_pairs: int
) -> tuple[Position, str | None]:
    """Finds where a run continues in the stream of pairs.

    Args:
      options: of this start.
      step: steps before the checkpoint, 0 for none.
      workers: number of input workers of this start.
      epoch_pairs: pairs in an epoch.

    Returns:
      The position after the checkpoint, and a line for the user where a new epoch begins there.
    """
    if step == 0:
        return Position(), None
    start = _find_start_before(options, step)
    flags = _flag_values(start["flags"])
    batch, first_step = int(flags["global_batch_size"]), start["first_step"]
    noted = start.get("position")
    if noted:
        fields = [field.name for field in dataclasses.fields(Position)]
        position = Position(**{name: noted[name] for name in fields})
    else:  # an earlier fv noted none, and had one batch size and order
        position = Position().advance(first_step * batch)
    position = position.advance((step - first_step) * batch)
    changes = _find_order_changes(flags, start, options, workers)
    if not changes:
        return position, None
    epoch = position.order_epoch + -(-position.order_pairs // epoch_pairs)
    line = f"a new epoch begins at step {step}, in another order of the pairs: {'; '.join(changes)}"
    return Position(position.pairs, 0, epoch), line


def _find_start_before(options: TrainOptions, step: int) -> dict:
    """The start in run.json that trained up to `step`; an earlier fv kept only the last flags."""
    for start in reversed(workdir.starts(options.workdir)):
        if start["first_step"] < step:
            return start
    path = os.path.join(options.workdir, workdir.FLAGS)
    if files.exists(path):
        text = files.read_bytes(path).decode()
    else:
        text = fv_options.to_flagfile(options)
    return {"first_step": 0, "flags": text.splitlines()}


def _flag_values(lines: list[str]) -> dict[str, str]:
    """Values by name; flags that an earlier fv did not have get their defaults."""
    defaults = fv_options.to_flagfile(TrainOptions(tfrecords="", workdir="")).splitlines()
    pairs = (line.removeprefix("--").partition("=") for line in (*defaults, *lines))
    return {name: value for name, _, value in pairs}


def _find_order_changes(
    before: Mapping[str, str], start: dict, options: TrainOptions, workers: int
) -> list[str]:
    """What makes the order of the pairs in this start differ from the one of `start`."""
    now = _flag_values(fv_options.to_flagfile(options).splitlines())
    changes = [
        f"--{name}={now[name]}, before {before[name]}"
        for name in _ORDER_FLAGS
        if before[name] != now[name]
    ]
    changes += [
        f"before --{name}={before[name]}, which is {value} now"
        for name, value in _REMOVED_ORDER_FLAGS.items()
        if before.get(name, value) != value
    ]
    if _MIXED in before:
        changes.append(f"--{_MIXED}={before[_MIXED]} is no longer mixed in")
    if now["data_service"] or before["data_service"]:
        changes.append("a data service keeps no place (--data_service)")
    shards = _manifest_sha256(options)
    if start.get("manifest_sha256", shards) != shards:
        changes.append(f"--tfrecords={options.tfrecords} holds other shards than before")
    if start.get("input_workers", workers) != workers:
        changes.append(f"{workers} input workers, before {start['input_workers']}")
    return changes


def begin_run(
    options: TrainOptions,
    strategy: tf.distribute.Strategy,
    first_step: int,
    position: Position = Position(),
) -> int:
    """Adds this start to the workdir's run.json; what a user added to the file stays.

    Returns:
      The place of the start in the record.
    """
    path = os.path.join(options.workdir, workdir.RUN)
    starts = workdir.starts(options.workdir)
    content = files.load_json(path, not_finite_as_none=True) if files.exists(path) else {}
    starts.append(_describe_start(options, strategy, first_step, position))
    files.save_json(content | {"starts": starts}, path)
    return len(starts) - 1


def end_run(folder: str, start: int, summary: dict) -> None:
    """Notes in a workdir's run.json how a start, of `begin_run`, ended."""
    path = os.path.join(folder, workdir.RUN)
    # An earlier fv wrote losses that were no numbers, as which JSON has none.
    record = files.load_json(path, not_finite_as_none=True)
    record["starts"][start]["ended"] = summary
    files.save_json(record, path)


def _describe_start(
    options: TrainOptions, strategy: tf.distribute.Strategy, first_step: int, position: Position
) -> dict:
    versions = {name: _version(name) for name in _PACKAGES}
    return {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "first_step": first_step,
        "python": platform.python_version(),
        "versions": {
            "fv": fv.__version__,
            **{name: version for name, version in versions.items() if version},
        },
        "revision": git_revision(os.path.dirname(os.path.abspath(fv.__file__))),
        "host": platform.node(),
        "devices": [_device_name(device) for device in tf.config.list_physical_devices()],
        "replicas": strategy.num_replicas_in_sync,
        "input_workers": strategies.count_input_workers(strategy),
        "position": dataclasses.asdict(position),
        "manifest_sha256": _manifest_sha256(options),
        "flags": fv_options.to_flagfile(options).splitlines(),
        "ended": None,
    }


def git_revision(folder: str) -> str | None:
    """The commit of a package's folder, with "-dirty" where tracked files were changed.

    None outside of a repository, and in one that does not track the package: it is only installed
    there.
    """
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: str, *arguments: str) -> str | None:
    command = ["git", "-C", folder, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _manifest_sha256(options: TrainOptions) -> str:
    return files.sha256(os.path.join(options.tfrecords, manifest.FILE_NAME))


def _device_name(device: tf.config.PhysicalDevice) -> str:
    details = tf.config.experimental.get_device_details(device)
    return " ".join(filter(None, [device.device_type, device.name, details.get("device_name", "")]))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
