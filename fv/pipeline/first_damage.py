"""The search for the first damaged record, for readers and decoders that do not say which it was."""

import os
from collections.abc import Callable, Sequence

import tensorflow as tf

from fv import errors, files, progress, record
from fv.manifest import Shard
from fv.pipeline import fields_on_host, shard_index


def find(folder: str, shards: Sequence[Shard]) -> str | None:
    """The first damaged record of the shards, as 'PATH: record N at byte B: what is wrong'; None where all are sound.

    Frames, their number and fields are checked first, which reads each shard once; images are decoded only where those are
    sound.

    Args:
      folder: where the shards are.
      shards: those that are searched, with the numbers of records that they should hold.
    """
    return _find(folder, shards, record.decode_pair) or _find(folder, shards, _decode_images)


def _find(folder: str, shards: Sequence[Shard], check: Callable[[bytes], object]) -> str | None:
    with progress.progress(
        sum(shard.records for shard in shards), "look for the damage", "pair"
    ) as line:
        for shard in shards:
            path, number, offset = os.path.join(folder, shard.name), 0, 0
            try:
                with files.open_bytes(path) as file:
                    for offset, data in record.read_frames(file):
                        check(data)
                        number, offset = number + 1, offset + record.FRAME_BYTES + len(data)
                        line.update()
                if number < shard.records:
                    raise record.DamagedRecordError(shard_index.MISSING)
            except record.DamagedRecordError as error:
                return f"{path}: record {number} at byte {offset}: {error}"
            except OSError as error:
                errors.raise_if_temporary(error)
                return (
                    f"{path}: record {number} at byte {offset}: cannot be read ({error.strerror})"
                )
    return None


def _decode_images(data: bytes) -> None:
    pair = record.decode_pair(data)
    for name in fields_on_host.IMAGES:
        try:
            tf.io.decode_jpeg(pair[name])
        except tf.errors.InvalidArgumentError as error:
            raise record.DamagedRecordError(f"{name} is no whole JPEG") from error
