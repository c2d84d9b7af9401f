import io
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fv import addons
from fv.pipeline import augment
from fv.pipeline.augment import AugmentOptions

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)


def window(angle: float, mirrored: bool = False) -> augment.Window:
    scale = np.float32([1.0, 0.7, 0.5])
    edges = (np.float32([0.0, 0.1, 0.5]), np.float32([0.0, 0.3, 0.2]))
    return augment.Window(
        *(tf.constant(values) for values in (scale, *edges)),
        tf.constant([mirrored] * 3),
        tf.constant([angle] * 3, tf.float32),
    )


def test_without_an_angle_both_ways_of_cropping_agree():
    for mirrored in (False, True):
        plain = augment.crop_windows(tf.constant(IMAGES), window(0.0, mirrored), 14)
        np.testing.assert_allclose(
            augment.crop_rotated_windows(tf.constant(IMAGES), window(0.0, mirrored), 14),
            plain,
            atol=0.01,
        )


def test_a_quarter_turn_is_numpy_s():
    result = augment.crop_rotated_windows(tf.constant(IMAGES), window(np.pi / 2), 20)[0].numpy()
    np.testing.assert_allclose(result, np.rot90(IMAGES[0], 1), atol=0.05)


def test_a_mirrored_window_is_turned_as_its_image_is():
    plain = augment.crop_rotated_windows(tf.constant(IMAGES), window(0.3), 20).numpy()
    mirrored = augment.crop_rotated_windows(
        tf.constant(IMAGES), window(0.3, mirrored=True), 20
    ).numpy()
    np.testing.assert_allclose(mirrored, plain[:, :, ::-1], atol=0.05)


FACE = sorted((pathlib.Path(__file__).parents[2] / "data").glob("*/*/*.jpg"))[0]
SIDE = 45  # no multiple of a block's 8


def face() -> np.ndarray:
    return np.asarray(Image.open(FACE).resize((SIDE, SIDE))).astype(np.float32)


def test_a_blur_of_nothing_is_the_image_and_a_whole_one_keeps_its_mean():
    images = tf.constant(np.stack([face(), face()]))
    result = augment.blur(images, tf.constant([0.0, 1.0])).numpy()
    np.testing.assert_allclose(result[0], face(), atol=1e-3)
    assert abs(result[1].mean() - face().mean()) < 0.5
    assert np.abs(np.diff(result[1], axis=0)).mean() < 0.8 * np.abs(np.diff(face(), axis=0)).mean()


def test_a_blurred_point_is_the_binomial_kernel():
    point = np.zeros((1, 9, 9, 3), np.float32)
    point[0, 4, 4] = 256.0
    result = augment.blur(tf.constant(point), tf.constant([1.0])).numpy()[0, 2:7, 2:7, 0]
    np.testing.assert_allclose(result, np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]), atol=1e-3)


@pytest.mark.parametrize(("quality", "steps"), [(50, 1.0), (25, 2.0)])
def test_quantising_is_what_a_jpeg_encoder_without_subsampling_does(quality, steps):
    buffer = io.BytesIO()
    Image.fromarray(face().astype(np.uint8)).save(buffer, "JPEG", quality=quality, subsampling=0)
    encoded = np.asarray(Image.open(buffer), np.float32)
    result = np.clip(
        augment.quantise_jpeg(tf.constant(face()[np.newaxis]), tf.constant([steps]))[0], 0, 255
    )
    whole = slice(0, SIDE // 8 * 8)  # an encoder fills the last blocks in its own way
    difference, loss = (np.abs(encoded - other)[whole, whole].mean() for other in (result, face()))
    # libjpeg rounds pixels and colours to integers both ways, so some coefficients differ.
    assert result.shape == encoded.shape and difference < 0.25 * loss


AUGMENT_IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
DRAWS = augment.draw_randomness(AugmentOptions(), 1, 0, tf.constant(0)).shape[1]
NOTHING = dict(flip=False, scale=(1.0, 1.0), color_jitter=(0.0, 0.0, 0.0))


def augmented(options: AugmentOptions, seed: int = 0, step: int = 0) -> np.ndarray:
    draws = augment.draw_randomness(options, len(AUGMENT_IMAGES), seed, tf.constant(step))
    return augment.augment(tf.constant(AUGMENT_IMAGES), draws, options).numpy()


def test_strengths_of_zero_leave_images_as_they_are():
    np.testing.assert_allclose(augmented(AugmentOptions(**NOTHING)), AUGMENT_IMAGES, atol=1e-3)


def test_augmentation_switched_off_draws_nothing():
    assert augment.draw_randomness(AugmentOptions(augment=False), 4, 0, tf.constant(0)) is None


def test_the_same_seed_and_step_repeat_and_others_differ():
    options = AugmentOptions()
    np.testing.assert_array_equal(augmented(options, 1, 2), augmented(options, 1, 2))
    assert np.abs(augmented(options, 1, 2) - augmented(options, 1, 3)).max() > 1
    assert np.abs(augmented(options, 1, 2) - augmented(options, 2, 2)).max() > 1


def test_a_flip_mirrors_left_to_right():
    options = AugmentOptions(**NOTHING | {"flip": True})
    draws = np.full((4, DRAWS), 0.9, np.float32)
    draws[1:3, 3] = 0.1  # the column that decides on the mirror
    result = augment.augment(tf.constant(AUGMENT_IMAGES), tf.constant(draws), options).numpy()
    np.testing.assert_allclose(result[1:3], AUGMENT_IMAGES[1:3, :, ::-1], atol=1e-3)
    np.testing.assert_allclose(result[[0, 3]], AUGMENT_IMAGES[[0, 3]], atol=1e-3)


def test_brightness_shifts_and_contrast_stretches_around_the_mean():
    draws = tf.constant(np.full((4, DRAWS), 1.0, np.float32))
    brighter = augment.augment(
        tf.constant(AUGMENT_IMAGES),
        draws,
        AugmentOptions(**NOTHING | {"color_jitter": (0.1, 0.0, 0.0)}),
    ).numpy()
    np.testing.assert_allclose(brighter, AUGMENT_IMAGES + 25.5, atol=1e-2)
    stretched = augment.augment(
        tf.constant(AUGMENT_IMAGES),
        draws,
        AugmentOptions(**NOTHING | {"color_jitter": (0.0, 0.5, 0.0)}),
    ).numpy()
    mean = AUGMENT_IMAGES.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(stretched, mean + 1.5 * (AUGMENT_IMAGES - mean), atol=1e-2)


def test_crops_stay_inside_the_image():
    result = augmented(AugmentOptions(**NOTHING | {"scale": (0.5, 1.0)}))
    assert result.min() >= AUGMENT_IMAGES.min() and result.max() <= AUGMENT_IMAGES.max()


def test_a_rotation_turns_around_the_middle_and_stays_within_its_angle():
    options = AugmentOptions(**NOTHING | {"rotation": 30.0})
    draws = np.full((1, DRAWS), 0.5, np.float32)
    draws[0, 9] = 1.0  # the column of the angle: the whole 30 degrees
    point = np.zeros((1, 33, 33, 3), np.float32)
    point[0, 16, 16 + 12] = 255.0  # 12 pixels right of the middle
    result = augment.augment(tf.constant(point), tf.constant(draws), options).numpy()[0, :, :, 0]
    row, column = np.unravel_index(result.argmax(), result.shape)
    angle = np.degrees(np.arctan2(row - 16, column - 16))
    assert abs(np.hypot(row - 16, column - 16) - 12) < 1 and abs(abs(angle) - 30) < 4


def test_saturation_stretches_colours_around_their_grey():
    draws = tf.constant(np.full((4, DRAWS), 1.0, np.float32))
    vivid = augment.augment(
        tf.constant(AUGMENT_IMAGES),
        draws,
        AugmentOptions(**NOTHING | {"color_jitter": (0.0, 0.0, 0.5)}),
    ).numpy()
    grey = (AUGMENT_IMAGES @ np.array([0.299, 0.587, 0.114]))[..., np.newaxis]
    np.testing.assert_allclose(vivid, grey + 1.5 * (AUGMENT_IMAGES - grey), atol=1e-2)


@pytest.mark.parametrize(
    "strength", [{"degrade": 1.0}, {"rotation": 20.0}, {"color_jitter": (0.0, 0.0, 0.5)}]
)
def test_every_strength_changes_images_and_repeats_with_its_seed(strength):
    options = AugmentOptions(**NOTHING | strength)
    np.testing.assert_array_equal(augmented(options, 1, 2), augmented(options, 1, 2))
    assert np.abs(augmented(options, 1, 2) - AUGMENT_IMAGES).max() > 1
    assert np.abs(augmented(options, 1, 2) - augmented(options, 1, 3)).max() > 1


@pytest.mark.skipif(not addons.available(), reason="tensorflow-addons has no wheel for this Python")
def test_cutout_blanks_a_square_and_leaves_the_rest():
    result = augmented(AugmentOptions(**NOTHING | {"cutout": 0.5}))
    blank = np.all(result == 0, axis=-1)
    assert np.all(blank.sum(axis=(1, 2)) > 0) and np.all(blank.sum(axis=(1, 2)) <= 64)
    np.testing.assert_allclose(result[~blank], AUGMENT_IMAGES[~blank], atol=1e-3)


def test_the_crop_resamples_images_to_the_requested_side():
    ramp = np.broadcast_to(
        np.linspace(0, 240, 16, dtype=np.float32)[None, None, :, None], (4, 16, 16, 3)
    )
    draws = augment.draw_randomness(AugmentOptions(**NOTHING), 4, 0, tf.constant(0))
    result = augment.augment(tf.constant(ramp), draws, AugmentOptions(**NOTHING), side=11).numpy()
    assert result.shape == (4, 11, 11, 3)
    np.testing.assert_allclose(result[0, 0, :, 0], np.linspace(0, 240, 11), atol=1e-3)


def test_without_augmentation_pairs_are_resized_to_the_requested_side():
    pairs = tf.constant(AUGMENT_IMAGES.reshape(2, 2, 16, 16, 3))
    assert augment.resize(pairs, 16) is pairs
    resized = augment.resize(pairs, 8).numpy()
    blocks = AUGMENT_IMAGES.reshape(2, 2, 8, 2, 8, 2, 3).mean(axis=(3, 5))
    np.testing.assert_allclose(resized, blocks, atol=1e-3)


def test_crops_that_reach_beyond_are_on_average_what_evaluation_sees():
    options = AugmentOptions(**NOTHING | {"scale": (0.75, 1.25)})
    assert options.reach == 1.25 and AugmentOptions(augment=False, scale=(1.0, 1.25)).reach == 1.0
    ramp = np.broadcast_to(
        np.linspace(0, 250, 51, dtype=np.float32)[:, None, None], (1, 51, 51, 3)
    )  # 5 a pixel
    draws = np.full((1, DRAWS), 0.5, np.float32)
    middle = augment.augment(tf.constant(ramp), tf.constant(draws), options, 41).numpy()
    np.testing.assert_allclose(
        middle[0, :, 0, 0], ramp[0, 5:46, 0, 0], atol=1e-3
    )  # scale 1, 41 of 51 pixels
    draws[:, 0] = 1.0
    widest = augment.augment(tf.constant(ramp), tf.constant(draws), options, 51).numpy()
    np.testing.assert_allclose(widest, ramp, atol=1e-3)


def test_pairs_are_blended_with_the_next_and_others_stay():
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 4, 3), dtype=np.uint8)
    draws = np.array([[0.4, 0.0, 1.0], [0.6, 0.1, 0.2], [0.1, 0.25, 0.5]], np.float32)
    found, mixed = augment.mix_pairs(images, draws, 0.5)
    np.testing.assert_array_equal(mixed, [True, False, True])
    last = [0.25 * images[2, 0] + 0.75 * images[0, 0], 0.5 * images[2, 1] + 0.5 * images[0, 1]]
    expected = np.stack([[images[1, 0], images[0, 1]], images[1], last])
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_draws_of_blending_are_those_of_the_step_and_none_of_the_augmentation():
    one, again, other = (augment.draw_mixing(4, 0, tf.constant(step)) for step in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert not np.intersect1d(one, other).size
    assert not np.intersect1d(one, augment.draw_randomness(AugmentOptions(), 8, 0, 3)).size
