"""Regions of a face, each with a network of its own; and the mirror image beside each image."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import tensorflow as tf
import tf_keras

from fv.errors import UserError


class Region(NamedTuple):
    """A rectangle of the model's input, its edges as fractions of the input's side.

    `side` is that of the region's network: the longer side of its input in pixels.
    """

    left: float
    top: float
    right: float
    bottom: float
    side: int

    def edges(self, side: int) -> list[int]:
        """Left, top, right and bottom edge in pixels of an input of `side` pixels.

        Raises:
          UserError: there is no pixel between them.
        """
        left, top, right, bottom = edges = [round(edge * side) for edge in self[:4]]
        if left == right or top == bottom:
            wrong = f"--regions: '{':'.join(map(str, self))}' holds no pixel of --image_size={side}"
            raise UserError(f"{wrong}: make it larger")
        return edges

    def matrices(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Matrices that cut and resample an input of `side` pixels.

        Returns:
          float32 [height, side] and [width, side], the weights of rows and of columns.
        """
        left, top, right, bottom = self.edges(side)
        pixels = np.eye(side, dtype=np.float32)
        scale = self.side / max(right - left, bottom - top)
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR

        def cut(first: int, last: int) -> np.ndarray:
            size = max(1, round(scale * (last - first)))
            return cv2.resize(pixels[first:last], (side, size), interpolation=method)

        return cut(top, bottom), cut(left, right)


def parse_regions(text: str | None) -> list[Region]:
    """Parses --regions, such as '0:0:1:1:48,0.2:0.3:0.8:0.5:32'.

    Raises:
      UserError: a region is none.
    """
    return [_parse_region(part) for part in text.split(",")] if text else []


def _parse_region(text: str) -> Region:
    try:
        left, top, right, bottom, side = text.split(":")
        region = Region(float(left), float(top), float(right), float(bottom), int(side))
    except ValueError:
        wrong = f"--regions: '{text}' is not left:top:right:bottom:side"
        raise UserError(f"{wrong}, such as 0.2:0.3:0.8:0.5:32") from None
    across = 0 <= region.left < region.right <= 1
    down = 0 <= region.top < region.bottom <= 1
    if not (across and down and 8 <= region.side <= 1024):
        raise UserError(
            f"--regions: '{text}' needs edges from 0 to 1, the first ones smaller, and a side from "
            "8 to 1024"
        )
    return region


class TakeRegion(tf_keras.layers.Layer):
    """Cuts a region out of images and resamples it: by area averages to a smaller one."""

    def __init__(self, region: Region | Sequence, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.region = Region(*region)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """images: float [n, side, side, channels]."""
        side, channels = images.shape[2], images.shape[3]
        rows, columns = self.region.matrices(side)
        # A product of matrices: every format that fv.export writes has it.
        cut = tf.matmul(rows, tf.reshape(images, (-1, side, side * channels)))
        return tf.matmul(columns, tf.reshape(cut, (-1, len(rows), side, channels)))

    def get_config(self) -> dict:
        return {**super().get_config(), "region": tuple(self.region)}


class AddMirrorImages(tf_keras.layers.Layer):
    """Puts the mirror images behind the images of a batch, but not in training."""

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """images: float [n, side, side, channels]."""
        if training:
            return images
        mirrored = tf.gather(images, np.arange(images.shape[2])[::-1].copy(), axis=2)
        return tf.concat([images, mirrored], axis=0)


class MergeMirrorImages(tf_keras.layers.Layer):
    """Adds the embeddings of images and of their mirror images, to unit length."""

    def call(self, embeddings: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """embeddings: float32 [2n, d], as of `AddMirrorImages`; [n, d] in training."""
        if training:
            return embeddings
        return tf.math.l2_normalize(tf.add(*tf.split(embeddings, 2)), axis=1)
