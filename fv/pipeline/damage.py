"""What reading a damaged shard ends in: one line with the command that finds the place."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from fv.errors import UserError

_WHERE = re.compile(r"(corrupted|truncated) record at \d+")


@contextlib.contextmanager
def reported(folder: str) -> Iterator[None]:
    """Turns TensorFlow's error about a record that does not match its checksum into a user's error.

    Args:
      folder: the shards that the block reads.

    Raises:
      UserError: a shard is damaged.
    """
    try:
        yield
    except tf.errors.DataLossError as error:
        where = _WHERE.search(str(error))
        found = f"{where[0]} (the byte in its shard)" if where else "a record cannot be read"
        advice = f"python tools/inspect_tfrecords.py {folder} names the shard; then convert again with --overwrite"
        raise UserError(f"the shards in {folder} are damaged: {found}; {advice}") from error
