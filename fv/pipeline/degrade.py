"""What cameras and cheap storage do to a face: blur and JPEG's quantisation, on any device, by plain matrix products."""

import math

import numpy as np
import tensorflow as tf

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # a Gaussian of 1 pixel
_BLOCK = 8  # side in pixels of the squares that JPEG transforms
# Tables K.1 and K.2 of ITU-T T.81 (JPEG): the quantisation steps of luminance and chrominance at quality 50.
_LUMINANCE_STEPS = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
_CHROMINANCE_STEPS = """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""
# RGB → Y, Cb, Cr as JFIF has it, without the offset of 128.
_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def blur(images: tf.Tensor, amounts: tf.Tensor) -> tf.Tensor:
    """Mixes each image with itself blurred by a Gaussian of one pixel.

    Args:
      images: float32 [n, side, side, 3].
      amounts: float32 [n], the blurred image's share, [0, 1].

    Returns:
      float32 [n, side, side, 3].
    """
    kernel = np.multiply.outer(_BINOMIAL, _BINOMIAL)[:, :, np.newaxis, np.newaxis]
    margin = len(_BINOMIAL) // 2
    padded = tf.pad(images, [(0, 0), (margin, margin), (margin, margin), (0, 0)], "REFLECT")
    blurred = tf.nn.depthwise_conv2d(
        padded, tf.constant(np.tile(kernel, (1, 1, 3, 1)), tf.float32), (1, 1, 1, 1), "VALID"
    )
    return images + amounts[:, tf.newaxis, tf.newaxis, tf.newaxis] * (blurred - images)


def quantise(images: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """JPEG's loss: each 8 × 8 block's cosine coefficients rounded to multiples of its tables, times a factor.

    Args:
      images: float32 [n, side, side, 3], RGB, values 0 to 255.
      steps: float32 [n], the factor on the tables at quality 50, > 0: 0.2 is quality 90, 1 is 50, 2 is 25. The chroma is
        not subsampled.

    Returns:
      float32 [n, side, side, 3].
    """
    side = images.shape[1]
    beyond = -side % _BLOCK
    padded = tf.pad(images - 128.0, [(0, 0), (0, beyond), (0, beyond), (0, 0)], "SYMMETRIC")
    blocks = (side + beyond) // _BLOCK
    cells = tf.reshape(padded, (-1, blocks, _BLOCK, blocks, _BLOCK, 3))
    cosines = tf.constant(_cosines(), tf.float32)
    colours = tf.constant(_TO_YCBCR, tf.float32)
    coefficients = tf.einsum(
        "nibjcr,ub,vc,kr->nijuvk", cells, cosines, cosines, colours, optimize="greedy"
    )
    table = tf.constant(_tables(), tf.float32) * tf.reshape(steps, (-1, 1, 1, 1, 1, 1))
    rounded = tf.round(coefficients / table) * table
    back = tf.constant(np.linalg.inv(_TO_YCBCR), tf.float32)
    pixels = tf.einsum(
        "nijuvk,ub,vc,rk->nibjcr", rounded, cosines, cosines, back, optimize="greedy"
    )
    return tf.reshape(pixels, tf.shape(padded))[:, :side, :side] + 128.0


def _tables() -> np.ndarray:
    """The steps of Y, Cb and Cr, [8, 8, 3]."""
    luminance, chrominance = (
        np.array(text.split(), np.float32).reshape(_BLOCK, _BLOCK)
        for text in (_LUMINANCE_STEPS, _CHROMINANCE_STEPS)
    )
    return np.stack([luminance, chrominance, chrominance], axis=-1)


def _cosines() -> np.ndarray:
    """The orthonormal cosine transform of 8 numbers, [8 frequencies, 8 places]."""
    places = np.arange(_BLOCK) + 0.5
    waves = np.cos(np.pi / _BLOCK * np.arange(_BLOCK)[:, np.newaxis] * places) * math.sqrt(
        2 / _BLOCK
    )
    waves[0] /= math.sqrt(2)
    return waves
