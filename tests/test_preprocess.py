import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fv import preprocess

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_jpeg_at_its_own_size_is_bit_exact_with_pillow():
    data = encoded(PIXELS[:, 8:32], "JPEG", quality=95)
    np.testing.assert_array_equal(preprocess.load_jpeg(data, 24, 1.0), decoded(data))


def test_the_centre_square_of_the_shorter_side_is_kept():
    data = encoded(PIXELS, "PNG")
    np.testing.assert_array_equal(preprocess.load_image(data, 24, 1.0), PIXELS[:, 8:32])
    np.testing.assert_array_equal(preprocess.load_image(data, 12, 0.5), PIXELS[6:18, 14:26])


def test_halving_the_side_averages_two_by_two_pixels():
    square = PIXELS[:, :24]
    blocks = square.reshape(12, 2, 12, 2, 3).mean(axis=(1, 3))
    result = preprocess.load_image(encoded(square, "PNG"), 12, 1.0).numpy()
    assert np.abs(result - blocks).max() <= 0.5


@pytest.mark.parametrize("fraction", [1.0, 0.6])
def test_load_image_and_load_jpeg_agree_on_jpegs(fraction):
    data = encoded(PIXELS, "JPEG")
    np.testing.assert_array_equal(preprocess.load_image(data, 16, fraction), preprocess.load_jpeg(data, 16, fraction))


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "JPEG"])
def test_every_served_format_gives_the_asked_shape(form):
    result = preprocess.load_image(encoded(PIXELS, form), 16, 1.0)
    assert result.shape == (16, 16, 3) and result.dtype == tf.uint8


def test_grey_images_get_three_equal_channels():
    for form in ("JPEG", "PNG"):
        result = preprocess.load_image(encoded(PIXELS[..., 0], form), 16, 1.0).numpy()
        np.testing.assert_array_equal(result[..., 0], result[..., 2])


def test_the_same_pixels_come_out_eagerly_and_inside_tf_data():
    data = encoded(PIXELS, "JPEG")
    mapped = tf.data.Dataset.from_tensors(data).map(lambda image: preprocess.load_jpeg(image, 16, 0.8))
    np.testing.assert_array_equal(next(iter(mapped)), preprocess.load_jpeg(data, 16, 0.8))


@pytest.mark.parametrize("data", [b"", b"no image", encoded(PIXELS, "JPEG")[:300], encoded(PIXELS, "PNG")[:60]])
def test_what_is_no_whole_image_raises(data):
    with pytest.raises(tf.errors.InvalidArgumentError):
        preprocess.load_image(data, 16, 1.0)
