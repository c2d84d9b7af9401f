"""A process that decodes, and its siblings: pairs are read, parsed, decoded and resized into memory shared with the parent.

python -m fv.pipeline.decoding_process MEMORY CONNECTION…    (descriptors, inherited from `decoding_processes`)

It knows no TensorFlow, no damage and no identities: what it cannot decode it leaves to its parent, which looks at it again
and says what is wrong. Siblings are forked when all is imported: each is there at once and shares most of its memory.
"""

import array
import functools
import gc
import mmap
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing import connection

import numpy as np

from fv import preprocess_on_host
from fv.pipeline import fields_on_host
from fv.pipeline.fields_on_host import Pair
from fv.pipeline.frames import FrameReader

Source = (
    bytes | tuple[str, int, int] | None
)  # a record, or where its frame lies: shard, first byte, byte behind the last
Answer = tuple[bytes, list[bytes]]  # labels, int8, and identities, two of each pair
UNDECODED = -1  # label of a pair that was left

CONNECTIONS = (
    2  # of a process: while it works on a task the next one waits in the other, and idles no core
)
_MAPS = 256  # of batches' memory; more than there are at one time
_NOBODY = (b"", b"")  # identities of a pair that could not be parsed
_DONE_TO_A_WHOLE_GROUP = (
    signal.SIGINT,
    signal.SIGTERM,
)  # they are for the parent; its end is the end of this process


def main() -> None:
    """Forks a process for every `CONNECTIONS` connections, each of which answers until its parent is gone."""
    for number in _DONE_TO_A_WHOLE_GROUP:
        signal.signal(number, signal.SIG_IGN)
    memory, *descriptors = map(int, sys.argv[1:])
    gc.freeze()
    gc.disable()  # nothing here refers to itself
    while descriptors:
        ours, descriptors = descriptors[:CONNECTIONS], descriptors[CONNECTIONS:]
        if os.fork() == 0:
            for other in descriptors:
                os.close(other)
            _serve(memory, [connection.Connection(descriptor) for descriptor in ours])
            return
        for descriptor in ours:
            os.close(descriptor)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def _serve(memory: int, connections: list[connection.Connection]) -> None:
    decoder = _Decoder(memory)
    try:
        while True:
            for asking in connection.wait(connections):
                asking.send(decoder.decode(*asking.recv()))
    except (EOFError, OSError):
        return  # the parent is gone


class _Decoder:
    def __init__(self, memory: int):
        self._frames, self._loader = FrameReader(), preprocess_on_host.Loader()
        self._map = functools.lru_cache(_MAPS)(functools.partial(_map, memory))

    def decode(
        self, offset: int, image_size: int, crop_fraction: float, sources: Sequence[Source]
    ) -> Answer:
        """Decodes pairs into the memory that begins at `offset`, uint8 [pairs, 2, image_size, image_size, 3]."""
        shape = (len(sources), 2, image_size, image_size, preprocess_on_host.CHANNELS)
        images = np.frombuffer(self._map(offset, int(np.prod(shape))), np.uint8).reshape(shape)
        # All are parsed before the first is decoded: turn by turn each pushes the other out of the processor's caches, 5 %.
        pairs = [self._parse(source) for source in sources]
        labels = array.array(
            "b",
            (self._load(pair, crop_fraction, *to) for pair, to in zip(pairs, images, strict=True)),
        )
        return labels.tobytes(), [
            name for pair in pairs for name in (pair.identities if pair else _NOBODY)
        ]

    def _parse(self, source: Source) -> Pair | None:
        if source is None:
            return None
        try:
            return fields_on_host.parse(
                source if isinstance(source, bytes) else self._frames.read(*source)
            )
        except (ValueError, OSError):  # a DamagedRecordError is a ValueError
            return None

    def _load(
        self, pair: Pair | None, crop_fraction: float, image_a: np.ndarray, image_b: np.ndarray
    ) -> int:
        """Decodes the images of a pair and returns its label, or `UNDECODED`."""
        if pair is None:
            return UNDECODED
        try:
            self._loader.load(pair.images[0], crop_fraction, image_a)
            self._loader.load(pair.images[1], crop_fraction, image_b)
        except ValueError:
            return UNDECODED
        return pair.label


def _map(memory: int, offset: int, size: int) -> mmap.mmap:
    return mmap.mmap(memory, size, offset=offset)


if __name__ == "__main__":
    main()
