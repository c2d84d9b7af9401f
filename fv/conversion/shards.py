"""Writes pairs to shards: a globally shuffled order, cut into runs, each written by one process.

One conversion writes into an output folder at a time, and only files that fv wrote are replaced.
The manifest lists the shards of a finished data set. Until there is one, a note in .fv/shards lists
each shard, so that a later run can tell which shards are fv's, and which are whole.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping

import google_crc32c
import numpy as np
import pandas as pd

from fv import files, manifest, ownership, progress, record
from fv.conversion import checking, pairs
from fv.conversion.datasets import PackedStrings
from fv.errors import UserError

LEFT_OUT = "left_out.csv"  # images that were not used
REPORT = "report.json"
REPORT_PAGE = "report.html"
_REPORTS = (LEFT_OUT, REPORT, REPORT_PAGE)

DEFAULT_SHARDS = 8  # of the largest split: enough to interleave, and for workers of a small cluster
# Long enough to read at a disk's full rate, short enough to shuffle whole shards.
LARGEST_DEFAULT_BYTES = 128 << 20
_BUFFER_BYTES = 4 << 20  # of one write; below 1 MB the cost of each system call shows

_SHARD = re.compile(rf"({'|'.join(manifest.SPLITS)})-\d{{5,}}-of-\d{{5,}}\.tfrecord")
_SCRATCH, _NOTES = "scratch", "shards"  # folders in .fv/
NOTES_FOLDER = os.path.join(ownership.PRIVATE, _NOTES)
# The manifest of a data set that is being replaced moves into .fv/ and still lists fv's shards.
_RETIRED = os.path.join(ownership.PRIVATE, manifest.FILE_NAME)


@dataclasses.dataclass(frozen=True)
class Images:
    """Images as columns, which are small enough to queue for a worker: a shard may have 100,000.

    Attributes:
      scratch: the folder of packs, which hold images that were written anew.
      files: that hold the images, object [n]; None where `paths` are files below `root`.
      numbers: of the images in the catalog, int64 [n].
      offsets: of the stored bytes in their file, or ~offset in their pack, int64 [n].
      crcs: CRC-32C of the stored bytes, uint32 [n]; `sizes` are in bytes.
    """

    root: str
    scratch: str
    paths: PackedStrings
    files: np.ndarray | None
    identities: np.ndarray
    numbers: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    crcs: np.ndarray

    def read(self, index: int) -> bytes:
        """Reads the bytes to store.

        Raises:
          OSError: they cannot be read, or changed since they were checked.
        """
        offset, path = int(self.offsets[index]), self.paths[index]
        if self.files is None:
            path = os.path.join(self.root, path)
        file = path if self.files is None else self.files[index]
        if offset < 0:
            offset, file = ~offset, checking.pack_path(self.scratch, int(self.numbers[index]))
        data = files.read_bytes(file, offset, int(self.sizes[index]))
        if google_crc32c.value(data) != self.crcs[index]:
            raise OSError(None, "changed while it was converted: run the same command again", path)
        return data


def stored_images(images: pd.DataFrame, root: str, scratch: str) -> Images:
    """Returns the images of a table as `pairs.Selection.images`; its index numbers them."""
    paths, numbers = PackedStrings.pack(images["path"]), images.index.to_numpy()
    held_in = images["file"].to_numpy() if "file" in images else None
    columns = (images[name].to_numpy() for name in ("offset", "bytes", "crc"))
    return Images(root, scratch, paths, held_in, images["identity"].to_numpy(), numbers, *columns)


@dataclasses.dataclass(frozen=True)
class Task:
    """One shard to write: pair i is of images `a[i]` and `b[i]` and has label `labels[i]`."""

    folder: str
    name: str
    images: Images
    a: np.ndarray
    b: np.ndarray
    labels: np.ndarray

    def key(self) -> str:
        """Returns a digest of everything that determines the shard's bytes."""
        names = (record.SCHEMA_VERSION, list(self.images.paths), list(self.images.identities))
        numbers = (self.images.sizes, self.images.crcs, self.a, self.b, self.labels)
        parts = [repr(names).encode(), *(np.asarray(each, np.int64).tobytes() for each in numbers)]
        return hashlib.sha256(b"".join(parts)).hexdigest()


def count_shards(
    tables: Mapping[str, pd.DataFrame], images: pd.DataFrame, wanted: int | None
) -> dict[str, int]:
    """Returns the number of shards of each split, so that all shards have about as many pairs.

    Args:
      tables: pairs by split, with columns `a` and `b`.
      images: table with column `bytes`, indexed by what `a` and `b` hold.
      wanted: shards of the largest split; None for `DEFAULT_SHARDS`, or for more if shards would be
        larger than `LARGEST_DEFAULT_BYTES`.
    """
    largest = max(tables.values(), key=len)
    if wanted is None:
        sizes = images["bytes"].to_numpy()
        size = sum(int(sizes[find_rows(images, largest[end])].sum()) for end in ("a", "b"))
        wanted = max(DEFAULT_SHARDS, -(-size // LARGEST_DEFAULT_BYTES))
    wanted = min(wanted, len(largest))
    return {name: max(1, -(-wanted * len(table) // len(largest))) for name, table in tables.items()}


def find_rows(images: pd.DataFrame, numbers: np.ndarray | pd.Series) -> np.ndarray:
    """The rows of images by their numbers. A look-up by label would take 27 bytes an image."""
    assert images.index.is_monotonic_increasing
    return images.index.searchsorted(numbers)


def plan_split(
    split: str,
    table: pd.DataFrame,
    images: pd.DataFrame,
    count: int,
    seed: int,
    folders: tuple[str, str, str],
) -> Iterator[Task]:
    """Yields the tasks that write the pairs of one split, in an order that the seed shuffles.

    Args:
      split: its name.
      table: pairs, with columns `a`, `b` and `label`.
      images: as for `stored_images`, indexed by what `a` and `b` hold.
      count: number of shards.
      seed: the conversion's seed.
      folders: of images, of scratch files, and the output.
    """
    root, scratch, folder = folders
    order = pairs.random_generator(seed, split, "order").permutation(len(table))
    for index, part in enumerate(np.array_split(order, count)):
        rows = table.iloc[part]
        used, ends = np.unique(rows[["a", "b"]].to_numpy(), return_inverse=True)
        a, b = ends.reshape(-1, 2).T
        members = stored_images(images.iloc[find_rows(images, used)], root, scratch)
        name = manifest.shard_name(split, index, count)
        yield Task(folder, name, members, a, b, rows["label"].to_numpy())


def write_shard(task: Task) -> manifest.Shard:
    """Writes one shard under a temporary name and renames it, unless an earlier run wrote it.

    Raises:
      OSError: an image or the shard cannot be read or written; it has the name of the file.
      UserError: a file of the shard's name is not as fv wrote it.
    """
    key, path = task.key(), os.path.join(task.folder, task.name)
    if found := find_noted_shard(task.folder, task.name, key):
        return found
    digest, size = hashlib.sha256(), 0
    try:
        if files.exists(path):  # of an earlier run with other flags
            earlier = listed_shards(task.folder).get(task.name)
            if earlier is None or not is_unchanged(task.folder, earlier):
                ownership.refuse_foreign([task.name], task.folder)
            files.remove(path)
        with (
            ownership.temporary_folder(task.folder) as folder,
            files.atomic_open(path, "wb", temporary=os.path.join(folder, task.name)) as file,
        ):
            for buffer in _buffers(task):
                digest.update(buffer)
                file.write(buffer)
                size += len(buffer)
            shard = manifest.Shard(task.name, len(task.labels), size, digest.hexdigest())
            # Before the shard gets its name, so that a run after a kill knows the shard as fv's.
            note_shard(task.folder, shard, key)
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or path) from error
    return shard


def _buffers(task: Task) -> Iterator[bytearray]:
    """Yields the shard's bytes in runs of whole records."""
    images, buffer = task.images, bytearray()
    for a, b, label in zip(task.a, task.b, task.labels, strict=True):
        fields = {
            record.IMAGE_A: images.read(a),
            record.IMAGE_B: images.read(b),
            record.IDENTITY_A: images.identities[a].encode(),
            record.IDENTITY_B: images.identities[b].encode(),
            record.PATH_A: images.paths[a].encode(),
            record.PATH_B: images.paths[b].encode(),
            record.LABEL: int(label),
        }
        buffer += record.frame(record.encode_pair(fields))
        if len(buffer) >= _BUFFER_BYTES:
            yield buffer
            buffer = bytearray()
    yield buffer


@contextlib.contextmanager
def claim_output(folder: str, overwrite: bool) -> Iterator[str]:
    """Makes and locks the output folder, and gives an empty scratch folder in it.

    Files of an earlier run stay until `clear_output`. A remote folder cannot be locked.

    Raises:
      UserError: another run is writing into the folder; it holds a finished data set and
        `overwrite` is false; or it holds other files with the names of a conversion's files.
    """
    files.make_folder(folder)
    busy = f"another conversion is writing into {folder}: wait for it, or give another --output"
    with files.lock_folder(folder, busy):
        _require_own_files(folder)
        if files.exists(os.path.join(folder, manifest.FILE_NAME)) and not overwrite:
            raise UserError(
                f"--output={folder} holds a finished data set: give another folder, or --overwrite"
            )
        ownership.remove_private(folder, _SCRATCH)
        scratch = os.path.join(ownership.private_folder(folder), _SCRATCH)
        files.make_folder(scratch)
        try:
            yield scratch
        finally:
            ownership.remove_private(folder, _SCRATCH)
            ownership.remove_leftovers(folder)


def clear_output(folder: str, keep: Collection[str] = ()) -> None:
    """Removes the files of an earlier run, except the shards in `keep` and their notes.

    Raises:
      UserError: one of the files is not as fv wrote it; then none is removed.
    """
    _require_own_files(folder)
    doomed = [name for name in _shard_names(folder) if name not in keep]
    listed = listed_shards(folder)
    changed = []
    with progress.Progress(sum(listed[name].bytes for name in doomed), "compare", "byte") as bar:
        for name in doomed:
            if not is_unchanged(folder, listed[name]):
                changed.append(name)
            bar.update(listed[name].bytes)
    ownership.refuse_foreign(changed, folder)
    # The manifest goes first: a folder with a manifest always holds a whole data set.
    if files.exists(os.path.join(folder, manifest.FILE_NAME)):
        ownership.private_folder(folder)
        files.rename(os.path.join(folder, manifest.FILE_NAME), os.path.join(folder, _RETIRED))
    ownership.remove(folder, _REPORTS)
    for name in doomed:
        files.remove(os.path.join(folder, name))
        if files.exists(_note_path(folder, name)):
            files.remove(_note_path(folder, name))
    if not keep:
        forget_shards(folder)


def note_shard(folder: str, shard: manifest.Shard, key: str) -> None:
    """Lists a shard, and the key of its task, as fv's; call it before the shard gets its name."""
    files.make_folder(os.path.join(folder, NOTES_FOLDER))
    files.save_json({"key": key, **dataclasses.asdict(shard)}, _note_path(folder, shard.name))


def find_noted_shard(folder: str, name: str, key: str) -> manifest.Shard | None:
    """Returns the shard of that name if an earlier run wrote the same task and it is unchanged."""
    noted_key, shard = _read_note(folder, name)
    return shard if shard and noted_key == key and is_unchanged(folder, shard) else None


def count_noted(folder: str) -> int:
    """Returns the number of noted shards that are there."""
    return sum(files.exists(os.path.join(folder, name)) for name in _noted_names(folder))


def forget_shards(folder: str) -> None:
    """Removes all notes and the retired manifest; call it after the manifest is written."""
    ownership.remove_private(folder, _NOTES)
    if files.exists(os.path.join(folder, _RETIRED)):
        files.remove(os.path.join(folder, _RETIRED))


def listed_shards(folder: str) -> dict[str, manifest.Shard]:
    """Returns the shards that fv wrote into a folder, by name; some may be gone or changed."""
    found: dict[str, manifest.Shard] = {}
    # Later ones replace earlier ones: a retired manifest, the manifest, the notes.
    for place in (os.path.join(folder, ownership.PRIVATE), folder):
        with contextlib.suppress(UserError):  # no manifest, or not fv's
            for split in manifest.read(place).splits.values():
                found |= {shard.name: shard for shard in split.shards}
    notes = {name: _read_note(folder, name)[1] for name in _noted_names(folder)}
    return found | {name: shard for name, shard in notes.items() if shard}


def is_unchanged(folder: str, shard: manifest.Shard, *, size_only: bool = False) -> bool:
    """Whether the file of a shard is there and holds what fv wrote."""
    path = os.path.join(folder, shard.name)
    if files.is_folder(path) or not files.exists(path) or files.size(path) != shard.bytes:
        return False
    return size_only or files.sha256(path) == shard.sha256


def _require_own_files(folder: str) -> None:
    """Checks that fv wrote the manifest, the reports and, by their sizes alone, the shards."""
    listed = listed_shards(folder)
    foreign = ownership.find_foreign(folder, (manifest.FILE_NAME, *_REPORTS))
    for name in _shard_names(folder):
        if name not in listed or not is_unchanged(folder, listed[name], size_only=True):
            foreign.append(name)
    ownership.refuse_foreign(foreign, folder)


def _shard_names(folder: str) -> list[str]:
    return [name for name in files.names(folder) if _SHARD.fullmatch(name)]


def _note_path(folder: str, name: str) -> str:
    return os.path.join(folder, NOTES_FOLDER, f"{name}.json")


def _noted_names(folder: str) -> list[str]:
    notes = os.path.join(folder, NOTES_FOLDER)
    names = files.names(notes) if files.is_folder(notes) else []
    return [name.removesuffix(".json") for name in names if name.endswith(".json")]


def _read_note(folder: str, name: str) -> tuple[str | None, manifest.Shard | None]:
    """Returns the key and the shard of a note; (None, None) if there is no valid note."""
    try:
        note = json.loads(files.read_bytes(_note_path(folder, name)))
        return note.pop("key"), manifest.Shard(**note)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None, None
