"""One resampling for everything that moves pixels: crop, size, mirror and rotation."""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Window:
    """What is kept of each image of a batch, float32 [n] each.

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


def crop(images: tf.Tensor, window: Window, side: int) -> tf.Tensor:
    """Samples the windows bilinearly, without their rotation, corners on corners.

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


def crop_turned(images: tf.Tensor, window: Window, side: int) -> tf.Tensor:
    """As `crop`, with the rotation, at three times its cost; what lies outside an image is its reflection."""
    last = images.shape[1] - 1.0
    step = window.scale * last / (side - 1.0)  # in the image, between two pixels of the result
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
