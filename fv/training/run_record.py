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
from importlib import metadata

import tensorflow as tf

import fv
from fv import files, manifest, workdir
from fv import options as fv_options
from fv.errors import UserError
from fv.training import strategy as strategies
from fv.training.options import TrainOptions

_ORDER_FLAGS = ("genuine_only", "images_per_identity")  # beside the seed
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

    Raises:
      UserError: run.json does not describe the start that saved the checkpoint.
    """
    if step == 0:
        return Position(), None
    path = os.path.join(options.workdir, workdir.RUN)
    try:
        starts = reversed(workdir.starts(options.workdir))
        start = next(start for start in starts if start["first_step"] < step)
        before: TrainOptions = fv_options.parse(TrainOptions, start["flags"])
        position = Position(**start["position"])
        changes = _find_order_changes(before, start, options, workers)
    except (StopIteration, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not say with which flags of this fv the steps to {step} were trained: "
            "train into a new --workdir"
        ) from error
    position = position.advance((step - start["first_step"]) * before.global_batch_size)
    if not changes:
        return position, None
    epoch = position.order_epoch + -(-position.order_pairs // epoch_pairs)
    line = f"a new epoch begins at step {step}, in another order of the pairs: {'; '.join(changes)}"
    return Position(position.pairs, 0, epoch), line


def _find_order_changes(
    before: TrainOptions, start: dict, options: TrainOptions, workers: int
) -> list[str]:
    """What makes the order of the pairs in this start differ from the one of `start`."""
    orders = [
        {"seed": each.seed, **{name: getattr(each.input, name) for name in _ORDER_FLAGS}}
        for each in (before, options)
    ]
    changes = [
        f"--{name}={fv_options.to_text(now)}, before {fv_options.to_text(then)}"
        for (name, then), now in zip(orders[0].items(), orders[1].values(), strict=True)
        if then != now
    ]
    if before.input.data_service or options.input.data_service:
        changes.append("a data service keeps no place (--data_service)")
    if start["manifest_sha256"] != _manifest_sha256(options):
        changes.append(f"--tfrecords={options.tfrecords} holds other shards than before")
    if start["input_workers"] != workers:
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
    content = files.load_json(path) if files.exists(path) else {}
    starts.append(_describe_start(options, strategy, first_step, position))
    files.save_json(content | {"starts": starts}, path)
    return len(starts) - 1


def end_run(folder: str, start: int, summary: dict) -> None:
    """Notes in a workdir's run.json how a start, of `begin_run`, ended."""
    path = os.path.join(folder, workdir.RUN)
    record = files.load_json(path)
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
