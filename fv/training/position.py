"""Where a run goes on in its stream of pairs, counted in pairs whatever the batch size of each start was.

run.json keeps the flags and the first step of every start, and so the number of pairs before any checkpoint. A start that
changes nothing but the batch size goes on with the very next pair. A start that changes the order itself (its seed, its
shards, the number of input workers, …) begins a new epoch, because a place in one order says nothing about another.
"""

import dataclasses
import os
from collections.abc import Mapping

from fv import files, manifest, workdir
from fv import options as fv_options
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


def find(
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
