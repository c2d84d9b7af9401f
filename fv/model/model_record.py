"""The model record, model.json: what rebuilds a workdir's model, and whom it was trained on.

The record contains no names. It can tell of a given name whether it was a training identity, from a
salted hash of 64 bits. With a million training identities, another name is mistaken for one of them
with probability 10^−13.
"""

import dataclasses
import hashlib
import os
import sys
from collections.abc import Iterable, Sequence

from fv import files, workdir
from fv import options as fv_options
from fv.conversion.identities import normalise
from fv.errors import UserError
from fv.model.options import ModelOptions
from fv.preprocessing import Preprocessing

_HASH_BYTES = 8
_AS_THEY_ARE = Preprocessing()
_SPELLED = "\0"  # before a normalised name, so that its hash differs from that of a name as written


@dataclasses.dataclass(frozen=True)
class ModelRecord:
    """What a workdir's weights belong to: the model and its training identities.

    Attributes:
      options: the model.
      identities: number of training identities.
      identities_sha256: of their names in order.
      identity_hashes: of each name, salted with `identities_sha256`. None if unknown, as with first
        weights from an export.
      earlier: training identities of the runs whose weights this run began with or imitated: (salt,
        hashes) of each run.
      spelling_hashes: salted hashes of the normalised names that differ from the names, so that
        another spelling of a name is recognised.
      preprocessing: of the training images, before they were stored.
      external_teachers: files that this run or an earlier one imitated. The people that these
        were trained on are not known.
    """

    options: ModelOptions
    identities: int
    identities_sha256: str
    identity_hashes: tuple[str, ...] | None = None
    earlier: tuple[tuple[str, tuple[str, ...]], ...] = ()
    spelling_hashes: tuple[str, ...] = ()
    preprocessing: Preprocessing = Preprocessing()
    external_teachers: tuple[str, ...] = ()

    def trained_on(self, names: Iterable[str], exact: bool = False) -> list[str]:
        """Finds the names of people whom this run or an earlier one trained on, sorted.

        Args:
          names: of people.
          exact: whether names that differ only in case, blanks, '_', '-' or Unicode form are
            different people.

        Raises:
          UserError: the record does not say.
        """
        own = (self.identities_sha256, (*self._own_hashes(), *self.spelling_hashes))
        runs = [(salt, frozenset(hashes)) for salt, hashes in (own, *self.earlier)]

        def is_known(name: str) -> bool:
            normal = normalise(name)
            forms = {name} if exact else {name, normal, _SPELLED + normal}
            return any(_hash(form, salt) in hashes for form in forms for salt, hashes in runs)

        return sorted(filter(is_known, set(names)))

    def count_missing(self, names: Iterable[str]) -> int:
        """Counts this run's training identities that are not among the names.

        Raises:
          UserError: the record does not say.
        """
        return len(
            set(self._own_hashes()) - {_hash(name, self.identities_sha256) for name in names}
        )

    def _own_hashes(self) -> tuple[str, ...]:
        if self.identity_hashes is None:
            raise UserError(f"{workdir.MODEL} does not say whom the model was trained on")
        return self.identity_hashes


def describe(
    options: ModelOptions, identities: Sequence[str], preprocessing: Preprocessing = _AS_THEY_ARE
) -> ModelRecord:
    """Makes the record of a new model from the names of its training identities."""
    digest = hashlib.sha256("\n".join(identities).encode()).hexdigest()
    spelled = sorted({normalise(name) for name in identities} - set(identities))
    return ModelRecord(
        options,
        len(identities),
        digest,
        identity_hashes=tuple(_hash(name, digest) for name in identities),
        spelling_hashes=tuple(_hash(_SPELLED + name, digest) for name in spelled),
        preprocessing=preprocessing,
    )


def inherit(record: ModelRecord, parent: ModelRecord | None) -> ModelRecord:
    """Adds to a record what its model inherits from one whose weights it begins with or imitates.

    Args:
      record: of the new model.
      parent: of the other one; None for weights of a backbone alone.
    """
    if parent is None:
        return record
    record = dataclasses.replace(
        record, external_teachers=(*record.external_teachers, *parent.external_teachers)
    )
    if parent.identity_hashes is None:
        return dataclasses.replace(record, identity_hashes=None)
    hashes = (*parent.identity_hashes, *parent.spelling_hashes)
    runs = ((parent.identities_sha256, hashes), *parent.earlier)
    return dataclasses.replace(
        record, earlier=tuple(run for run in runs if run[0] != record.identities_sha256)
    )


def resume(record: ModelRecord, folder: str) -> ModelRecord:
    """Returns the record of a workdir in which a run continues; `record` for a new workdir."""
    return load(folder) if files.exists(os.path.join(folder, workdir.MODEL)) else record


def save(record: ModelRecord, folder: str) -> None:
    """Writes model.json.

    What the existing file says of earlier runs stays, even that it does not know its identities.
    Keys that a user added stay too.
    """
    path, existing = os.path.join(folder, workdir.MODEL), {}
    if files.exists(path):
        existing = files.load_json(path)
        saved = load(folder)
        hashes = None if saved.identity_hashes is None else record.identity_hashes
        earlier = tuple(dict.fromkeys((*saved.earlier, *record.earlier)))
        external = tuple(dict.fromkeys((*saved.external_teachers, *record.external_teachers)))
        record = dataclasses.replace(
            record, identity_hashes=hashes, earlier=earlier, external_teachers=external
        )
    fields = dataclasses.asdict(record)
    fields["preprocessing"] = record.preprocessing.to_json()
    files.save_json(existing | fields, path)


def load(folder: str) -> ModelRecord:
    """Reads model.json.

    Raises:
      UserError: the folder is no workdir of fv.train, or one of another version of fv.
    """
    path = os.path.join(folder, workdir.MODEL)
    if not files.exists(path):
        raise UserError(f"{folder} holds no {workdir.MODEL}: give a --workdir that fv.train wrote")
    try:
        fields = files.load_json(path)
        hashes = fields["identity_hashes"]
        return ModelRecord(
            options=fv_options.from_record(ModelOptions, fields["options"]),
            identities=fields["identities"],
            identities_sha256=fields["identities_sha256"],
            identity_hashes=None if hashes is None else tuple(hashes),
            earlier=tuple((salt, tuple(known)) for salt, known in fields["earlier"]),
            spelling_hashes=tuple(fields["spelling_hashes"]),
            preprocessing=Preprocessing.from_json(fields["preprocessing"], path),
            external_teachers=tuple(fields["external_teachers"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not describe a model of this fv ({error}): train into a new --workdir"
        ) from error


def check_same(record: ModelRecord, folder: str) -> None:
    """Checks that a workdir is new, or contains the model of the record.

    Raises:
      UserError: it contains another model, or one trained on other identities or other crops.
    """
    if not files.exists(os.path.join(folder, workdir.MODEL)):
        return
    saved = load(folder)
    wanted, held = dataclasses.asdict(record.options), dataclasses.asdict(saved.options)
    changed = [
        _describe_change(name, held[name], value)
        for name, value in wanted.items()
        if held[name] != value
    ]
    if changed:
        other = f"{folder} holds another model ({'; '.join(changed)})"
        raise UserError(f"{other}: give its flags or another --workdir")
    if saved.identities_sha256 != record.identities_sha256:
        data = f"{saved.identities:,} training identities, not these {record.identities:,}"
        before = workdir.training_flag(folder, "tfrecords")
        give = "give its --tfrecords" + (f" (it was {before})" if before else "")
        raise UserError(f"{folder} was trained on other data ({data}): {give} or another --workdir")
    advice = "give its --tfrecords or another --workdir"
    check_images(saved, folder, record.preprocessing, "these shards", advice)


def check_images(
    record: ModelRecord, folder: str, held: Preprocessing, source: str, advice: str
) -> None:
    """Checks that images were stored like those that a model was trained on.

    Prints a warning if boxes come from another file, or faces were aligned otherwise.

    Args:
      record: of the model.
      folder: where the model is, for the message.
      held: what was done to the images before they were stored.
      source: where they are, for the message.
      advice: what to do if they do not fit.

    Raises:
      UserError: they do not fit (`Preprocessing.fits`).
    """
    wanted = record.preprocessing
    trained = f"{folder} was trained on images stored with {wanted}"
    warning = None
    if not held.fits(wanted, record.options.image_size, record.options.crop_fraction):
        raise UserError(f"{trained}, but those of {source} are stored with {held}: {advice}")
    if held.boxes != wanted.boxes:
        boxes = f"the boxes of {source} are of another CSV than those of {folder}"
        warning = f"{boxes}: they have to frame faces alike"
    elif held.alignment != wanted.alignment:
        warning = f"{trained}; the faces of {source} have {held.alignment}"
    if warning:
        print(f"fv: warning: {warning}", file=sys.stderr)


def _describe_change(name: str, held: object, wanted: object) -> str:
    """The flag of the workdir's model, in the form in which it can be given."""
    if held is None:
        return f"without --{name}, not {wanted}"
    return f"--{name}={fv_options.to_text(held)}, not {fv_options.to_text(wanted)}"


def _hash(name: str, salt: str) -> str:
    return hashlib.blake2b(
        name.encode(errors="surrogateescape"),
        digest_size=_HASH_BYTES,
        salt=bytes.fromhex(salt)[:16],
    ).hexdigest()
