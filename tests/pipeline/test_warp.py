import numpy as np
import tensorflow as tf

from fv.pipeline import warp

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)


def window(angle: float, mirrored: bool = False) -> warp.Window:
    scale = np.float32([1.0, 0.7, 0.5])
    edges = (np.float32([0.0, 0.1, 0.5]), np.float32([0.0, 0.3, 0.2]))
    return warp.Window(
        *(tf.constant(values) for values in (scale, *edges)),
        tf.constant([mirrored] * 3),
        tf.constant([angle] * 3, tf.float32),
    )


def test_without_an_angle_both_ways_of_cropping_agree():
    for mirrored in (False, True):
        plain = warp.crop(tf.constant(IMAGES), window(0.0, mirrored), 14)
        np.testing.assert_allclose(
            warp.crop_turned(tf.constant(IMAGES), window(0.0, mirrored), 14), plain, atol=0.01
        )


def test_a_quarter_turn_is_numpy_s():
    result = warp.crop_turned(tf.constant(IMAGES), window(np.pi / 2), 20)[0].numpy()
    np.testing.assert_allclose(result, np.rot90(IMAGES[0], 1), atol=0.05)


def test_a_mirrored_window_is_turned_as_its_image_is():
    plain = warp.crop_turned(tf.constant(IMAGES), window(0.3), 20).numpy()
    mirrored = warp.crop_turned(tf.constant(IMAGES), window(0.3, mirrored=True), 20).numpy()
    np.testing.assert_allclose(mirrored, plain[:, :, ::-1], atol=0.05)
