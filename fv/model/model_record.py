"""The model record: what a workdir's weights belong to, so that they are never put into another model.

It can say of a name whether the model trained on that person, and lists no name: each is a salted hash of 64 bits. Who has a
name can ask for it; among a million training identities, another name is taken for one of them once in 10^13 cases.
"""

import dataclasses
import hashlib
import os
import sys
from collections.abc import Iterable, Sequence

from fv import files, removed_flags, workdir
from fv import options as fv_options
from fv.conversion import identities as spelling
from fv.errors import UserError
from fv.model.options import ModelOptions
from fv.preprocessing import Preprocessing

_HASH_BYTES = 8
# Removed flags that the loss of a head depended on, with those heads.
_HEADS_OF_REMOVED = {
    "contrastive_margin": ("distance", "all_distances"),
    "triplet_margin": ("triplet_semihard", "triplet_hard"),
    "softmax_margin_steps": ("softmax",),
}
_SPELLED = "\0"  # before a normalised name, so that it is never taken for a name as it is written


@dataclasses.dataclass(frozen=True)
class ModelRecord:
    """What a workdir's weights belong to: the model, and the training identities.

    Attributes:
      options: the model.
      identities: number of training identities.
      identities_sha256: of their names in order.
      identity_hashes: of each name, salted with `identities_sha256`; None where they are not known: in a workdir of an fv
        that did not keep them, or with first weights from one or from an export.
      spelling_hashes: of the names after `identities.normalise`, where that differs, so that a person whose name is
        written in another way is no stranger; salted likewise. Empty in a workdir of an fv that did not keep them.
      earlier: the training identities of runs whose weights this one began with or imitated, of each (salt, hashes).
      preprocessing: what was done to the training images before they were stored; None where that is not known: in a
        workdir of an fv that did not keep it, or of shards that do not say.
    """

    options: ModelOptions
    identities: int
    identities_sha256: str
    identity_hashes: tuple[str, ...] | None = None
    earlier: tuple[tuple[str, tuple[str, ...]], ...] = ()
    spelling_hashes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None

    def trained_on(self, names: Iterable[str], exact: bool = False) -> list[str]:
        """Those of the names that are training identities, or were of weights or a teacher that it began with, sorted.

        Args:
          names: of people.
          exact: whether names that differ only in case, blanks, '_', '-' or Unicode form are different people's.

        Raises:
          UserError: the record does not say.
        """
        own = (self.identities_sha256, (*self._own(), *self.spelling_hashes))
        lists = [(salt, frozenset(hashes)) for salt, hashes in (own, *self.earlier)]

        def is_known(name: str) -> bool:
            normal = spelling.normalise(name)
            forms = {name} if exact else {name, normal, _SPELLED + normal}
            return any(_hash(form, salt) in hashes for form in forms for salt, hashes in lists)

        return sorted(filter(is_known, set(names)))

    def lacking(self, names: Iterable[str]) -> int:
        """How many training identities are none of the names; those of earlier runs are not counted.

        Raises:
          UserError: the record does not say.
        """
        return len(set(self._own()) - {_hash(name, self.identities_sha256) for name in names})

    def _own(self) -> tuple[str, ...]:
        if self.identity_hashes is None:
            raise UserError(f"{workdir.MODEL} does not say whom the model was trained on")
        return self.identity_hashes


def describe(
    options: ModelOptions, identities: Sequence[str], preprocessing: Preprocessing | None = None
) -> ModelRecord:
    """The record of a model that is trained on these identities, on images that were so stored."""
    digest = hashlib.sha256("\n".join(identities).encode()).hexdigest()
    hashes = tuple(_hash(name, digest) for name in identities)
    spelled = sorted({spelling.normalise(name) for name in identities} - set(identities))
    return ModelRecord(
        options,
        len(identities),
        digest,
        hashes,
        spelling_hashes=tuple(_hash(_SPELLED + name, digest) for name in spelled),
        preprocessing=preprocessing,
    )


def inherit(record: ModelRecord, parent: ModelRecord | None) -> ModelRecord:
    """The record of a model that begins with the parent's weights, or imitates it; None for weights of a backbone alone.

    Where its own shards do not say what was done to the images, it is what was done to the parent's.
    """
    if parent is None:
        return record
    record = dataclasses.replace(record, preprocessing=record.preprocessing or parent.preprocessing)
    if parent.identity_hashes is None:
        return dataclasses.replace(record, identity_hashes=None)
    met = (
        (parent.identities_sha256, (*parent.identity_hashes, *parent.spelling_hashes)),
        *parent.earlier,
    )
    return dataclasses.replace(
        record, earlier=tuple(one for one in met if one[0] != record.identities_sha256)
    )


def kept(record: ModelRecord, folder: str) -> ModelRecord:
    """The record of a run that goes on in a workdir: the one that is there, if there is one.

    What it does not know of the preprocessing, `record` adds: the run goes on with images of that kind.
    """
    if not files.exists(os.path.join(folder, workdir.MODEL)):
        return record
    there = load(folder)
    return dataclasses.replace(there, preprocessing=there.preprocessing or record.preprocessing)


def save(record: ModelRecord, folder: str) -> None:
    """Writes model.json; whom the model that is there has met, and that it cannot tell, is not forgotten.

    What a user added to the file stays.
    """
    path, added = os.path.join(folder, workdir.MODEL), {}
    if files.exists(path):
        added = files.load_json(path)
        there = load(folder)
        hashes = None if there.identity_hashes is None else record.identity_hashes
        earlier = tuple(dict.fromkeys((*there.earlier, *record.earlier)))
        record = dataclasses.replace(record, identity_hashes=hashes, earlier=earlier)
    fields = dataclasses.asdict(record)
    fields["preprocessing"] = record.preprocessing and record.preprocessing.to_json()
    files.save_json(added | fields, path)


def load(folder: str) -> ModelRecord:
    """Reads model.json.

    Raises:
      UserError: the folder is no workdir of fv.train, or of another version of fv.
    """
    path = os.path.join(folder, workdir.MODEL)
    if not files.exists(path):
        raise UserError(f"{folder} holds no {workdir.MODEL}: give a --workdir that fv.train wrote")
    try:
        fields = files.load_json(path)
        hashes = fields.get("identity_hashes")
        held = (
            removed_flags.from_record(ModelOptions, fields["options"]),
            fields["identities"],
            fields["identities_sha256"],
        )
        earlier = tuple((salt, tuple(met)) for salt, met in fields.get("earlier", ()))
        spelled = tuple(fields.get("spelling_hashes", ()))
        preprocessing = Preprocessing.from_json(fields.get("preprocessing"), path)
        return ModelRecord(
            *held, None if hashes is None else tuple(hashes), earlier, spelled, preprocessing
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not describe a model of this fv ({error}): train into a new --workdir"
        ) from error


def check_same(record: ModelRecord, folder: str) -> None:
    """Checks that the workdir is new, or holds this very model.

    Raises:
      UserError: it holds another model, or one trained on other identities or on other parts of images.
    """
    if not files.exists(os.path.join(folder, workdir.MODEL)):
        return
    there = load(folder)
    wanted, held = dataclasses.asdict(record.options), dataclasses.asdict(there.options)
    changed = [
        _differ(name, held[name], value) for name, value in wanted.items() if held[name] != value
    ]
    if changed:
        raise UserError(
            f"{folder} holds another model ({'; '.join(changed)}): give its flags or another --workdir"
        )
    if there.identities_sha256 != record.identities_sha256:
        data = f"{there.identities:,} training identities, not these {record.identities:,}"
        before = workdir.training_flag(folder, "tfrecords")
        give = "give its --tfrecords" + (f" (it was {before})" if before else "")
        raise UserError(f"{folder} was trained on other data ({data}): {give} or another --workdir")
    check_images(
        there,
        folder,
        record.preprocessing,
        "these shards",
        "give its --tfrecords or another --workdir",
    )


def require_same_loss(folder: str) -> None:
    """Checks that this version can train on in a workdir with the loss that the model began with.

    Raises:
      UserError: an earlier version trained it with a value that is fixed now.
    """
    path = os.path.join(folder, workdir.MODEL)
    fields = files.load_json(path)["options"] if files.exists(path) else {}
    heads = {fields.get("head"), fields.get("second_head")}
    for name, (value, fixed) in removed_flags.find_lost_values(fields).items():
        if heads.intersection(_HEADS_OF_REMOVED.get(name, ())):
            raise UserError(
                f"{folder} was trained with {name}={value}, which is now always "
                f"{fixed or 'off'}: evaluate or export it, or train in another --workdir"
            )


def _differ(name: str, held: object, value: object) -> str:
    """The flag that a workdir's model has, as it can be given."""
    if held is None:
        return f"without --{name}, not {value}"
    return f"--{name}={fv_options.to_text(held)}, not {fv_options.to_text(value)}"


def check_images(
    record: ModelRecord, folder: str, held: Preprocessing | None, source: str, advice: str
) -> None:
    """Checks that stored images are what a model was trained on, as far as both say; a likely misfit gets a warning.

    Args:
      record: of the model.
      folder: where the model is, for the message.
      held: what was done to the images.
      source: where they are.
      advice: what to do where they do not fit.

    Raises:
      UserError: they do not fit (`Preprocessing.fits`).
    """
    wanted = record.preprocessing
    if wanted is None:
        return
    trained = f"{folder} was trained on images stored with {wanted}"
    if held is None:
        if wanted.cuts:
            print(
                f"fv: warning: {trained}; how those of {source} were stored is not known",
                file=sys.stderr,
            )
    elif not held.fits(wanted, record.options.image_size, record.options.crop_fraction):
        raise UserError(f"{trained}, but those of {source} are stored with {held}: {advice}")
    elif not held.same_boxes(wanted):
        print(
            f"fv: warning: the boxes of {source} are of another CSV than those of {folder}: they have to frame faces alike",
            file=sys.stderr,
        )


def _hash(name: str, salt: str) -> str:
    return hashlib.blake2b(
        name.encode(errors="surrogateescape"),
        digest_size=_HASH_BYTES,
        salt=bytes.fromhex(salt)[:16],
    ).hexdigest()
