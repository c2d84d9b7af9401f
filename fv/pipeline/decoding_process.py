"""A process that decodes, and its siblings: pairs are read, parsed, decoded and resized into memory shared with the parent.

python -m fv.pipeline.decoding_process MEMORY CONNECTION…    (descriptors, inherited from `decoding_processes`)

It knows no TensorFlow, no damage and no identities: what it cannot decode it leaves to its parent, which looks at it again
and says what is wrong. Siblings are forked when all is imported: each is there at once and shares most of its memory.
"""

import functools
import mmap
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection

import numpy as np

from fv import preprocess_on_host
from fv.pipeline import fields_on_host
from fv.pipeline.frames import FrameReader

Source = bytes | tuple[str, int, int] | None  # a record, or where its frame lies: shard, first byte, byte behind the last
Row = tuple[int, tuple[bytes, bytes]] | None  # label and identities, None where the pair was not decoded

_MAPS = 256  # of batches' memory; more than there are at one time
_DONE_TO_A_WHOLE_GROUP = (signal.SIGINT, signal.SIGTERM)  # they are for the parent; its end is the end of this process


def main() -> None:
    """Forks a process for every connection, each of which answers until its parent is gone."""
    for number in _DONE_TO_A_WHOLE_GROUP:
        signal.signal(number, signal.SIG_IGN)
    memory, *descriptors = map(int, sys.argv[1:])
    for place, descriptor in enumerate(descriptors):
        if os.fork() == 0:
            for other in descriptors[place + 1 :]:
                os.close(other)
            _serve(memory, Connection(descriptor))
            return
        os.close(descriptor)
    for _ in descriptors:
        os.wait()


def _serve(memory: int, connection: Connection) -> None:
    decoder = _Decoder(memory)
    try:
        while True:
            connection.send(decoder.decode(*connection.recv()))
    except (EOFError, OSError):
        return  # the parent is gone


class _Decoder:
    def __init__(self, memory: int):
        self._frames = FrameReader()
        self._map = functools.lru_cache(_MAPS)(functools.partial(_map, memory))

    def decode(self, offset: int, image_size: int, crop_fraction: float, sources: Sequence[Source]) -> list[Row]:
        """Decodes pairs into the memory that begins at `offset`, uint8 [pairs, 2, image_size, image_size, 3]."""
        shape = (len(sources), 2, image_size, image_size, preprocess_on_host.CHANNELS)
        images = np.frombuffer(self._map(offset, int(np.prod(shape))), np.uint8).reshape(shape)
        return [self._decode_pair(source, crop_fraction, pair) for source, pair in zip(sources, images, strict=True)]

    def _decode_pair(self, source: Source, crop_fraction: float, images: np.ndarray) -> Row:
        if source is None:
            return None
        try:
            pair = fields_on_host.parse(source if isinstance(source, bytes) else self._frames.read(*source))
            preprocess_on_host.load_jpeg(pair.images[0], crop_fraction, images[0])
            preprocess_on_host.load_jpeg(pair.images[1], crop_fraction, images[1])
        except (ValueError, OSError):  # a DamagedRecordError is a ValueError
            return None
        return pair.label, pair.identities


def _map(memory: int, offset: int, size: int) -> mmap.mmap:
    return mmap.mmap(memory, size, offset=offset)


if __name__ == "__main__":
    main()
