"""One pass over the distinct images of some pairs: embeddings, and what baselines and slices need of each image."""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent import futures

import cv2
import numpy as np
import tensorflow as tf
import tf_keras

from fv import preprocess, progress, workers
from fv.conversion.formats import BadImage
from fv.errors import UserError
from fv.evaluation.pair_set import Images
from fv.model.options import ModelOptions
from fv.model.siamese import Siamese

GREY_SIDE = 64  # pixels of the small grey image that the baselines compare: 4 KB an image
_DECODED_AT_ONCE = 16
_DIVERGED = "the model's weights or its training diverged, train again"
_UNTRAINED = "the trained ones are: give --nobaselines, or another --seed"

_BATCH_SIZE = 64  # images embedded at once


@dataclasses.dataclass(frozen=True, eq=False)
class Description:
    """What one pass found out of m images; rows of broken ones are zero.

    Attributes:
      embeddings: float32 [m, embedding_size], unit length.
      untrained: float32 [m, embedding_size], of the network before training; None where it was not asked for.
      greys: uint8 [m, GREY_SIDE, GREY_SIDE], the network's input, grey and small; None likewise.
      brightness: float32 [m], mean grey level of the network's input, 0 to 255.
      sharpness: float32 [m], variance of the Laplacian of the network's input in grey: low where it is blurred (Pech-Pacheco
        et al., Diatom autofocusing in brightfield microscopy, ICPR 2000).
      side: int32 [m], the shorter side of the stored image in pixels.
      broken: by index of image, what is wrong with it.
    """

    embeddings: np.ndarray
    untrained: np.ndarray | None
    greys: np.ndarray | None
    brightness: np.ndarray
    sharpness: np.ndarray
    side: np.ndarray
    broken: dict[int, str]


class Describer:
    """Describes images with a model, by the preprocessing of training and export."""

    def __init__(
        self,
        model: Siamese,
        options: ModelOptions,
        untrained: Siamese | None,
        *,
        flip: bool,
        batch_size: int = _BATCH_SIZE,
    ):
        """Args:
        model: the trained model.
        options: its options.
        untrained: the same model before training; None to go without baselines.
        flip: add the embedding of the mirrored image to an image's own, and give the sum unit length.
        batch_size: images embedded at once.
        """
        self._model, self._options, self._untrained = model, options, untrained
        self._flip, self._batch_size = flip, batch_size

    def describe(self, images: Images, name: str) -> Description:
        """Describes every image once.

        Args:
          images: the images.
          name: what they are called, for the progress line.

        Raises:
          UserError: an embedding is not finite.
        """
        count = len(images.paths)
        found = self._empty(count)
        with progress.progress(count, f"embed {name}", "image") as line:
            for numbers, encoded in self._batches(images, found.broken):
                self._describe_batch(numbers, encoded, found)
                line.update(len(numbers))
        _require_finite(found.embeddings, images.paths, "", _DIVERGED)
        if self._untrained:
            _require_finite(
                found.untrained, images.paths, " of the untrained network, a baseline,", _UNTRAINED
            )
        return found

    def _empty(self, count: int) -> Description:
        embeddings = np.zeros((count, self._options.embedding_size), np.float32)
        greys = np.zeros((count, GREY_SIDE, GREY_SIDE), np.uint8) if self._untrained else None
        untrained = np.zeros_like(embeddings) if self._untrained else None
        floats = [np.zeros(count, np.float32) for _ in range(2)]
        return Description(embeddings, untrained, greys, *floats, np.zeros(count, np.int32), {})

    def _batches(
        self, images: Images, broken: dict[int, str]
    ) -> Iterator[tuple[list[int], list[bytes]]]:
        """Yields images with their bytes, those that can be read."""

        def read(number: int) -> bytes | None:
            try:
                return images.read(number)
            except BadImage as error:
                broken[number] = str(error)
                return None

        with futures.ThreadPoolExecutor(workers.cores()) as pool:
            for start in range(0, len(images.paths), self._batch_size):
                numbers = range(start, min(start + self._batch_size, len(images.paths)))
                read_now = zip(numbers, pool.map(read, numbers), strict=True)
                sound = [(number, data) for number, data in read_now if data is not None]
                if sound:
                    yield tuple(map(list, zip(*sound, strict=True)))

    def _describe_batch(self, numbers: list[int], encoded: list[bytes], found: Description) -> None:
        decoded = self._decode(numbers, encoded, found.broken)
        numbers = [number for number in numbers if number not in found.broken]
        if not numbers:
            return
        pixels, found.side[numbers] = decoded
        found.embeddings[numbers] = self._embed(self._model, pixels)
        greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in pixels.numpy()]
        found.brightness[numbers] = [grey.mean() for grey in greys]
        found.sharpness[numbers] = [cv2.Laplacian(grey, cv2.CV_32F).var() for grey in greys]
        if self._untrained:
            found.untrained[numbers] = self._embed(self._untrained, pixels)
            found.greys[numbers] = [
                cv2.resize(grey, (GREY_SIDE,) * 2, interpolation=cv2.INTER_AREA) for grey in greys
            ]

    def _decode(
        self, numbers: list[int], encoded: list[bytes], broken: dict[int, str]
    ) -> tuple[tf.Tensor, tf.Tensor] | None:
        """Pixels uint8 [n, side, side, 3] and shorter sides int32 [n] of the images that decode; names the others."""
        try:
            return self._decode_all(encoded)
        except tf.errors.InvalidArgumentError:
            sound = [
                data
                for number, data in zip(numbers, encoded, strict=True)
                if self._decodes(number, data, broken)
            ]
            return self._decode_all(sound) if sound else None

    def _decodes(self, number: int, data: bytes, broken: dict[int, str]) -> bool:
        try:
            self._decode_all([data])
        except tf.errors.InvalidArgumentError:
            broken[number] = "no whole JPEG"
        return number not in broken

    def _decode_all(self, encoded: list[bytes]) -> tuple[tf.Tensor, tf.Tensor]:
        return _decode(
            tf.constant(encoded, tf.string), self._options.image_size, self._options.crop_fraction
        )

    def _embed(self, model: Siamese, pixels: tf.Tensor) -> np.ndarray:
        """Unit embeddings, float32 [n, embedding_size]."""
        embeddings = _embed(model.encoder, pixels)
        if self._flip:
            embeddings = tf.math.l2_normalize(
                embeddings + _embed(model.encoder, pixels[:, :, ::-1]), axis=1
            )
        return embeddings.numpy()


@tf.function(reduce_retracing=True, autograph=False)
def _decode(
    encoded: tf.Tensor, image_size: int, crop_fraction: float
) -> tuple[tf.Tensor, tf.Tensor]:
    def load(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        side = tf.reduce_min(tf.io.extract_jpeg_shape(data)[:2])
        return preprocess.load_jpeg(data, image_size, crop_fraction), side

    return tf.map_fn(
        load,
        encoded,
        fn_output_signature=(tf.uint8, tf.int32),
        parallel_iterations=_DECODED_AT_ONCE,
    )


@tf.function(reduce_retracing=True, autograph=False)
def _embed(encoder: tf_keras.Model, pixels: tf.Tensor) -> tf.Tensor:
    return encoder(pixels, training=False)


def _require_finite(embeddings: np.ndarray, paths: Sequence[str], whose: str, advice: str) -> None:
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        found = f"{len(bad):,} of {len(embeddings):,} embeddings{whose} are not finite, the first is that of {paths[bad[0]]}"
        raise UserError(f"{found}: {advice}")
