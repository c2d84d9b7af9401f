import numpy as np
import pytest
import tensorflow as tf

from fv.model import losses
from fv.model.losses import Margins
from tests.model.test_heads import unit


def test_binary_cross_entropy_is_minus_the_log_of_the_labels_probability():
    probability = np.array([0.9, 0.2], np.float32)
    logits = np.log(probability / (1 - probability))
    result = losses.binary_cross_entropy_loss(tf.constant(logits), tf.constant([1, 0]))
    np.testing.assert_allclose(result, -np.log([0.9, 0.8]), rtol=1e-5)


def test_contrastive_pulls_genuine_pairs_and_pushes_impostors_to_the_margin():
    a = tf.constant([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    b = tf.constant([[0.0, 1.0], [0.0, 1.0], [0.8, 0.6]])  # distances √2, √2, √0.4
    result = losses.contrastive_loss(a, b, tf.constant([1, 0, 0]), margin=1.0)
    np.testing.assert_allclose(result, [2.0, 0.0, (1 - 0.4**0.5) ** 2], rtol=1e-5)


def test_contrastive_has_a_finite_gradient_at_distance_zero():
    a = tf.Variable([[1.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = losses.contrastive_loss(a, tf.constant([[1.0, 0.0]]), tf.constant([0]), margin=1.0)
    assert np.all(np.isfinite(tape.gradient(loss, a)))


# Losses of a batch

IDENTITIES = np.array([0, 0, 1, 2])
ANGLES = np.radians([0, 60, 90, 180])
EMBEDDINGS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)


def test_contrastive_of_a_batch_averages_genuine_and_near_impostor_pairs():
    distance = np.linalg.norm(EMBEDDINGS[:, np.newaxis] - EMBEDDINGS, axis=-1)
    impostors = [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    near = [pair for pair in impostors if distance[pair] < 1.2]
    assert near == [(1, 2)]
    result = losses.contrastive_loss_of_batch(
        tf.constant(EMBEDDINGS), tf.constant(IDENTITIES), margin=1.2
    )
    expected = distance[0, 1] ** 2 + (1.2 - distance[1, 2]) ** 2
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_n_pairs_picks_the_positive_among_all_other_images():
    logits = 4 * EMBEDDINGS @ EMBEDDINGS.T
    anchors = [(0, 1), (1, 0)]  # images 2 and 3 have no positive and are no anchors
    by_hand = [np.log(np.exp(np.delete(logits[a], a)).sum()) - logits[a, p] for a, p in anchors]
    result = losses.n_pairs_loss(tf.constant(EMBEDDINGS), tf.constant(IDENTITIES), scale=4.0)
    np.testing.assert_allclose(result, np.mean(by_hand), rtol=1e-5)


@pytest.mark.parametrize("identities", [[0, 1, 2, 3], [0, 0, 0, 0]])
def test_losses_of_a_batch_are_finite_without_one_kind_of_pair(identities):
    embeddings = tf.Variable(np.repeat(EMBEDDINGS[:1], 4, axis=0))
    with tf.GradientTape(persistent=True) as tape:
        found = [
            losses.contrastive_loss_of_batch(embeddings, tf.constant(identities), margin=1.0),
            losses.n_pairs_loss(embeddings, tf.constant(identities), scale=16.0),
        ]
    assert np.all(np.isfinite(found))
    assert all(np.all(np.isfinite(tape.gradient(loss, embeddings))) for loss in found)


# The softmax with margins


def test_a_cosine_margin_handicaps_the_true_identity():
    cosines = np.array([[0.5, 0.1, -0.3]], np.float32)
    logits = 10 * (cosines - [[0.2, 0.0, 0.0]])
    by_hand = np.log(np.exp(logits).sum()) - logits[0, 0]
    result = losses.margin_softmax_loss(
        tf.constant(cosines), tf.eye(3), tf.constant([0]), 10.0, Margins(cosine=0.2)
    )
    np.testing.assert_allclose(result, [by_hand], rtol=1e-5)


def test_an_angular_margin_turns_the_true_identity_away():
    theta = np.array([0.3, 1.2], np.float32)
    cosines = np.stack([np.cos(theta), [0.4, -0.2]], axis=1).astype(np.float32)
    logits = 8 * np.stack([np.cos(theta + 0.5), cosines[:, 1]], axis=1)
    by_hand = np.log(np.exp(logits).sum(axis=1)) - logits[:, 0]
    result = losses.margin_softmax_loss(
        tf.constant(cosines), tf.eye(2), tf.constant([0, 0]), 8.0, Margins(angle=0.5)
    )
    np.testing.assert_allclose(result, by_hand, rtol=1e-5)


def test_an_angular_margin_costs_more_with_every_angle_up_to_half_a_turn():
    theta = np.linspace(0.1, np.pi - 0.01, 50)
    cosines = np.stack([np.cos(theta), np.zeros(50)], axis=1).astype(np.float32)
    result = losses.margin_softmax_loss(
        tf.constant(cosines), tf.eye(2), tf.zeros(50, tf.int32), 8.0, Margins(angle=0.5)
    )
    assert np.all(np.diff(result) > 0)


# The sampled softmax

PEOPLE = 7
OWNERS = tf.constant([0, 3, 3, 5])  # identity of each image
IMAGES, CENTRES = unit((4, 6)), 3 * unit((PEOPLE, 6), seed=1)
SCALE, MARGINS = 8.0, Margins(cosine=0.2, angle=0.3)


def sampled_loss(embeddings: tf.Tensor, centres: tf.Tensor, drawn: list[int]) -> tf.Tensor:
    return losses.sampled_softmax_loss(
        embeddings, centres, OWNERS, SCALE, MARGINS, tf.constant(drawn)
    )


@pytest.mark.parametrize("drawn", [range(PEOPLE), (1, 2, 4, 6)])
def test_a_sample_of_all_others_gives_loss_and_gradients_of_the_whole(drawn):
    embeddings, centres = tf.Variable(IMAGES), tf.Variable(CENTRES)
    with tf.GradientTape(persistent=True) as tape:
        whole = losses.margin_softmax_loss(embeddings, centres, OWNERS, SCALE, MARGINS)
        sampled = sampled_loss(embeddings, centres, list(drawn))
    np.testing.assert_allclose(sampled, whole, rtol=1e-5)
    for variable in (embeddings, centres):
        np.testing.assert_allclose(
            tape.gradient(sampled, variable), tape.gradient(whole, variable), atol=1e-5
        )


def test_the_loss_is_over_the_batchs_people_and_the_drawn_ones_each_once():
    centres = CENTRES / np.linalg.norm(CENTRES, axis=1, keepdims=True)
    expected = []
    for embedding, owner in zip(IMAGES, OWNERS.numpy(), strict=True):
        logits = {person: 8.0 * float(embedding @ centres[person]) for person in (0, 3, 5, 6)}
        angle = np.arccos(float(embedding @ centres[owner]))
        logits[owner] = 8.0 * (np.cos(angle + 0.3) - 0.2)
        expected.append(np.log(sum(map(np.exp, logits.values()))) - logits[owner])
    np.testing.assert_allclose(sampled_loss(IMAGES, CENTRES, [3, 6]), expected, rtol=1e-4)


def test_the_gradient_of_a_centre_that_takes_no_part_is_zero_and_a_tensor():
    centres = tf.Variable(CENTRES)
    with tf.GradientTape() as tape:
        loss = sampled_loss(IMAGES, centres, [6])
    gradient = tape.gradient(loss, centres)
    assert isinstance(gradient, tf.Tensor)
    np.testing.assert_array_equal(np.flatnonzero(np.abs(gradient).sum(axis=1)), [0, 3, 5, 6])


@pytest.mark.parametrize("count", [1, 30, 77, 1000])
def test_a_draw_is_of_distinct_people_and_depends_on_seed_and_step(count):
    drawn, again, later = (
        losses.sample_classes(1000, count, place).numpy() for place in ((3, 5), (3, 5), (3, 6))
    )
    assert len(np.unique(drawn)) == count and drawn.min() >= 0 and drawn.max() < 1000
    np.testing.assert_array_equal(drawn, again)
    assert count == 1000 or not np.array_equal(drawn, later)


def test_everybody_is_drawn_about_as_often():
    draws = [losses.sample_classes(100, 30, (0, step)) for step in range(400)]
    counts = np.bincount(np.concatenate(draws), minlength=100)
    assert counts.min() > 60 and counts.max() < 180  # 120 in the mean; runs are of 3 or 4 people
