"""Embeds the images of a data set: each one once, in batches, in memory that does not grow.

Only the result grows with the number of images. Images are decoded by the ops of training and
export (`fv.image_ops.jpeg_to_input`), while the batch before is embedded.
"""

import collections
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import tensorflow as tf
import tf_keras

from fv import files, image_ops, progress, workers
from fv.conversion.image_files import BadImage
from fv.errors import UserError
from fv.model.options import ModelOptions

_IMAGES_PER_BLOCK = 2048  # a killed run repeats one block at most
_BATCH_SIZE = 64  # images embedded at once
_DECODED_AT_ONCE = 16
_BATCHES_AHEAD = 2


class Images(Protocol):
    """Images that are read when they are needed."""

    @property
    def paths(self) -> Sequence[str] | np.ndarray:
        """The path of each image, for messages; paths are distinct."""

    @property
    def read(self) -> Callable[[int], bytes]:
        """Reads the JPEG bytes of an image by its index; may raise BadImage."""


class Batch(NamedTuple):
    """Decoded images.

    Attributes:
      numbers: int64 [n], their indices.
      pixels: uint8 [n, image_size, image_size, 3], the input of the network.
      sides: int32 [n], the shorter side of each stored image in pixels.
    """

    numbers: np.ndarray
    pixels: tf.Tensor
    sides: np.ndarray


@tf.function(reduce_retracing=True, autograph=False)
def apply_encoder(encoder: tf_keras.Model, pixels: tf.Tensor) -> tf.Tensor:
    """Embeds pixels, uint8 [n, side, side, 3], to unit length: float32 [n, embedding_size]."""
    return encoder(pixels, training=False)


def embed(
    encoder: tf_keras.Model,
    options: ModelOptions,
    images: Images,
    *,
    folder: str | None = None,
    checksums: np.ndarray | None = None,
) -> np.ndarray:
    """Embeds every image once.

    Args:
      encoder: the trained encoder.
      options: of its model.
      images: what to embed.
      folder: keeps embeddings in blocks of 2,048 images, so that a killed run continues. A block
        is found again if encoder and checksums are the same.
      checksums: integers [n, …] that identify the bytes of each image; needed with `folder`.

    Returns:
      Unit embeddings, float32 [n, embedding_size].

    Raises:
      UserError: an image cannot be decoded, or an embedding is not finite.
    """
    found = np.zeros((len(images.paths), options.embedding_size), np.float32)
    weights = b""
    if folder is not None:
        files.make_folder(folder)
        weights = digest_weights(encoder, options)
    with progress.Progress(len(found), "embed", "image") as line:
        for start in range(0, len(found), _IMAGES_PER_BLOCK):
            block = slice(start, min(start + _IMAGES_PER_BLOCK, len(found)))
            path = ""
            if folder is not None and checksums is not None:
                key = hashlib.sha256(weights + checksums[block].tobytes()).hexdigest()
                path = os.path.join(folder, f"{key}.npy")
            if path and files.exists(path):
                with files.open_bytes(path) as file:
                    found[block] = np.load(file)
            else:
                _embed_block(encoder, options, images, block, found)
                if path:
                    with files.atomic_open(path, "wb") as file:
                        np.save(file, found[block])
            line.update(block.stop - block.start)
    require_finite(found, images.paths)
    return found


def load_batches(
    images: Images,
    numbers: Sequence[int],
    options: ModelOptions,
    batch_size: int,
    broken: dict[int, str],
) -> Iterator[Batch]:
    """Reads and decodes images in threads, two batches ahead, and yields them.

    Args:
      images: the images.
      numbers: indices of those that are wanted, in the order of the batches.
      options: of the model whose input they become.
      batch_size: images in a batch; fewer in the last one, and where images are broken.
      broken: receives, by index, why an image cannot be used; in the order of the indices of each
        batch, before this is yielded.
    """

    def read(number: int) -> bytes | str:
        try:
            return images.read(number)
        except BadImage as error:
            return str(error)

    def decode(encoded: list[bytes]) -> tuple[tf.Tensor, tf.Tensor]:
        return _decode(tf.constant(encoded, tf.string), options.image_size, options.crop_fraction)

    def decodes(encoded: bytes) -> bool:
        try:
            decode([encoded])
        except tf.errors.InvalidArgumentError:
            return False
        return True

    def load(wanted: Sequence[int]) -> tuple[Batch | None, dict[int, str]]:
        sound, reasons = dict[int, bytes](), dict[int, str]()
        for number, data in zip(wanted, pool.map(read, wanted), strict=True):
            if isinstance(data, str):
                reasons[number] = data
            else:
                sound[number] = data
        try:
            decoded = decode(list(sound.values())) if sound else None
        except tf.errors.InvalidArgumentError:  # one is broken: find out which
            torn = [number for number, data in sound.items() if not decodes(data)]
            reasons |= dict.fromkeys(torn, "no whole JPEG")
            sound = {number: data for number, data in sound.items() if number not in reasons}
            decoded = decode(list(sound.values())) if sound else None
        batch = decoded and Batch(np.fromiter(sound, np.int64), decoded[0], decoded[1].numpy())
        return batch, reasons

    starts = range(0, len(numbers), batch_size)
    rest = (numbers[start : start + batch_size] for start in starts)
    pool, ahead = (futures.ThreadPoolExecutor(n) for n in (workers.available_cores(), 1))
    with pool, ahead:
        pending = collections.deque(
            ahead.submit(load, wanted) for wanted in itertools.islice(rest, _BATCHES_AHEAD)
        )
        try:
            while pending:
                batch, reasons = pending.popleft().result()
                pending.extend(ahead.submit(load, wanted) for wanted in itertools.islice(rest, 1))
                broken.update(sorted(reasons.items()))
                if batch is not None:
                    yield batch
        finally:
            ahead.shutdown(wait=True, cancel_futures=True)


def measure_quality(greys: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Measures the brightness and the sharpness of grey images, uint8 [height, width].

    Returns:
      float32 [n], the mean grey level, 0 to 255; and float32 [n], the variance of the Laplacian:
      low if an image is blurred (Pech-Pacheco et al., Diatom autofocusing in brightfield
      microscopy, ICPR 2000).
    """
    brightness = [grey.mean() for grey in greys]
    sharpness = [cv2.Laplacian(grey, cv2.CV_32F).var() for grey in greys]
    return np.array(brightness, np.float32), np.array(sharpness, np.float32)


def to_greys(pixels: tf.Tensor) -> list[np.ndarray]:
    """Grey images, uint8 [side, side] each, of pixels uint8 [n, side, side, 3]."""
    return [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in pixels.numpy()]


def require_finite(
    embeddings: np.ndarray,
    paths: Sequence[str] | np.ndarray,
    whose: str = "",
    advice: str = "the model's weights or its training diverged, train again",
) -> None:
    """Checks that embeddings, float [n, d], are numbers.

    Raises:
      UserError: some are not; the message names `whose` they are, the first image, and `advice`.
    """
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        count = f"{len(bad):,} of {len(embeddings):,} embeddings{whose} are not finite"
        raise UserError(f"{count}, the first is that of {paths[bad[0]]}: {advice}")


def _embed_block(
    encoder: tf_keras.Model, options: ModelOptions, images: Images, block: slice, found: np.ndarray
) -> None:
    broken: dict[int, str] = {}
    numbers = range(block.start, block.stop)
    for batch in load_batches(images, numbers, options, _BATCH_SIZE, broken):
        found[batch.numbers] = apply_encoder(encoder, batch.pixels).numpy()
    for number, reason in broken.items():
        raise UserError(f"{images.paths[number]} cannot be embedded: {reason}; convert it again")


@tf.function(reduce_retracing=True, autograph=False)
def _decode(
    encoded: tf.Tensor, image_size: int, crop_fraction: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels uint8 [n, image_size, image_size, 3] and shorter sides int32 [n] of JPEGs."""

    def load(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        side = tf.reduce_min(tf.io.extract_jpeg_shape(data)[:2])
        return image_ops.jpeg_to_input(data, image_size, crop_fraction), side

    return tf.map_fn(
        load,
        encoded,
        fn_output_signature=(tf.uint8, tf.int32),
        parallel_iterations=_DECODED_AT_ONCE,
    )


def digest_weights(encoder: tf_keras.Model, options: ModelOptions) -> bytes:
    """Returns a digest of all that decides an image's embedding except its bytes."""
    digest = hashlib.sha256(repr(options).encode())
    for variable in encoder.variables:
        digest.update(variable.numpy().tobytes())
    return digest.digest()
