import numpy as np
import pytest
import tensorflow as tf

from fv import addons
from fv.pipeline import augment
from fv.pipeline.augment import AugmentOptions

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
DRAWS = augment.draw(AugmentOptions(), 1, 0, tf.constant(0)).shape[1]
NOTHING = dict(flip=False, scale=(1.0, 1.0), color_jitter=(0.0, 0.0, 0.0))


def augmented(options: AugmentOptions, seed: int = 0, step: int = 0) -> np.ndarray:
    draws = augment.draw(options, len(IMAGES), seed, tf.constant(step))
    return augment.apply(tf.constant(IMAGES), draws, options).numpy()


def test_strengths_of_zero_leave_images_as_they_are():
    np.testing.assert_allclose(augmented(AugmentOptions(**NOTHING)), IMAGES, atol=1e-3)


def test_augmentation_switched_off_draws_nothing():
    assert augment.draw(AugmentOptions(augment=False), 4, 0, tf.constant(0)) is None


def test_the_same_seed_and_step_repeat_and_others_differ():
    options = AugmentOptions()
    np.testing.assert_array_equal(augmented(options, 1, 2), augmented(options, 1, 2))
    assert np.abs(augmented(options, 1, 2) - augmented(options, 1, 3)).max() > 1
    assert np.abs(augmented(options, 1, 2) - augmented(options, 2, 2)).max() > 1


def test_a_flip_mirrors_left_to_right():
    options = AugmentOptions(**NOTHING | {"flip": True})
    draws = np.full((4, DRAWS), 0.9, np.float32)
    draws[1:3, 3] = 0.1  # the column that decides on the mirror
    result = augment.apply(tf.constant(IMAGES), tf.constant(draws), options).numpy()
    np.testing.assert_allclose(result[1:3], IMAGES[1:3, :, ::-1], atol=1e-3)
    np.testing.assert_allclose(result[[0, 3]], IMAGES[[0, 3]], atol=1e-3)


def test_brightness_shifts_and_contrast_stretches_around_the_mean():
    draws = tf.constant(np.full((4, DRAWS), 1.0, np.float32))
    brighter = augment.apply(
        tf.constant(IMAGES), draws, AugmentOptions(**NOTHING | {"color_jitter": (0.1, 0.0, 0.0)})
    ).numpy()
    np.testing.assert_allclose(brighter, IMAGES + 25.5, atol=1e-2)
    stretched = augment.apply(
        tf.constant(IMAGES), draws, AugmentOptions(**NOTHING | {"color_jitter": (0.0, 0.5, 0.0)})
    ).numpy()
    mean = IMAGES.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(stretched, mean + 1.5 * (IMAGES - mean), atol=1e-2)


def test_crops_stay_inside_the_image():
    result = augmented(AugmentOptions(**NOTHING | {"scale": (0.5, 1.0)}))
    assert result.min() >= IMAGES.min() and result.max() <= IMAGES.max()


def test_a_rotation_turns_around_the_middle_and_stays_within_its_angle():
    options = AugmentOptions(**NOTHING | {"rotation": 30.0})
    draws = np.full((1, DRAWS), 0.5, np.float32)
    draws[0, 9] = 1.0  # the column of the angle: the whole 30 degrees
    point = np.zeros((1, 33, 33, 3), np.float32)
    point[0, 16, 16 + 12] = 255.0  # 12 pixels right of the middle
    result = augment.apply(tf.constant(point), tf.constant(draws), options).numpy()[0, :, :, 0]
    row, column = np.unravel_index(result.argmax(), result.shape)
    angle = np.degrees(np.arctan2(row - 16, column - 16))
    assert abs(np.hypot(row - 16, column - 16) - 12) < 1 and abs(abs(angle) - 30) < 4


def test_saturation_stretches_colours_around_their_grey():
    draws = tf.constant(np.full((4, DRAWS), 1.0, np.float32))
    vivid = augment.apply(
        tf.constant(IMAGES), draws, AugmentOptions(**NOTHING | {"color_jitter": (0.0, 0.0, 0.5)})
    ).numpy()
    grey = (IMAGES @ np.array([0.299, 0.587, 0.114]))[..., np.newaxis]
    np.testing.assert_allclose(vivid, grey + 1.5 * (IMAGES - grey), atol=1e-2)


@pytest.mark.parametrize(
    "strength", [{"degrade": 1.0}, {"rotation": 20.0}, {"color_jitter": (0.0, 0.0, 0.5)}]
)
def test_every_strength_changes_images_and_repeats_with_its_seed(strength):
    options = AugmentOptions(**NOTHING | strength)
    np.testing.assert_array_equal(augmented(options, 1, 2), augmented(options, 1, 2))
    assert np.abs(augmented(options, 1, 2) - IMAGES).max() > 1
    assert np.abs(augmented(options, 1, 2) - augmented(options, 1, 3)).max() > 1


@pytest.mark.skipif(not addons.available(), reason="tensorflow-addons has no wheel for this Python")
def test_cutout_blanks_a_square_and_leaves_the_rest():
    result = augmented(AugmentOptions(**NOTHING | {"cutout": 0.5}))
    blank = np.all(result == 0, axis=-1)
    assert np.all(blank.sum(axis=(1, 2)) > 0) and np.all(blank.sum(axis=(1, 2)) <= 64)
    np.testing.assert_allclose(result[~blank], IMAGES[~blank], atol=1e-3)


def test_images_of_another_side_are_brought_to_the_asked_one_by_the_crop_s_resampling():
    ramp = np.broadcast_to(
        np.linspace(0, 240, 16, dtype=np.float32)[None, None, :, None], (4, 16, 16, 3)
    )
    draws = augment.draw(AugmentOptions(**NOTHING), 4, 0, tf.constant(0))
    result = augment.apply(tf.constant(ramp), draws, AugmentOptions(**NOTHING), side=11).numpy()
    assert result.shape == (4, 11, 11, 3)
    np.testing.assert_allclose(result[0, 0, :, 0], np.linspace(0, 240, 11), atol=1e-3)


def test_without_augmentation_a_plain_resize_brings_pairs_to_the_asked_side():
    pairs = tf.constant(IMAGES.reshape(2, 2, 16, 16, 3))
    assert augment.resize(pairs, 16) is pairs
    resized = augment.resize(pairs, 8).numpy()
    blocks = IMAGES.reshape(2, 2, 8, 2, 8, 2, 3).mean(axis=(3, 5))
    np.testing.assert_allclose(resized, blocks, atol=1e-3)


def test_crops_that_reach_beyond_are_on_average_what_evaluation_sees():
    options = AugmentOptions(**NOTHING | {"scale": (0.75, 1.25)})
    assert options.reach == 1.25 and AugmentOptions(augment=False, scale=(1.0, 1.25)).reach == 1.0
    ramp = np.broadcast_to(
        np.linspace(0, 250, 51, dtype=np.float32)[:, None, None], (1, 51, 51, 3)
    )  # 5 a pixel
    draws = np.full((1, DRAWS), 0.5, np.float32)
    middle = augment.apply(tf.constant(ramp), tf.constant(draws), options, 41).numpy()
    np.testing.assert_allclose(
        middle[0, :, 0, 0], ramp[0, 5:46, 0, 0], atol=1e-3
    )  # scale 1, 41 of 51 pixels
    draws[:, 0] = 1.0
    widest = augment.apply(tf.constant(ramp), tf.constant(draws), options, 51).numpy()
    np.testing.assert_allclose(widest, ramp, atol=1e-3)
