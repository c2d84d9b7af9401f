"""What made the figures: the model, where its weights come from, the versions, the flags."""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

import fv
from fv import workdir
from fv.errors import UserError
from fv.evaluation.options import EvaluateOptions
from fv.evaluation.pairs import PairSet
from fv.model.model_record import ModelRecord

# Whether the people of an evaluation are strangers to the model: figures on others say nothing of
# strangers.

_NAMED = 5  # people that a message names


def find_training_identities(
    record: ModelRecord, workdir: str, scored: PairSet, *, allowed: bool, exact: bool = False
) -> dict[str, bool | int | list[str]]:
    """Looks for training identities among the people of the pairs.

    Args:
      record: of the model.
      workdir: where it is, for messages.
      scored: the pairs that figures are to be of.
      allowed: report on them all the same.
      exact: whether names that differ only in how they are written are different people's.

    Returns:
      `known`: whether the workdir can tell; `people`, how many there are; `seen`, how many of them the model trained on.

    Raises:
      UserError: there are such people, or the workdir cannot tell, and that is not allowed.
    """
    people = scored.names()
    if record.identity_hashes is None:
        if not allowed:
            lacking = f"{workdir} does not say whom it was trained on (an older fv, or first weights from an export)"
            raise UserError(
                f"{lacking}: train it again, or give --allow_seen_identities to report without that check"
            )
        return dict(known=False, people=len(people), seen=0)
    seen = record.trained_on(people, exact)
    if seen and not allowed:
        found = f"{len(seen):,} of the {len(people):,} people in {scored.name} are training identities of {workdir}"
        spelled = sorted(set(seen) - set(record.trained_on(people, exact=True)))
        remedy = (
            f", or --nomerge_names if {_shorten(spelled)} was only written like one of them"
            if spelled
            else ""
        )
        raise UserError(
            f"{found} ({_shorten(seen)}): score strangers, or give --allow_seen_identities{remedy}"
        )
    return dict(known=True, people=len(people), seen=len(seen))


def note_training_identities(found: dict, scored: PairSet) -> str:
    """What a report has to say about it; empty where all are strangers."""
    if not found["known"]:
        return "The workdir does not say whom the model was trained on: people of these pairs may be among them."
    if found["seen"]:
        trained = f"{found['seen']:,} of the {found['people']:,} people in {scored.name}"
        return f"The model was trained on {trained}: these figures do not hold for strangers."
    return ""


def note_shared_people(scored: PairSet, choosing: PairSet) -> str:
    """What a report has to say where the threshold was chosen on people who are scored; empty where it was not."""
    both = sorted(scored.names() & choosing.names())
    if not both:
        return ""
    return f"The threshold was chosen on pairs of {len(both):,} people who are scored too ({_shorten(both)})."


def note_threshold_people(record: ModelRecord, choosing: PairSet, exact: bool = False) -> str:
    """What a report has to say where the threshold was chosen on training identities; empty where it was not."""
    people = choosing.names()
    seen = record.trained_on(people, exact) if record.identity_hashes is not None else []
    if not seen:
        return ""
    chosen = f"The threshold was chosen on {choosing.name}, where {len(seen):,} of {len(people):,} people are training identities"
    return f"{chosen}: their images look more alike to the model than strangers' do, and threshold and probability suffer."


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


# What a training run said of its input, from its workdir's run.json.


def input_verdict(folder: str) -> str:
    """Whether the run was input-bound and what to change, by its last start that ended and did a step; "" where none did."""
    said = [
        start["ended"].get("input_verdict") for start in workdir.starts(folder) if start["ended"]
    ]
    return next(filter(None, reversed(said)), "")


_KEPT = ("at", "revision", "host", "python", "manifest_sha256")  # of the last start
_NAMED_FLAGS = ("seed", "steps", "teacher", "init_weights")  # shown beside these


def describe_model_run(options: EvaluateOptions, record: ModelRecord) -> dict:
    """The `run` of metrics.json: the model, its training and whether that waited for input, the versions, the flags."""
    devices = [device.device_type for device in tf.config.list_physical_devices()]
    return dict(
        workdir=options.workdir,
        fv=fv.__version__,
        tensorflow=tf.__version__,
        devices=", ".join(sorted(set(devices))),
        model=dataclasses.asdict(record.options),
        training=read_training(options.workdir),
        training_identities=record.identities,
        training_input=input_verdict(options.workdir),
        flags={name: value for name, value in vars(options).items() if value is not None},
    )


def read_training(folder: str) -> dict | None:
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
