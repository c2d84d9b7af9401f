"""Augmentation of images in the training step, on the device.

It is stateless: a pure function of (seed, step) and the image's place in the global batch.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from fv import addons
from fv.options import option

_DRAWS = 12  # uniform numbers per image; `augment` and its helpers name the columns
_LUMA = (0.299, 0.587, 0.114)  # of R, G and B, ITU-R BT.601
_FINEST_STEPS = 0.02  # factor on JPEG's tables, quality 99: 0 would divide by 0
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # approximates a Gaussian of 1 pixel
_BLOCK = 8  # side in pixels of the squares that JPEG transforms
# Tables K.1 and K.2 of ITU-T T.81 (JPEG): quantisation steps at quality 50.
_LUMINANCE_STEPS = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101
72 92 95 98 112 100 103 99"""
_CHROMINANCE_STEPS = """
17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""
# RGB → Y, Cb, Cr as in JFIF, without the offset of 128.
_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """How training images are augmented; strengths of 0 and scales of 1 change nothing."""

    augment: bool = option(True, "Augment training images on the device.")
    flip: bool = option(True, "Mirror half of the training images left to right.")
    scale: tuple[float, float] = option(
        (0.85, 1.0),
        "A,B: side of random crops, as a multiple of the side that evaluation sees. With B over "
        "1, faces are on average as large as in evaluation. A in (0, 1]; B in [1, 2], at most 1 "
        "/ --crop_fraction.",
        lower=(0.05, 1.0),
        upper=(1.0, 2.0),
    )
    color_jitter: tuple[float, float, float] = option(
        (0.15, 0.2, 0.0),
        "A,B,C, each in [0, 1]: brightness, add up to ± A × 255; contrast, scale around the "
        "image's mean by 1 ± B; saturation, scale around grey by 1 ± C.",
        lower=(0.0, 0.0, 0.0),
        upper=(1.0, 1.0, 1.0),
    )
    rotation: float = option(
        0.0, "Rotate by up to ± this many degrees, in [0, 45].", lower=0.0, upper=45.0
    )
    degrade: float = option(
        0.0,
        "Blur by up to this share of a Gaussian of one pixel, and round as JPEG does, with up "
        "to twice this times its tables of quality 50 (0.5 gives quality 50, 1 gives 25); in "
        "[0, 1].",
        lower=0.0,
        upper=1.0,
    )
    cutout: float = option(
        0.0,
        "Side of a blank square, as a fraction of the image's side, in [0, 1); needs "
        "tensorflow-addons.",
        lower=0.0,
        upper=0.99,
    )

    @property
    def reach(self) -> float:
        """Side that a training image needs over the side that evaluation sees."""
        return self.scale[1] if self.augment else 1.0


def draw_randomness(
    options: AugmentOptions, images: int, seed: int, step: tf.Tensor
) -> tf.Tensor | None:
    """Draws the randomness of a step.

    It is that of the whole global batch, of which each replica applies its own rows: it does not
    depend on the number of replicas.

    Args:
      options: what will be applied.
      images: number of images in the global batch.
      seed: of the run.
      step: int scalar, the training step.

    Returns:
      float32 [images, draws] in [0, 1); None where `options.augment` is off.
    """
    if not options.augment:
        return None
    return tf.random.stateless_uniform(
        (images, _DRAWS), seed=tf.stack([seed, tf.cast(step, tf.int32)])
    )


def draw_mixing(pairs: int, seed: int, step: tf.Tensor) -> tf.Tensor:
    """As `draw_randomness`, for `mix_pairs`: float32 [pairs of the global batch, 3] in [0, 1)."""
    seeds = tf.stack([seed, tf.cast(step, tf.int32)])
    return tf.random.stateless_uniform(
        (pairs, 3), tf.random.experimental.stateless_fold_in(seeds, 1)
    )


def mix_pairs(images: tf.Tensor, draws: tf.Tensor, share: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Blends both images of some pairs with those of the next pair, and the last with the first.

    Source: Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018, with uniform weights.

    Args:
      images: uint8 or float [n, 2, side, side, 3], of one replica.
      draws: float32 [n, 3] in [0, 1), rows of what `draw_mixing` returned: whether a pair is
        blended, and the weight of each of its images.
      share: of the pairs that are blended, [0, 1].

    Returns:
      The images, float32, and which pairs are blended, bool [n].
    """
    images, mixed = tf.cast(images, tf.float32), draws[:, 0] < share
    weights = tf.where(mixed[:, tf.newaxis], draws[:, 1:], 1.0)
    others = tf.roll(images, shift=-1, axis=0)
    return others + tf.reshape(weights, (-1, 2, 1, 1, 1)) * (images - others), mixed


def resize(images: tf.Tensor, side: int) -> tf.Tensor:
    """Resizes pairs of images, uint8 [n, 2, any side, any side, 3], to `side`.

    Returns:
      float32; the images as they are where they have that side.
    """
    if images.shape[2] == side:
        return images
    flat = tf.reshape(images, (-1, *images.shape[2:]))
    return tf.reshape(tf.image.resize(flat, (side, side)), (-1, 2, side, side, images.shape[-1]))


def augment(
    images: tf.Tensor, draws: tf.Tensor, options: AugmentOptions, side: int | None = None
) -> tf.Tensor:
    """Crops, mirrors and rotates a batch of images, then changes colours, degrades and cuts out.

    Args:
      images: uint8 or float [n, any side, any side, 3], values 0 to 255; they show `options.reach`
        times the side that evaluation sees.
      draws: float32 [n, draws] in [0, 1), rows of what `draw_randomness` returned.
      options: what to apply.
      side: of the result in pixels, to which the crop resamples; that of the images by default.

    Returns:
      float32 [n, side, side, 3]; colour changes may leave [0, 255].
    """
    columns = tf.unstack(draws, axis=1)
    images = _crop(images, columns[0:4], columns[9], options, side or images.shape[1])
    images = _colour(images, [*columns[4:6], columns[8]], options)
    if options.degrade:
        images = blur(images, options.degrade * columns[10])
        images = quantise_jpeg(images, _FINEST_STEPS + 2.0 * options.degrade * columns[11])
    return _cutout(images, columns[6:8], options) if options.cutout else images


def _crop(
    images: tf.Tensor,
    columns: list[tf.Tensor],
    angle: tf.Tensor,
    options: AugmentOptions,
    side: int,
) -> tf.Tensor:
    scale, top, left, mirror = columns
    least = options.scale[0] / options.scale[1]
    scale = least + (1.0 - least) * scale
    mirrored = tf.logical_and(mirror < 0.5, options.flip)
    radians = math.radians(options.rotation) * (2.0 * angle - 1.0)
    window = Window(scale, top * (1.0 - scale), left * (1.0 - scale), mirrored, radians)
    return (crop_rotated_windows if options.rotation else crop_windows)(images, window, side)


@dataclasses.dataclass(frozen=True)
class Window:
    """The part of each image of a batch that is kept, float32 [n] each.

    Attributes:
      scale: side of the kept square over the image's, (0, 1].
      top: its upper edge over the image's side, in [0, 1 − scale].
      left: its left edge, alike.
      mirrored: bool [n], whether left and right change places.
      angle: by which what is kept is turned around its centre, radians.
    """

    scale: tf.Tensor
    top: tf.Tensor
    left: tf.Tensor
    mirrored: tf.Tensor
    angle: tf.Tensor


def crop_windows(images: tf.Tensor, window: Window, side: int) -> tf.Tensor:
    """Samples the windows bilinearly, without their rotation; corners map to corners.

    Args:
      images: uint8 or float [n, any side, any side, 3].
      window: what is kept.
      side: of the result in pixels.

    Returns:
      float32 [n, side, side, 3].
    """
    right = window.left + window.scale
    # A box whose left lies right of its right is mirrored.
    edges = (
        tf.where(window.mirrored, right, window.left),
        tf.where(window.mirrored, window.left, right),
    )
    boxes = tf.stack([window.top, edges[0], window.top + window.scale, edges[1]], axis=1)
    return tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), (side, side))


def crop_rotated_windows(images: tf.Tensor, window: Window, side: int) -> tf.Tensor:
    """As `crop_windows`, with the rotation, at three times its cost; edges are reflected."""
    last = images.shape[1] - 1.0
    # In the image, between two pixels of the result.
    step = window.scale * last / (side - 1.0)
    cosine, sine = step * tf.cos(window.angle), step * tf.sin(window.angle)
    across = tf.where(window.mirrored, -1.0, 1.0)
    middle = (side - 1.0) / 2.0
    x, y = ((edge + window.scale / 2.0) * last for edge in (window.left, window.top))
    rows = [(across * cosine, -sine, x), (across * sine, cosine, y)]
    transforms = [part for a, b, centre in rows for part in (a, b, centre - middle * (a + b))]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=tf.stack([*transforms, tf.zeros_like(x), tf.zeros_like(x)], axis=1),
        output_shape=(side, side),
        interpolation="BILINEAR",
        fill_mode="REFLECT",
        fill_value=0.0,
    )


def _colour(images: tf.Tensor, columns: list[tf.Tensor], options: AugmentOptions) -> tf.Tensor:
    brightness, contrast, saturation = options.color_jitter
    shift, stretch, vivid = (
        (2.0 * column - 1.0)[:, tf.newaxis, tf.newaxis, tf.newaxis] for column in columns
    )
    mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
    images = mean + (images - mean) * (1.0 + contrast * stretch)
    if saturation:
        grey = tf.reduce_sum(images * tf.constant(_LUMA), axis=-1, keepdims=True)
        images = grey + (images - grey) * (1.0 + saturation * vivid)
    return images + 255.0 * brightness * shift


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


def quantise_jpeg(images: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """Quantises as JPEG does: rounds the cosine coefficients of each 8 × 8 block.

    The chroma is not subsampled.

    Args:
      images: float32 [n, side, side, 3], RGB, values 0 to 255.
      steps: float32 [n], factor on the tables at quality 50, > 0: 0.2 is quality 90, 2 is 25.

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
    """The quantisation steps of Y, Cb and Cr, [8, 8, 3]."""
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


def _cutout(images: tf.Tensor, columns: list[tf.Tensor], options: AugmentOptions) -> tf.Tensor:
    side = images.shape[1]
    mask = max(2, 2 * round(options.cutout * side / 2))  # tensorflow-addons takes even sizes
    offsets = tf.cast(tf.stack(columns, axis=1) * side, tf.int32)
    return addons.cutout(images, mask_size=mask, offset=offsets)
