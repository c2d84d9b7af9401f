"""What made the figures: the model, where its weights come from, the versions, the flags."""

import dataclasses

import tensorflow as tf

import fv
from fv import workdir
from fv.evaluation import training_input
from fv.evaluation.options import EvaluateOptions
from fv.model.model_record import ModelRecord

_KEPT = ("at", "revision", "host", "python", "manifest_sha256")  # of the last start
_NAMED_FLAGS = ("seed", "steps", "teacher", "init_weights")  # shown beside these


def describe(options: EvaluateOptions, record: ModelRecord) -> dict:
    """The `run` of metrics.json: the model, its training and whether that waited for input, the versions, the flags."""
    devices = [device.device_type for device in tf.config.list_physical_devices()]
    return dict(
        workdir=options.workdir,
        fv=fv.__version__,
        tensorflow=tf.__version__,
        devices=", ".join(sorted(set(devices))),
        model=dataclasses.asdict(record.options),
        training=read(options.workdir),
        training_identities=record.identities,
        training_input=training_input.verdict(options.workdir),
        flags={name: value for name, value in vars(options).items() if value is not None},
    )


def read(folder: str) -> dict | None:
    """Reads the training of a workdir; None where it has no run.json, as those of an older fv.

    Args:
      folder: the workdir.

    Returns:
      Of the last start `at` (UTC), `revision` (of fv's repository), `host`, `python` and `manifest_sha256` (of its shards);
      `starts`, how many there were; `seed`, `steps`, `teacher` and `init_weights`, None where they were not given; and all
      `flags`, name → text.
    """
    starts = workdir.starts(folder)
    if not starts:
        return None
    flags = dict(line.removeprefix("--").split("=", 1) for line in starts[-1].get("flags", []))
    kept = {name: starts[-1].get(name) for name in _KEPT}
    return (
        kept
        | {"starts": len(starts)}
        | {name: flags.get(name) for name in _NAMED_FLAGS}
        | {"flags": flags}
    )
