import io
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fv.pipeline import degrade

FACE = sorted((pathlib.Path(__file__).parents[2] / "data").glob("*/*/*.jpg"))[0]
SIDE = 45  # no multiple of a block's 8


def face() -> np.ndarray:
    return np.asarray(Image.open(FACE).resize((SIDE, SIDE))).astype(np.float32)


def test_a_blur_of_nothing_is_the_image_and_a_whole_one_keeps_its_mean():
    images = tf.constant(np.stack([face(), face()]))
    result = degrade.blur(images, tf.constant([0.0, 1.0])).numpy()
    np.testing.assert_allclose(result[0], face(), atol=1e-3)
    assert abs(result[1].mean() - face().mean()) < 0.5
    assert np.abs(np.diff(result[1], axis=0)).mean() < 0.8 * np.abs(np.diff(face(), axis=0)).mean()


def test_a_blurred_point_is_the_binomial_kernel():
    point = np.zeros((1, 9, 9, 3), np.float32)
    point[0, 4, 4] = 256.0
    result = degrade.blur(tf.constant(point), tf.constant([1.0])).numpy()[0, 2:7, 2:7, 0]
    np.testing.assert_allclose(result, np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]), atol=1e-3)


@pytest.mark.parametrize(("quality", "steps"), [(50, 1.0), (25, 2.0)])
def test_quantising_is_what_a_jpeg_encoder_without_subsampling_does(quality, steps):
    buffer = io.BytesIO()
    Image.fromarray(face().astype(np.uint8)).save(buffer, "JPEG", quality=quality, subsampling=0)
    encoded = np.asarray(Image.open(buffer), np.float32)
    result = np.clip(
        degrade.quantise(tf.constant(face()[np.newaxis]), tf.constant([steps]))[0], 0, 255
    )
    whole = slice(0, SIDE // 8 * 8)  # an encoder fills the last blocks in its own way
    difference, loss = (np.abs(encoded - other)[whole, whole].mean() for other in (result, face()))
    # libjpeg rounds every pixel and colour to an integer on both ways, so single coefficients fall to another side.
    assert result.shape == encoded.shape and difference < 0.25 * loss
