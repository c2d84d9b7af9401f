"""Where a model comes from: its training run, and whether it was trained on the evaluated people.

Figures on training identities say nothing about strangers.
"""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

import fv
from fv import workdir as workdirs
from fv.errors import UserError
from fv.evaluation import protocols
from fv.evaluation.options import EvaluateOptions
from fv.evaluation.pairs import PairSet
from fv.model.model_record import ModelRecord

_NAMED = 5  # people in a message
_KEPT = ("at", "revision", "host", "python", "manifest_sha256")  # of the last start
_NAMED_FLAGS = ("seed", "steps", "teacher", "init_weights")  # shown beside these


def find_training_identities(
    record: ModelRecord, workdir: str, scored: PairSet, *, allowed: bool, exact: bool = False
) -> dict[str, bool | int]:
    """Looks for training identities among the people of the scored pairs.

    Args:
      record: of the model.
      workdir: its folder, for messages.
      scored: the pairs.
      allowed: whether training identities may be scored.
      exact: whether names that differ only in spelling are different people's.

    Returns:
      `known`: whether the workdir lists its training identities; `people`: the number of people;
      `seen`: how many of them the model was trained on.

    Raises:
      UserError: there are such people or the workdir does not list them, and that is not allowed.
    """
    people = scored.identities()
    if record.identity_hashes is None:
        if not (allowed or not scored.named):
            raise UserError(
                f"{workdir} does not say whom it was trained on (an older fv, or first weights "
                "from an export): train it again, or give --allow_seen_identities to report "
                "without that check"
            )
        return dict(known=False, people=len(people), seen=0)
    seen = record.trained_on(people, exact)
    if seen and not allowed:
        respelled = sorted(set(seen) - set(record.trained_on(people, exact=True)))
        remedy = ""
        if respelled:
            remedy = f", or --nomerge_names if {_shorten(respelled)} only has a name like theirs"
        raise UserError(
            f"{len(seen):,} of the {len(people):,} people in {scored.name} are training identities "
            f"of {workdir} ({_shorten(seen)}): score strangers, or give --allow_seen_identities"
            f"{remedy}"
        )
    return dict(known=scored.named, people=len(people), seen=len(seen))


def note_training_identities(found: dict, scored: PairSet) -> str:
    """The note on what `find_training_identities` found; "" if all people are strangers."""
    if not scored.named:
        return (
            f"{scored.name} does not name its people: they may be among those that the model was "
            "trained on, and there are no intervals."
        )
    if not found["known"]:
        return (
            "The workdir does not say whom the model was trained on: people of these pairs may be "
            "among them."
        )
    if not found["seen"]:
        return ""
    return (
        f"The model was trained on {found['seen']:,} of the {found['people']:,} people in "
        f"{scored.name}: these figures do not hold for strangers."
    )


def note_external_teachers(record: ModelRecord) -> str:
    """The note on teachers from files; "" if there are none."""
    if not record.external_teachers:
        return ""
    files = ", ".join(record.external_teachers)
    return (
        f"The model imitated {files}. The people that this teacher was trained on are not known: "
        "some may be among the people of these pairs."
    )


def note_choosing_pairs(
    record: ModelRecord, scored: PairSet, choosing: PairSet, exact: bool = False
) -> list[str]:
    """Notes on pairs and people that choose the threshold and are scored or trained on."""
    notes = [protocols.note_shared(scored.keys(), choosing.keys())]
    people = choosing.identities()
    both = sorted(scored.identities() & people)
    if both:
        notes.append(
            f"The threshold was chosen on pairs of {len(both):,} people who are scored too "
            f"({_shorten(both)})."
        )
    seen = record.trained_on(people, exact) if record.identity_hashes is not None else []
    if seen:
        notes.append(
            f"The threshold was chosen on {choosing.name}, where {len(seen):,} of {len(people):,} "
            "people are training identities: their images look more alike to the model than "
            "strangers' do, and threshold and probability suffer."
        )
    return notes


def describe_run(options: EvaluateOptions, record: ModelRecord) -> dict:
    """The `run` of metrics.json: model, training run, versions and flags."""
    assert options.workdir is not None
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
        flags=options.given_flags(),
    )


def input_verdict(workdir: str) -> str:
    """Whether the training run waited for input, and the remedy; "" if it does not say.

    The last start that ended after a step says it.
    """
    ended = [start["ended"] for start in workdirs.starts(workdir) if start["ended"]]
    return next(filter(None, (end.get("input_verdict") for end in reversed(ended))), "")


def read_training(workdir: str) -> dict | None:
    """Reads the training run of a workdir; None if an older fv wrote no run.json.

    Returns:
      Of the last start `at` (UTC), `revision` (of fv's repository), `host`, `python` and
      `manifest_sha256` (of its shards); the number of `starts`; `seed`, `steps`, `teacher` and
      `init_weights`, None if not given; and all `flags`, name → text.
    """
    starts = workdirs.starts(workdir)
    if not starts:
        return None
    flags = dict(line.removeprefix("--").split("=", 1) for line in starts[-1].get("flags", []))
    kept = {name: starts[-1].get(name) for name in _KEPT}
    named = {name: flags.get(name) for name in _NAMED_FLAGS}
    return kept | {"starts": len(starts)} | named | {"flags": flags}


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
