"""Every image embedded once; what is embedded is kept on disk block by block, so that a killed run goes on."""

import hashlib
import os
from collections.abc import Iterator
from concurrent import futures

import numpy as np
import tensorflow as tf

from fv import files, preprocess, progress, workers
from fv.conversion.shards import Images
from fv.errors import UserError
from fv.model import restoring
from fv.model.model_record import ModelRecord

_IMAGES_PER_BLOCK = 2048  # a block is what a killed run loses at most


class Embedder:
    """Embeds the images of a conversion as training sees them, without augmentation."""

    def __init__(self, workdir: str, record: ModelRecord, checkpoint: str, batch_size: int):
        """Restores the model.

        Raises:
          UserError: the workdir holds no checkpoint, or one that does not fit its model.
        """
        model, _ = restoring.load_model(workdir, record, checkpoint)
        self._options, self._encoder, self._batch_size = record.options, model.encoder, batch_size
        self._embed = tf.function(
            lambda pixels: model.encoder(pixels, training=False),
            reduce_retracing=True,
            autograph=False,
        )
        weights = hashlib.sha256(repr(record.options).encode())
        for variable in model.encoder.variables:
            weights.update(variable.numpy().tobytes())
        self.digest = weights.hexdigest()

    def embed(self, images: Images, folder: str) -> np.ndarray:
        """The embeddings of the images, float32 [n, embedding_size], unit length.

        Args:
          images: which.
          folder: where blocks are kept, and found again where the same model embedded the same bytes.

        Raises:
          UserError: an embedding is not finite, or all are the same.
          OSError: an image cannot be read or changed since it was checked.
        """
        files.make_folder(folder)
        found = np.zeros((len(images.paths), self._options.embedding_size), np.float32)
        with (
            progress.progress(len(found), "embed", "image") as line,
            futures.ThreadPoolExecutor(workers.cores()) as threads,
        ):
            for block in _runs(0, len(found), _IMAGES_PER_BLOCK):
                path = os.path.join(folder, f"{self._key(images, block)}.npy")
                if not files.exists(path):
                    for batch in _runs(block.start, block.stop, self._batch_size):
                        found[batch] = self._embed(self._decode(images, batch, threads)).numpy()
                    _save(found[block], path)
                found[block] = _load(path)
                line.update(block.stop - block.start)
        _require_telling(found, images)
        return found

    def _key(self, images: Images, block: slice) -> str:
        """A digest of all that decides a block's embeddings."""
        stored = np.stack([images.sizes[block], images.crcs[block]])
        return hashlib.sha256(
            f"{self.digest} {self._batch_size}".encode() + stored.tobytes()
        ).hexdigest()

    def _decode(self, images: Images, batch: slice, threads: futures.Executor) -> np.ndarray:
        side = self._options.image_size
        pixels = np.empty((batch.stop - batch.start, side, side, preprocess.CHANNELS), np.uint8)

        def load(place: int) -> None:
            preprocess.load_on_host(
                images.read(batch.start + place), self._options.crop_fraction, pixels[place]
            )

        list(threads.map(load, range(len(pixels))))
        return pixels


def _runs(start: int, stop: int, length: int) -> Iterator[slice]:
    for first in range(start, stop, length):
        yield slice(first, min(first + length, stop))


def _save(embeddings: np.ndarray, path: str) -> None:
    with files.atomic_open(path, "wb") as file:
        np.save(file, embeddings)


def _load(path: str) -> np.ndarray:
    with files.open_bytes(path) as file:
        return np.load(file)


def _require_telling(embeddings: np.ndarray, images: Images) -> None:
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        where = f"the first is that of {images.paths[bad[0]]}"
        raise UserError(
            f"{len(bad):,} of {len(embeddings):,} embeddings are not finite, {where}: train the model again"
        )
    if len(embeddings) > 1 and (embeddings == embeddings[0]).all():
        raise UserError(
            "the model gives every image the same embedding, so no pair is harder than another: train it again"
        )
