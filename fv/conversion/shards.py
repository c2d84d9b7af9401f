"""Writes pairs to shards: a globally shuffled order, cut into runs, each written by one process."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping

import google_crc32c
import numpy as np
import pandas as pd

from fv import files, manifest, ownership, record
from fv.conversion import checking, output, pairs
from fv.conversion.packed_strings import PackedStrings

DEFAULT_SHARDS = 8  # of the largest split: enough to interleave, and for workers of a small cluster
# Long enough to read at a disk's full rate, short enough to shuffle whole shards.
LARGEST_DEFAULT_BYTES = 128 << 20
_COLUMNS = ["path", "identity", "offset", "bytes", "crc"]
_FILE = "file"  # a further column where files hold many images
_BUFFER_BYTES = 4 << 20  # of one write; below 1 MB the cost of each system call shows


@dataclasses.dataclass(frozen=True)
class Images:
    """Images as columns, which are small enough to queue for a worker: a shard may have 100,000.

    Attributes:
      root: the images folder.
      scratch: the folder of packs, which hold images that were written anew.
      paths: of the images.
      files: that hold them, object [n]; None where `paths` are files below `root`.
      identities: object [n].
      numbers: of the images in the catalog, int64 [n].
      offsets: of the stored bytes in their file, or ~offset in their pack, int64 [n].
      sizes: of the stored bytes, uint32 [n].
      crcs: CRC-32C of the stored bytes, uint32 [n].
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
            file = path = os.path.join(self.root, path)
        else:
            file = self.files[index]
        if offset < 0:
            offset, file = ~offset, checking.pack_path(self.scratch, int(self.numbers[index]))
        data = files.read_bytes(file, offset, int(self.sizes[index]))
        if google_crc32c.value(data) != self.crcs[index]:
            raise OSError(None, "changed while it was converted: run the same command again", path)
        return data


def stored_images(images: pd.DataFrame, root: str, scratch: str) -> Images:
    """Returns the images of a table with the columns of `_COLUMNS`; its index numbers them."""
    paths = PackedStrings.pack(images["path"])
    identities, *numbers = (images[name].to_numpy() for name in _COLUMNS[1:])
    held_in = images[_FILE].to_numpy() if _FILE in images else None
    return Images(root, scratch, paths, held_in, identities, images.index.to_numpy(), *numbers)


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

    Returns:
      Shards by split, at least one and at most one per pair.
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
      folders: images folder, scratch folder, output folder.
    """
    root, scratch, folder = folders
    columns = [*_COLUMNS, *images.columns.intersection([_FILE])]
    order = pairs.random_generator(seed, split, "order").permutation(len(table))
    for index, part in enumerate(np.array_split(order, count)):
        rows = table.iloc[part]
        used, ends = np.unique(rows[["a", "b"]].to_numpy(), return_inverse=True)
        a, b = ends.reshape(-1, 2).T
        members = stored_images(images.iloc[find_rows(images, used)][columns], root, scratch)
        name = manifest.shard_name(split, index, count)
        yield Task(folder, name, members, a, b, rows["label"].to_numpy())


def write_shard(task: Task) -> manifest.Shard:
    """Writes one shard under a temporary name and renames it, unless an earlier run wrote it.

    Raises:
      OSError: an image or the shard cannot be read or written; it has the name of the file.
      UserError: a file of the shard's name is not as fv wrote it.
    """
    key, path = task.key(), os.path.join(task.folder, task.name)
    found = output.find_noted_shard(task.folder, task.name, key)
    if found:
        return found
    digest, size = hashlib.sha256(), 0
    try:
        _remove_earlier(task, path)
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
            output.note_shard(task.folder, shard, key)
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or path) from error
    return shard


def _remove_earlier(task: Task, path: str) -> None:
    """Removes the shard that an earlier run with other flags wrote under this name."""
    if files.exists(path):
        earlier = output.listed_shards(task.folder).get(task.name)
        if earlier is None or not output.is_unchanged(task.folder, earlier):
            ownership.refuse_foreign([task.name], task.folder)
        files.remove(path)


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
