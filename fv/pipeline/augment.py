"""Augmentation in the step, on the device: stateless, a pure function of (seed, step) and the place in the global batch."""

import dataclasses

import tensorflow as tf

from fv import addons
from fv.options import option

_DRAWS = 8  # uniform numbers per image; the columns are named where they are used


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """What training images go through; strengths of 0 (min_scale of 1) leave them as they are."""

    augment: bool = option(True, "Augment training images on the device.")
    flip: bool = option(True, "Mirror half of the training images left to right.")
    min_scale: float = option(0.85, "Random crops keep this to 1.0 of the side, (0, 1].", lower=0.05, upper=1.0)
    brightness: float = option(0.15, "Add up to ± this times 255 to the pixels, [0, 1].", lower=0.0, upper=1.0)
    contrast: float = option(0.2, "Stretch pixels around their image's mean by 1 ± this, [0, 1].", lower=0.0, upper=1.0)
    cutout: float = option(
        0.0, "Blank a square of this times the side, [0, 1); needs tensorflow-addons.", lower=0.0, upper=0.99
    )


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
    return tf.random.stateless_uniform((images, _DRAWS), seed=tf.stack([seed, tf.cast(step, tf.int32)]))


def resize(images: tf.Tensor, side: int) -> tf.Tensor:
    """Brings pairs of images, uint8 [n, 2, any side, any side, 3], to `side`: float32 where that is another, else as is."""
    if images.shape[2] == side:
        return images
    flat = tf.reshape(images, (-1, *images.shape[2:]))
    return tf.reshape(tf.image.resize(flat, (side, side)), (-1, 2, side, side, images.shape[-1]))


def apply(images: tf.Tensor, draws: tf.Tensor, options: AugmentOptions, side: int | None = None) -> tf.Tensor:
    """Augments a batch.

    Args:
      images: uint8 or float [n, any side, any side, 3], values 0 to 255.
      draws: float32 [n, draws] in [0, 1), rows of what `draw` returned.
      options: what to apply.
      side: of the result in pixels; that of the images by default. The crop's resampling brings them to it.

    Returns:
      float32 [n, side, side, 3]; colour may leave [0, 255] by the strengths of brightness and contrast.
    """
    columns = tf.unstack(draws, axis=1)
    images = _crop_and_flip(images, columns[0:4], options, side or images.shape[1])
    images = _colour(images, columns[4:6], options)
    return _cutout(images, columns[6:8], options) if options.cutout else images


def _crop_and_flip(images: tf.Tensor, columns: list[tf.Tensor], options: AugmentOptions, side: int) -> tf.Tensor:
    """One resampling for crop, size and mirror: `crop_and_resize` mirrors a box whose left lies right of its right."""
    scale, top, left, mirror = columns
    scale = options.min_scale + (1.0 - options.min_scale) * scale
    top, left = top * (1.0 - scale), left * (1.0 - scale)
    right = left + scale
    mirrored = tf.logical_and(mirror < 0.5, options.flip)
    boxes = tf.stack([top, tf.where(mirrored, right, left), top + scale, tf.where(mirrored, left, right)], axis=1)
    return tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), (side, side))


def _colour(images: tf.Tensor, columns: list[tf.Tensor], options: AugmentOptions) -> tf.Tensor:
    shift, stretch = (_per_image(2.0 * column - 1.0) for column in columns)
    mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
    stretched = mean + (images - mean) * (1.0 + options.contrast * stretch)
    return stretched + 255.0 * options.brightness * shift


def _cutout(images: tf.Tensor, columns: list[tf.Tensor], options: AugmentOptions) -> tf.Tensor:
    side = images.shape[1]
    mask = max(2, 2 * round(options.cutout * side / 2))  # tensorflow-addons takes even sizes
    offsets = tf.cast(tf.stack(columns, axis=1) * side, tf.int32)
    return addons.cutout(images, mask_size=mask, offset=offsets)


def _per_image(column: tf.Tensor) -> tf.Tensor:
    return column[:, tf.newaxis, tf.newaxis, tf.newaxis]
