import numpy as np
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
