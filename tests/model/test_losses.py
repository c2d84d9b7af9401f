import numpy as np
import pytest
import tensorflow as tf

from fv.model import losses


def test_binary_cross_entropy_is_minus_the_log_of_the_label_s_probability():
    probability = np.array([0.9, 0.2], np.float32)
    logits = np.log(probability / (1 - probability))
    result = losses.binary_cross_entropy(tf.constant(logits), tf.constant([1, 0]))
    np.testing.assert_allclose(result, -np.log([0.9, 0.8]), rtol=1e-5)


def test_contrastive_pulls_genuine_pairs_and_pushes_impostors_up_to_the_margin():
    a = tf.constant([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    b = tf.constant([[0.0, 1.0], [0.0, 1.0], [0.8, 0.6]])  # distances √2, √2, √0.4
    result = losses.contrastive(a, b, tf.constant([1, 0, 0]), margin=1.0)
    np.testing.assert_allclose(result, [2.0, 0.0, (1 - 0.4**0.5) ** 2], rtol=1e-5)


def test_contrastive_has_a_finite_gradient_at_distance_zero():
    a = tf.Variable([[1.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = losses.contrastive(a, tf.constant([[1.0, 0.0]]), tf.constant([0]), margin=1.0)
    assert np.all(np.isfinite(tape.gradient(loss, a)))


def test_margin_softmax_is_cross_entropy_with_a_handicap_at_the_true_identity():
    cosines = np.array([[0.5, 0.1, -0.3]], np.float32)
    logits = 10 * (cosines - [[0.2, 0.0, 0.0]])
    by_hand = np.log(np.exp(logits).sum()) - logits[0, 0]
    result = losses.margin_softmax(tf.constant(cosines), tf.constant([0]), scale=10.0, margin=0.2)
    np.testing.assert_allclose(result, [by_hand], rtol=1e-5)


def test_an_angular_margin_turns_the_true_identity_away():
    theta = np.array([0.3, 1.2], np.float32)
    cosines = np.stack([np.cos(theta), [0.4, -0.2]], axis=1).astype(np.float32)
    logits = 8 * np.stack([np.cos(theta + 0.5), cosines[:, 1]], axis=1)
    by_hand = np.log(np.exp(logits).sum(axis=1)) - logits[:, 0]
    result = losses.margin_softmax(
        tf.constant(cosines), tf.constant([0, 0]), scale=8.0, margin=0.0, angular_margin=0.5
    )
    np.testing.assert_allclose(result, by_hand, rtol=1e-5)


def test_an_angular_margin_costs_more_the_farther_the_true_identity_is_even_behind_half_a_turn():
    cosines = np.stack([np.cos(np.linspace(0.1, np.pi - 0.01, 50)), np.zeros(50)], axis=1).astype(
        np.float32
    )
    result = losses.margin_softmax(
        tf.constant(cosines), tf.zeros(50, tf.int32), scale=8.0, margin=0.0, angular_margin=0.5
    )
    assert np.all(np.diff(result) > 0)


IDENTITIES = np.array([0, 0, 1, 2])
DEGREES = np.array([0, 60, 90, 180])
EMBEDDINGS = np.stack([np.cos(np.radians(DEGREES)), np.sin(np.radians(DEGREES))], axis=1).astype(
    np.float32
)


def test_contrastive_of_a_batch_is_the_mean_genuine_plus_the_mean_of_impostors_within_the_margin():
    distance = np.linalg.norm(EMBEDDINGS[:, np.newaxis] - EMBEDDINGS, axis=-1)
    near = [
        (1.2 - distance[i, j]) ** 2 for i, j in [(1, 2)]
    ]  # the one impostor pair nearer than 1.2
    assert sum(distance[i, j] < 1.2 for i, j in [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]) == 1
    result = losses.contrastive_of_batch(
        tf.constant(EMBEDDINGS), tf.constant(IDENTITIES), margin=1.2
    )
    np.testing.assert_allclose(result, distance[0, 1] ** 2 + near[0], rtol=1e-5)


def test_n_pairs_picks_the_positive_among_all_other_images():
    logits = 4 * EMBEDDINGS @ EMBEDDINGS.T
    anchors = [(0, 1), (1, 0)]  # images 2 and 3 have no positive and are no anchors
    by_hand = [np.log(np.exp(np.delete(logits[a], a)).sum()) - logits[a, p] for a, p in anchors]
    result = losses.n_pairs(tf.constant(EMBEDDINGS), tf.constant(IDENTITIES), scale=4.0)
    np.testing.assert_allclose(result, np.mean(by_hand), rtol=1e-5)


@pytest.mark.parametrize("identities", [[0, 1, 2, 3], [0, 0, 0, 0]])
def test_losses_of_a_batch_are_finite_where_a_kind_of_pair_is_missing(identities):
    embeddings = tf.Variable(np.repeat(EMBEDDINGS[:1], 4, axis=0))
    with tf.GradientTape(persistent=True) as tape:
        found = [
            losses.contrastive_of_batch(embeddings, tf.constant(identities), margin=1.0),
            losses.n_pairs(embeddings, tf.constant(identities), scale=16.0),
        ]
    assert np.all(np.isfinite(found))
    assert all(np.all(np.isfinite(tape.gradient(loss, embeddings))) for loss in found)
