import io
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fv import image_ops, jpeg_loader
from tests import samples

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_jpeg_at_its_own_size_is_bit_exact_with_pillow():
    data = encoded(PIXELS[:, 8:32], "JPEG", quality=95)
    np.testing.assert_array_equal(image_ops.jpeg_to_input(data, 24, 1.0), decoded(data))


def test_the_centre_square_of_the_shorter_side_is_kept():
    data = encoded(PIXELS, "JPEG", quality=95)
    np.testing.assert_array_equal(image_ops.jpeg_to_input(data, 24, 1.0), decoded(data)[:, 8:32])
    np.testing.assert_array_equal(
        image_ops.jpeg_to_input(data, 12, 0.5), decoded(data)[6:18, 14:26]
    )


def test_halving_the_side_averages_two_by_two_pixels():
    data = encoded(PIXELS[:, :24], "JPEG", quality=95)
    blocks = decoded(data).reshape(12, 2, 12, 2, 3).mean(axis=(1, 3))
    assert np.abs(image_ops.jpeg_to_input(data, 12, 1.0).numpy() - blocks).max() <= 0.5


@pytest.mark.parametrize("size", [6, 9, 12])
def test_at_half_the_side_or_less_every_pixel_counts_by_its_area(size):
    pixels = np.random.default_rng(5).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    data = encoded(pixels, "JPEG", quality=95, subsampling=0)
    fine = (
        decoded(data).repeat(size, axis=0).repeat(size, axis=1)
    )  # 24 · size is a multiple of both sides
    blocks = fine.reshape(size, 24, size, 24, 3).mean(axis=(1, 3))
    for loaded in (image_ops.jpeg_to_input(data, size, 1.0).numpy(), on_host(data, size, 1.0)):
        assert np.abs(loaded - blocks).max() <= 0.501


def test_grey_images_get_three_equal_channels():
    result = image_ops.jpeg_to_input(encoded(PIXELS[..., 0], "JPEG"), 16, 1.0).numpy()
    np.testing.assert_array_equal(result[..., 0], result[..., 2])


def test_the_same_pixels_come_out_eagerly_and_inside_tf_data():
    data = encoded(PIXELS, "JPEG")
    mapped = tf.data.Dataset.from_tensors(data).map(
        lambda image: image_ops.jpeg_to_input(image, 16, 0.8)
    )
    np.testing.assert_array_equal(next(iter(mapped)), image_ops.jpeg_to_input(data, 16, 0.8))


@pytest.mark.parametrize(
    "data", [b"", b"no image", encoded(PIXELS, "JPEG")[:300], encoded(PIXELS, "PNG")]
)
def test_what_is_no_whole_jpeg_raises(data):
    with pytest.raises(tf.errors.InvalidArgumentError):
        image_ops.jpeg_to_input(data, 16, 1.0)


def on_host(data: bytes, size: int, fraction: float) -> np.ndarray:
    result = np.empty((size, size, 3), np.uint8)
    image_ops.load_on_host(data, fraction, result)
    return result


FORMS = {
    "4:4:4": dict(subsampling=0),
    "4:2:2": dict(subsampling=1),
    "4:2:0": dict(subsampling=2),
    "progressive": dict(progressive=True, subsampling=2),
    "coarse": dict(quality=20),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(24, 24), (41, 41), (23, 40), (51, 37)])
def test_both_decoders_give_the_same_pixels_bit_for_bit(form, shape):
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for image in (pixels, pixels[..., 0]):
        data, side = encoded(image, "JPEG", **FORMS[form]), min(shape)
        np.testing.assert_array_equal(
            on_host(data, side, 1.0), image_ops.jpeg_to_input(data, side, 1.0)
        )


def test_a_crop_is_bit_for_bit_the_middle_of_the_whole_image():
    for fraction, side in ((0.5, 18), (0.77, 28), (0.35, 13)):
        data = encoded(
            np.random.default_rng(2).integers(0, 256, (51, 37, 3), dtype=np.uint8),
            "JPEG",
            subsampling=2,
        )
        top, left, _ = jpeg_loader.centre_square(51, 37, fraction)
        window = decoded(data)[top : top + side, left : left + side]
        for loaded in (
            image_ops.jpeg_to_input(data, side, fraction),
            on_host(data, side, fraction),
        ):
            np.testing.assert_array_equal(loaded, window)


@pytest.mark.parametrize("size", [7, 16, 31, 64])
@pytest.mark.parametrize("fraction", [1.0, 0.77, 0.5])
def test_both_resizes_agree_within_a_level(size, fraction):
    data = encoded(
        np.random.default_rng(2).integers(0, 256, (51, 37, 3), dtype=np.uint8), "JPEG", quality=95
    )
    difference = np.int32(on_host(data, size, fraction)) - np.int32(
        image_ops.jpeg_to_input(data, size, fraction)
    )
    assert np.abs(difference).max() <= samples.RESIZE_TOLERANCE


def test_both_cut_the_same_window_of_any_size():
    cut = tf.function(image_ops.centre_square)  # many times faster than op by op
    for height, width, fraction in itertools.product(
        range(1, 260, 17), range(1, 260, 23), (0.01, 0.35, 0.5, 0.64, 0.999, 1.0)
    ):
        top, left, side = jpeg_loader.centre_square(height, width, fraction)
        graph = cut(tf.constant([height, width]), fraction).numpy()
        assert (top, left, side, side) == tuple(graph)


def test_an_image_larger_than_any_before_grows_the_thread_s_memory():
    pixels = np.random.default_rng(3).integers(0, 256, (700, 650, 3), dtype=np.uint8)
    data = encoded(pixels, "JPEG")
    np.testing.assert_array_equal(on_host(data, 650, 1.0), image_ops.jpeg_to_input(data, 650, 1.0))


def test_images_of_any_size_come_right_behind_one_as_large_as_the_result():
    pixels = np.random.default_rng(4).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for side in (24, 24, 12, 24, 40, 24):
        data = encoded(pixels[:side, :side], "JPEG")
        difference = np.int32(on_host(data, 24, 1.0)) - np.int32(
            image_ops.jpeg_to_input(data, 24, 1.0)
        )
        assert np.abs(difference).max() <= (0 if side == 24 else samples.RESIZE_TOLERANCE)


def test_what_simplejpeg_refuses_is_tensorflow_s_to_decide():
    sound = encoded(PIXELS, "JPEG")
    noisy = (
        sound[:20] + b"\0\0" + sound[20:]
    )  # stray bytes between segments: libjpeg warns and reads on
    np.testing.assert_array_equal(on_host(noisy, 16, 1.0), image_ops.jpeg_to_input(noisy, 16, 1.0))
    for data in (b"", b"no image", sound[:300]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            on_host(data, 16, 1.0)
