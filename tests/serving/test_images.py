import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fv import preprocess
from fv.serving import decoding, images
from tests import samples
from tests.serving import making

SIDE = 32
RULES = decoding.Rules(image_size=SIDE, crop_fraction=0.9, max_pixels=1_000_000)


@pytest.fixture(scope="module")
def load():
    loader = images.loader(RULES)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def load_batch(encoded):
        return loader(
            encoded,
            tf.strings.join(["image[", tf.strings.as_string(tf.range(tf.size(encoded))), "]"]),
        )

    return lambda batch: load_batch(tf.constant(batch, tf.string)).numpy()


def test_plain_jpegs_are_loaded_as_in_training_bit_for_bit(load):
    batch = [samples.image_bytes(3, image, side) for image, side in enumerate((SIDE, 40, 100, 228))]
    trained = [
        preprocess.load_jpeg(tf.constant(data), SIDE, RULES.crop_fraction).numpy() for data in batch
    ]
    np.testing.assert_array_equal(load(batch), trained)
    np.testing.assert_array_equal(
        load([*batch, making.encode(making.picture(), "GIF")])[:-1], trained
    )


def test_a_large_image_is_averaged_before_it_is_resized(load):
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    small = noise[:200, :200]
    smooth, rough = (
        load([making.encode(Image.fromarray(pixels), "PNG")])[0].std() for pixels in (noise, small)
    )
    assert smooth < 0.7 * rough


def test_no_image_is_a_batch_too(load):
    assert load([]).shape == (0, SIDE, SIDE, 3)


@pytest.mark.parametrize("kind", making.refused())
def test_what_is_no_sound_image_is_refused_by_its_place_in_the_batch(load, kind):
    encoded, said = making.refused()[kind]
    good = samples.image_bytes(3, 0)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        load([good, good, encoded, good])
    assert f"[image[2] {'is' if said.startswith('is') else 'has'}" in str(
        caught.value
    ) and said in str(caught.value)


def test_an_image_above_the_limit_is_refused_with_both_numbers(load):
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="1200 x 900 pixels, more than the 1 million"
    ):
        load([making.encode(making.picture().resize((1200, 900)), "JPEG")])


def test_a_gif_is_not_unpacked_behind_its_first_frame(load):
    others = [making.picture().rotate(180)] * 3
    gif = making.encode(making.picture(), "GIF", save_all=True, append_images=others)
    np.testing.assert_array_equal(load([gif])[0], load([gif[:-50]])[0])
