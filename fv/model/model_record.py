"""The model record: what a workdir's weights belong to, so that they are never put into another model.

It can say of a name whether the model trained on that person, and lists no name: each is a salted hash of 64 bits. Who has a
name can ask for it; among a million training identities, another name is taken for one of them once in 10^13 cases.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Sequence

from fv import files, workdir
from fv.errors import UserError
from fv.model.options import ModelOptions

_HASH_BYTES = 8


@dataclasses.dataclass(frozen=True)
class ModelRecord:
    """What a workdir's weights belong to: the model, and the training identities.

    Attributes:
      options: the model.
      identities: number of training identities.
      identities_sha256: of their names in order.
      identity_hashes: of each name, salted with `identities_sha256`; None where they are not known: in a workdir of an fv
        that did not keep them, or with first weights from one or from an export.
      earlier: the training identities of runs whose weights this one began with or imitated, of each (salt, hashes).
    """

    options: ModelOptions
    identities: int
    identities_sha256: str
    identity_hashes: tuple[str, ...] | None = None
    earlier: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def trained_on(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are training identities, or were of weights or a teacher that it began with, sorted.

        Raises:
          UserError: the record does not say.
        """
        lists = [(salt, frozenset(hashes)) for salt, hashes in ((self.identities_sha256, self._own()), *self.earlier)]
        return sorted(name for name in set(names) if any(_hash(name, salt) in hashes for salt, hashes in lists))

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


def describe(options: ModelOptions, identities: Sequence[str]) -> ModelRecord:
    """The record of a model that is trained on these identities."""
    digest = hashlib.sha256("\n".join(identities).encode()).hexdigest()
    return ModelRecord(options, len(identities), digest, tuple(_hash(name, digest) for name in identities))


def inherit(record: ModelRecord, parent: ModelRecord | None) -> ModelRecord:
    """The record of a model that begins with the parent's weights, or imitates it; None for weights of a backbone alone."""
    if parent is None:
        return record
    if parent.identity_hashes is None:
        return dataclasses.replace(record, identity_hashes=None)
    met = ((parent.identities_sha256, parent.identity_hashes), *parent.earlier)
    return dataclasses.replace(record, earlier=tuple(one for one in met if one[0] != record.identities_sha256))


def kept(record: ModelRecord, folder: str) -> ModelRecord:
    """The record of a run that goes on in a workdir: the one that is there, if there is one."""
    return load(folder) if files.exists(os.path.join(folder, workdir.MODEL)) else record


def save(record: ModelRecord, folder: str) -> None:
    """Writes model.json; whom the model that is there has met, and that it cannot tell, is not forgotten."""
    if os.path.exists(os.path.join(folder, workdir.MODEL)):
        there = load(folder)
        hashes = None if there.identity_hashes is None else record.identity_hashes
        earlier = tuple(dict.fromkeys((*there.earlier, *record.earlier)))
        record = dataclasses.replace(record, identity_hashes=hashes, earlier=earlier)
    files.save_json(dataclasses.asdict(record), os.path.join(folder, workdir.MODEL))


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
        held = ModelOptions(**fields["options"]), fields["identities"], fields["identities_sha256"]
        earlier = tuple((salt, tuple(met)) for salt, met in fields.get("earlier", ()))
        return ModelRecord(*held, None if hashes is None else tuple(hashes), earlier)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} does not describe a model of this fv ({error}): train into a new --workdir") from error


def check_same(record: ModelRecord, folder: str) -> None:
    """Checks that the workdir is new, or holds this very model.

    Raises:
      UserError: it holds another model, or one trained on other identities.
    """
    if not files.exists(os.path.join(folder, workdir.MODEL)):
        return
    there = load(folder)
    wanted, held = dataclasses.asdict(record.options), dataclasses.asdict(there.options)
    changed = [_differ(name, held[name], value) for name, value in wanted.items() if held[name] != value]
    if changed:
        raise UserError(f"{folder} holds another model ({'; '.join(changed)}): give its flags or another --workdir")
    if there.identities_sha256 != record.identities_sha256:
        data = f"{there.identities:,} training identities, not these {record.identities:,}"
        before = workdir.training_flag(folder, "tfrecords")
        give = "give its --tfrecords" + (f" (it was {before})" if before else "")
        raise UserError(f"{folder} was trained on other data ({data}): {give} or another --workdir")


def _differ(name: str, held: object, value: object) -> str:
    """The flag that a workdir's model has, as it can be given."""
    if held is None:
        return f"without --{name}, not {value}"
    return f"--{name}={str(held).lower() if isinstance(held, bool) else held}, not {value}"


def _hash(name: str, salt: str) -> str:
    return hashlib.blake2b(
        name.encode(errors="surrogateescape"), digest_size=_HASH_BYTES, salt=bytes.fromhex(salt)[:16]
    ).hexdigest()
