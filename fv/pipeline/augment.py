"""Augmentation in the step, on the device: stateless, a pure function of (seed, step) and the place in the global batch."""

import dataclasses
import math

import tensorflow as tf

from fv import addons
from fv.options import option
from fv.pipeline import degrade, warp

_DRAWS = 12  # uniform numbers per image; the columns are named where they are used
_LUMA = (0.299, 0.587, 0.114)  # of R, G and B, ITU-R BT.601
_FINEST_STEPS = 0.02  # of JPEG's tables, quality 99: 0 would divide by nothing


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """What training images go through; strengths of 0 (scales of 1) leave them as they are."""

    augment: bool = option(True, "Augment training images on the device.")
    flip: bool = option(True, "Mirror half of the training images left to right.")
    scale: tuple[float, float] = option(
        (0.85, 1.0),
        "A,B: random crops keep from A to B times the side that evaluation sees. Over 1, crops reach beyond that side, so "
        "that faces are in the middle as large as in evaluation. A in (0, 1]; B in [1, 2], at most 1 / --crop_fraction.",
        lower=(0.05, 1.0),
        upper=(1.0, 2.0),
    )
    color_jitter: tuple[float, float, float] = option(
        (0.15, 0.2, 0.0),
        "A,B,C: brightness, add up to ± A times 255 to the pixels; contrast, stretch them around their image's mean by "
        "1 ± B; saturation, stretch colours around grey by 1 ± C; each in [0, 1].",
        lower=(0.0, 0.0, 0.0),
        upper=(1.0, 1.0, 1.0),
    )
    rotation: float = option(
        0.0, "Turn by up to ± this many degrees, [0, 45].", lower=0.0, upper=45.0
    )
    degrade: float = option(
        0.0,
        "Blur up to this share of a Gaussian of one pixel, and round as JPEG does, by up to twice this times its tables at "
        "quality 50: 0.5 is 50, 1 is 25; [0, 1].",
        lower=0.0,
        upper=1.0,
    )
    cutout: float = option(
        0.0,
        "Blank a square of this times the side, [0, 1); needs tensorflow-addons.",
        lower=0.0,
        upper=0.99,
    )

    @property
    def reach(self) -> float:
        """Side that a training image needs over the side that evaluation sees."""
        return self.scale[1] if self.augment else 1.0


def draw(options: AugmentOptions, images: int, seed: int, step: tf.Tensor) -> tf.Tensor | None:
    """Draws the randomness of a step's whole global batch, so that it does not depend on the number of replicas.

    Args:
      options: what will be applied.
      images: images in the global batch.
      seed: of the run.
      step: int scalar, the training step.

    Returns:
      float32 [images, draws] in [0, 1), None where `options.augment` is off; each replica applies its own rows.
    """
    if not options.augment:
        return None
    return tf.random.stateless_uniform(
        (images, _DRAWS), seed=tf.stack([seed, tf.cast(step, tf.int32)])
    )


def resize(images: tf.Tensor, side: int) -> tf.Tensor:
    """Brings pairs of images, uint8 [n, 2, any side, any side, 3], to `side`: float32 where that is another, else as is."""
    if images.shape[2] == side:
        return images
    flat = tf.reshape(images, (-1, *images.shape[2:]))
    return tf.reshape(tf.image.resize(flat, (side, side)), (-1, 2, side, side, images.shape[-1]))


def apply(
    images: tf.Tensor, draws: tf.Tensor, options: AugmentOptions, side: int | None = None
) -> tf.Tensor:
    """Augments a batch.

    Args:
      images: uint8 or float [n, any side, any side, 3], values 0 to 255, `options.reach` times what evaluation sees.
      draws: float32 [n, draws] in [0, 1), rows of what `draw` returned.
      options: what to apply.
      side: of the result in pixels; that of the images by default. The crop's resampling brings them to it.

    Returns:
      float32 [n, side, side, 3]; colour may leave [0, 255] by the strengths of brightness, contrast and saturation.
    """
    columns = tf.unstack(draws, axis=1)
    images = _crop(images, columns[0:4], columns[9], options, side or images.shape[1])
    images = _colour(images, columns[4:6], columns[8], options)
    if options.degrade:
        images = degrade.blur(images, options.degrade * columns[10])
        images = degrade.quantise(images, _FINEST_STEPS + 2.0 * options.degrade * columns[11])
    return _cutout(images, columns[6:8], options) if options.cutout else images


def _crop(
    images: tf.Tensor, columns: list[tf.Tensor], turn: tf.Tensor, options: AugmentOptions, side: int
) -> tf.Tensor:
    scale, top, left, mirror = columns
    least = options.scale[0] / options.scale[1]
    scale = least + (1.0 - least) * scale
    mirrored = tf.logical_and(mirror < 0.5, options.flip)
    angle = math.radians(options.rotation) * (2.0 * turn - 1.0)
    window = warp.Window(scale, top * (1.0 - scale), left * (1.0 - scale), mirrored, angle)
    return (warp.crop_turned if options.rotation else warp.crop)(images, window, side)


def _colour(
    images: tf.Tensor, columns: list[tf.Tensor], vividness: tf.Tensor, options: AugmentOptions
) -> tf.Tensor:
    brightness, contrast, saturation = options.color_jitter
    shift, stretch, vivid = (_per_image(2.0 * column - 1.0) for column in (*columns, vividness))
    mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
    images = mean + (images - mean) * (1.0 + contrast * stretch)
    if saturation:
        grey = tf.reduce_sum(images * tf.constant(_LUMA), axis=-1, keepdims=True)
        images = grey + (images - grey) * (1.0 + saturation * vivid)
    return images + 255.0 * brightness * shift


def _cutout(images: tf.Tensor, columns: list[tf.Tensor], options: AugmentOptions) -> tf.Tensor:
    side = images.shape[1]
    mask = max(2, 2 * round(options.cutout * side / 2))  # tensorflow-addons takes even sizes
    offsets = tf.cast(tf.stack(columns, axis=1) * side, tf.int32)
    return addons.cutout(images, mask_size=mask, offset=offsets)


def _per_image(column: tf.Tensor) -> tf.Tensor:
    return column[:, tf.newaxis, tf.newaxis, tf.newaxis]
