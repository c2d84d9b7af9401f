"""The model record: what a workdir's weights belong to, so that they are never put into another model."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence

from fv import files, workdir
from fv.errors import UserError
from fv.model.options import ModelOptions


@dataclasses.dataclass(frozen=True)
class ModelRecord:
    """What a workdir's weights belong to: the model, and the training identities (their number and names' SHA-256)."""

    options: ModelOptions
    identities: int
    identities_sha256: str


def describe(options: ModelOptions, identities: Sequence[str]) -> ModelRecord:
    """The record of a model that is trained on these identities."""
    return ModelRecord(options, len(identities), hashlib.sha256("\n".join(identities).encode()).hexdigest())


def save(record: ModelRecord, folder: str) -> None:
    """Writes model.json."""
    files.save_json(dataclasses.asdict(record), os.path.join(folder, workdir.MODEL))


def load(folder: str) -> ModelRecord:
    """Reads model.json.

    Raises:
      UserError: the folder is no workdir of fv.train, or of another version of fv.
    """
    path = os.path.join(folder, workdir.MODEL)
    if not os.path.exists(path):
        raise UserError(f"{folder} holds no {workdir.MODEL}: give a --workdir that fv.train wrote")
    try:
        fields = files.load_json(path)
        return ModelRecord(ModelOptions(**fields["options"]), fields["identities"], fields["identities_sha256"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} does not describe a model of this fv ({error}): train into a new --workdir") from error


def check_same(record: ModelRecord, folder: str) -> None:
    """Checks that the workdir is new, or holds this very model.

    Raises:
      UserError: it holds another model, or one trained on other identities.
    """
    if not os.path.exists(os.path.join(folder, workdir.MODEL)):
        return
    there = load(folder)
    wanted, held = dataclasses.asdict(record.options), dataclasses.asdict(there.options)
    changed = [f"--{name}={held[name]}, not {value}" for name, value in wanted.items() if held[name] != value]
    if changed:
        raise UserError(f"{folder} holds another model ({'; '.join(changed)}): give its flags or another --workdir")
    if there.identities_sha256 != record.identities_sha256:
        data = f"{there.identities:,} training identities, not these {record.identities:,}"
        raise UserError(f"{folder} was trained on other data ({data}): give its --tfrecords or another --workdir")
