"""Pairs to shards: a globally shuffled order, cut into runs, each run written by one process."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping

import google_crc32c
import numpy as np
import pandas as pd

from fv import files, manifest, ownership, record
from fv.conversion import checking, pairs
from fv.conversion import output as outputs

DEFAULT_SHARDS = (
    8  # of the largest split: enough to interleave, and files for every worker of a small cluster
)
LARGEST_DEFAULT_BYTES = (
    128 << 20
)  # long enough to read at a disk's full rate, short enough to shuffle whole shards
_COLUMNS = ("path", "identity", "offset", "bytes", "crc")
_BUFFER_BYTES = 4 << 20  # a write of the operating system; below 1 MB its cost per call shows


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of a shard, in columns: a shard may have 100,000 of them, and several wait for a worker.

    Attributes:
      root: the images folder.
      scratch: the folder of packs.
      paths: below `root`, object [n].
      identities: whose they are, object [n].
      numbers: in the catalog, int64 [n].
      offsets: of the stored bytes in their pack, int64 [n]; `checking.OWN_FILE` where they are the file's own.
      sizes: of the stored bytes, uint32 [n].
      crcs: CRC-32C of the stored bytes, uint32 [n].
    """

    root: str
    scratch: str
    paths: np.ndarray
    identities: np.ndarray
    numbers: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    crcs: np.ndarray

    def read(self, index: int) -> bytes:
        """The bytes to store, which are those that were checked.

        Raises:
          OSError: they cannot be read, or changed since.
        """
        offset, path = int(self.offsets[index]), os.path.join(self.root, self.paths[index])
        file = (
            path
            if offset == checking.OWN_FILE
            else checking.pack_path(self.scratch, int(self.numbers[index]))
        )
        data = files.read_bytes(file, max(offset, 0), int(self.sizes[index]))
        if google_crc32c.value(data) != self.crcs[index]:
            raise OSError(None, "changed while it was converted: run the same command again", path)
        return data


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
        """A digest of all that decides the shard's bytes."""
        numbers = (self.images.sizes, self.images.crcs, self.a, self.b, self.labels)
        parts = [
            repr(
                (record.SCHEMA_VERSION, list(self.images.paths), list(self.images.identities))
            ).encode()
        ]
        parts += [np.asarray(each, np.int64).tobytes() for each in numbers]
        return hashlib.sha256(b"".join(parts)).hexdigest()


def count_shards(
    tables: Mapping[str, pd.DataFrame], images: pd.DataFrame, wanted: int | None
) -> dict[str, int]:
    """How many shards each split gets: as many pairs to a shard in every split, as far as rounding up allows.

    Args:
      tables: pairs by split, with columns `a` and `b`.
      images: table with column `bytes`, indexed by what `a` and `b` hold.
      wanted: shards of the largest split; None for `DEFAULT_SHARDS`, or more so that none exceeds `LARGEST_DEFAULT_BYTES`.

    Returns:
      Shards by split, each at least one and at most one per pair.
    """
    name = max(tables, key=lambda name: len(tables[name]))
    largest = tables[name]
    if wanted is None:
        size = sum(int(images["bytes"].loc[largest[column]].sum()) for column in ("a", "b"))
        wanted = max(DEFAULT_SHARDS, -(-size // LARGEST_DEFAULT_BYTES))
    wanted = min(wanted, len(largest))
    return {name: max(1, -(-wanted * len(table) // len(largest))) for name, table in tables.items()}


def plan_split(
    split: str,
    table: pd.DataFrame,
    images: pd.DataFrame,
    count: int,
    seed: int,
    folders: tuple[str, str, str],
) -> Iterator[Task]:
    """Yields the tasks that write one split's pairs, in an order shuffled by the seed.

    Args:
      split: its name.
      table: pairs, with columns `a`, `b` and `label`.
      images: table with columns `path`, `identity`, `offset`, `bytes` and `crc`, indexed by what `a` and `b` hold.
      count: number of shards.
      seed: the conversion's seed.
      folders: images folder, scratch folder, output folder.
    """
    root, scratch, output = folders
    order = pairs.random_generator(seed, split, "order").permutation(len(table))
    for index, part in enumerate(np.array_split(order, count)):
        rows = table.iloc[part]
        used, ends = np.unique(rows[["a", "b"]].to_numpy(), return_inverse=True)
        a, b = ends.reshape(-1, 2).T
        members = stored_images(images.loc[used, list(_COLUMNS)], root, scratch)
        yield Task(
            output,
            manifest.shard_name(split, index, count),
            members,
            a,
            b,
            rows["label"].to_numpy(),
        )


def stored_images(images: pd.DataFrame, root: str, scratch: str) -> Images:
    """Images of a table with columns `path`, `identity`, `offset`, `bytes` and `crc`, indexed by their number."""
    paths, identities, *numbers = (images[name].to_numpy() for name in _COLUMNS)
    return Images(root, scratch, paths, identities, images.index.to_numpy(), *numbers)


def write_shard(task: Task) -> manifest.Shard:
    """Writes one shard under a temporary name and renames it, or finds it whole from an earlier run.

    The same task gives the same bytes.

    Raises:
      OSError: an image or the shard could not be read or written, with the file's name.
      UserError: there is a file of the shard's name that fv did not write.
    """
    key = task.key()
    found = outputs.find_noted_shard(task.folder, task.name, key)
    if found:
        return found
    path = os.path.join(task.folder, task.name)
    digest, size = hashlib.sha256(), 0
    try:
        _remove_earlier(task)
        with (
            ownership.temporary_folder(task.folder) as folder,
            files.atomic_open(path, "wb", temporary=os.path.join(folder, task.name)) as file,
        ):
            for buffer in _buffers(task):
                digest.update(buffer)
                file.write(buffer)
                size += len(buffer)
            shard = manifest.Shard(task.name, len(task.labels), size, digest.hexdigest())
            outputs.note_shard(
                task.folder, shard, key
            )  # before the shard has its name: a killed run knows it again
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or path) from error
    return shard


def _remove_earlier(task: Task) -> None:
    """Removes the shard that an earlier run with other flags wrote under this name."""
    if files.exists(os.path.join(task.folder, task.name)):
        earlier = outputs.noted_shards(task.folder).get(task.name)
        if earlier is None or not outputs.is_unchanged(task.folder, earlier):
            ownership.refuse_foreign([task.name], task.folder)
        files.remove(os.path.join(task.folder, task.name))


def _buffers(task: Task) -> Iterator[bytes]:
    """Yields the shard's bytes in runs of whole records."""
    waiting, size = [], 0
    for a, b, label in zip(task.a, task.b, task.labels, strict=True):
        waiting.append(record.frame(record.encode_pair(_fields(task.images, a, b, int(label)))))
        size += len(waiting[-1])
        if size >= _BUFFER_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _fields(images: Images, a: int, b: int, label: int) -> dict[str, bytes | int]:
    return {
        record.IMAGE_A: images.read(a),
        record.IMAGE_B: images.read(b),
        record.IDENTITY_A: images.identities[a].encode(),
        record.IDENTITY_B: images.identities[b].encode(),
        record.PATH_A: images.paths[a].encode(),
        record.PATH_B: images.paths[b].encode(),
        record.LABEL: label,
    }
