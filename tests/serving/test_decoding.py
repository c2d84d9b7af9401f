import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from benchmarks import hostile_images as hostile
from fv import image_ops
from fv.errors import UserError
from fv.serving import decoding
from tests import conformance, samples
from tests.serving import making

SIDE = 32
RULES = decoding.DecodingRules(image_size=SIDE, crop_fraction=0.9, max_pixels=1_000_000)


@pytest.fixture(scope="module")
def load():
    loader = decoding.batch_loader(RULES)

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
        image_ops.jpeg_to_input(tf.constant(data), SIDE, RULES.crop_fraction).numpy()
        for data in batch
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


COUNT = 400


@pytest.fixture(scope="module")
def mutants():
    return list(hostile.mutate([file.data for file in conformance.files()], COUNT, seed=7))


def test_every_mutant_gets_a_verdict_or_one_line(verifier, mutants):
    good = samples.image_bytes(12, 0)
    verdicts = errors = 0
    for mutant in mutants:
        try:
            assert 0 <= verifier.verify(mutant, good).similarity <= 1
            verdicts += 1
        except UserError as error:
            assert "\n" not in str(error) and str(error).startswith(
                f"an image of {len(mutant):,} bytes"
            )
            errors += 1
    assert verdicts + errors == COUNT and verdicts > COUNT / 20 and errors > COUNT / 5


def test_a_batch_of_mutants_fails_by_the_place_of_the_first_bad_one(model, mutants):
    embed = model.signatures["embed"]
    good = samples.image_bytes(12, 0)
    alone = embed(image=tf.constant([good]))["embedding"]
    for place, mutant in enumerate(mutants[:16]):
        batch = [good] * 16
        batch[place] = mutant
        try:
            found = embed(image=tf.constant(batch))["embedding"].numpy()
        except tf.errors.InvalidArgumentError as error:
            assert f"image[{place}] " in str(error)
        else:
            others = np.delete(found, place, axis=0)
            np.testing.assert_allclose(others, np.repeat(alone, 15, axis=0), atol=1e-5)
