import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fv.model import heads, losses
from tests.conftest import TINY, slow_case
from tests.model.test_heads import unit


def test_binary_cross_entropy_is_minus_the_log_of_the_label_s_probability():
    probability = np.array([0.9, 0.2], np.float32)
    logits = np.log(probability / (1 - probability))
    result = losses.binary_cross_entropy_loss(tf.constant(logits), tf.constant([1, 0]))
    np.testing.assert_allclose(result, -np.log([0.9, 0.8]), rtol=1e-5)


def test_contrastive_pulls_genuine_pairs_and_pushes_impostors_up_to_the_margin():
    a = tf.constant([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    b = tf.constant([[0.0, 1.0], [0.0, 1.0], [0.8, 0.6]])  # distances √2, √2, √0.4
    result = losses.contrastive_loss(a, b, tf.constant([1, 0, 0]), margin=1.0)
    np.testing.assert_allclose(result, [2.0, 0.0, (1 - 0.4**0.5) ** 2], rtol=1e-5)


def test_contrastive_has_a_finite_gradient_at_distance_zero():
    a = tf.Variable([[1.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = losses.contrastive_loss(a, tf.constant([[1.0, 0.0]]), tf.constant([0]), margin=1.0)
    assert np.all(np.isfinite(tape.gradient(loss, a)))


def test_margin_softmax_is_cross_entropy_with_a_handicap_at_the_true_identity():
    cosines = np.array([[0.5, 0.1, -0.3]], np.float32)
    logits = 10 * (cosines - [[0.2, 0.0, 0.0]])
    by_hand = np.log(np.exp(logits).sum()) - logits[0, 0]
    result = losses.margin_softmax_loss(
        tf.constant(cosines), tf.constant([0]), scale=10.0, margin=0.2
    )
    np.testing.assert_allclose(result, [by_hand], rtol=1e-5)


def test_an_angular_margin_turns_the_true_identity_away():
    theta = np.array([0.3, 1.2], np.float32)
    cosines = np.stack([np.cos(theta), [0.4, -0.2]], axis=1).astype(np.float32)
    logits = 8 * np.stack([np.cos(theta + 0.5), cosines[:, 1]], axis=1)
    by_hand = np.log(np.exp(logits).sum(axis=1)) - logits[:, 0]
    result = losses.margin_softmax_loss(
        tf.constant(cosines), tf.constant([0, 0]), scale=8.0, margin=0.0, angular_margin=0.5
    )
    np.testing.assert_allclose(result, by_hand, rtol=1e-5)


def test_an_angular_margin_costs_more_the_farther_the_true_identity_is_even_behind_half_a_turn():
    cosines = np.stack([np.cos(np.linspace(0.1, np.pi - 0.01, 50)), np.zeros(50)], axis=1).astype(
        np.float32
    )
    result = losses.margin_softmax_loss(
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
    result = losses.contrastive_loss_of_batch(
        tf.constant(EMBEDDINGS), tf.constant(IDENTITIES), margin=1.2
    )
    np.testing.assert_allclose(result, distance[0, 1] ** 2 + near[0], rtol=1e-5)


def test_n_pairs_picks_the_positive_among_all_other_images():
    logits = 4 * EMBEDDINGS @ EMBEDDINGS.T
    anchors = [(0, 1), (1, 0)]  # images 2 and 3 have no positive and are no anchors
    by_hand = [np.log(np.exp(np.delete(logits[a], a)).sum()) - logits[a, p] for a, p in anchors]
    result = losses.n_pairs_loss(tf.constant(EMBEDDINGS), tf.constant(IDENTITIES), scale=4.0)
    np.testing.assert_allclose(result, np.mean(by_hand), rtol=1e-5)


@pytest.mark.parametrize("identities", [[0, 1, 2, 3], [0, 0, 0, 0]])
def test_losses_of_a_batch_are_finite_where_a_kind_of_pair_is_missing(identities):
    embeddings = tf.Variable(np.repeat(EMBEDDINGS[:1], 4, axis=0))
    with tf.GradientTape(persistent=True) as tape:
        found = [
            losses.contrastive_loss_of_batch(embeddings, tf.constant(identities), margin=1.0),
            losses.n_pairs_loss(embeddings, tf.constant(identities), scale=16.0),
        ]
    assert np.all(np.isfinite(found))
    assert all(np.all(np.isfinite(tape.gradient(loss, embeddings))) for loss in found)


PEOPLE = 7
SAMPLED_SOFTMAX_IDENTITIES = tf.constant([0, 3, 3, 5])
MARGINS = dict(scale=8.0, margin=0.2, angular_margin=0.3)
SAMPLED_SOFTMAX_EMBEDDINGS, CENTRES = unit((4, 6)), 3 * unit((PEOPLE, 6), seed=1)


def of_all(embeddings: tf.Tensor, centres: tf.Tensor) -> tf.Tensor:
    cosines = tf.matmul(embeddings, tf.math.l2_normalize(centres, axis=1), transpose_b=True)
    return losses.margin_softmax_loss(cosines, SAMPLED_SOFTMAX_IDENTITIES, **MARGINS)


def of_sample(embeddings: tf.Tensor, centres: tf.Tensor, drawn: list[int]) -> tf.Tensor:
    return losses.sampled_softmax_loss(
        embeddings, centres, SAMPLED_SOFTMAX_IDENTITIES, tf.constant(drawn), **MARGINS
    )


@pytest.mark.parametrize("drawn", [range(PEOPLE), (1, 2, 4, 6)])
def test_with_all_others_drawn_loss_and_gradients_are_those_of_the_whole_softmax(drawn):
    embeddings, centres = tf.Variable(SAMPLED_SOFTMAX_EMBEDDINGS), tf.Variable(CENTRES)
    with tf.GradientTape(persistent=True) as tape:
        whole = of_all(embeddings, centres)
        sampled = of_sample(embeddings, tf.convert_to_tensor(centres), list(drawn))
    np.testing.assert_allclose(sampled, whole, rtol=1e-5)
    for variable in (embeddings, centres):
        np.testing.assert_allclose(
            tape.gradient(sampled, variable), tape.gradient(whole, variable), atol=1e-5
        )


def test_the_loss_is_over_the_batch_s_people_and_the_drawn_ones_each_once():
    centres = CENTRES / np.linalg.norm(CENTRES, axis=1, keepdims=True)
    expected = []
    for embedding, identity in zip(
        SAMPLED_SOFTMAX_EMBEDDINGS, SAMPLED_SOFTMAX_IDENTITIES.numpy(), strict=True
    ):
        logits = {person: 8.0 * float(embedding @ centres[person]) for person in (0, 3, 5, 6)}
        logits[identity] = 8.0 * (
            np.cos(np.arccos(float(embedding @ centres[identity])) + 0.3) - 0.2
        )
        expected.append(np.log(sum(map(np.exp, logits.values()))) - logits[identity])
    np.testing.assert_allclose(
        of_sample(SAMPLED_SOFTMAX_EMBEDDINGS, CENTRES, [3, 6]), expected, rtol=1e-4
    )


def test_the_gradient_of_a_centre_that_takes_no_part_is_zero_and_a_tensor():
    centres = tf.Variable(CENTRES)
    with tf.GradientTape() as tape:
        loss = of_sample(SAMPLED_SOFTMAX_EMBEDDINGS, tf.convert_to_tensor(centres), [6])
    gradient = tape.gradient(loss, centres)
    assert isinstance(gradient, tf.Tensor)
    np.testing.assert_array_equal(np.flatnonzero(np.abs(gradient).sum(axis=1)), [0, 3, 5, 6])


@pytest.mark.parametrize("count", [1, 30, 77, 1000])
def test_a_draw_holds_nobody_twice_and_is_a_function_of_the_moment(count):
    drawn, again, later = (
        losses.sample_classes(1000, count, moment).numpy() for moment in ((3, 5), (3, 5), (3, 6))
    )
    assert len(np.unique(drawn)) == count and drawn.min() >= 0 and drawn.max() < 1000
    np.testing.assert_array_equal(drawn, again)
    assert count == 1000 or not np.array_equal(drawn, later)


def test_everybody_is_drawn_in_the_end_about_as_often():
    counts = np.bincount(
        np.concatenate([losses.sample_classes(100, 30, (0, step)) for step in range(400)]),
        minlength=100,
    )
    assert counts.min() > 60 and counts.max() < 180  # 120 in the mean; runs are of 3 or 4 people


@pytest.mark.parametrize("jit", [False, slow_case(True)])
def test_the_head_draws_by_the_moment_in_a_graph_too_and_takes_all_where_as_many_are_asked_for(jit):
    options = dataclasses.replace(TINY, head="softmax", embedding_size=6)
    made = {
        count: heads.build_head(dataclasses.replace(options, softmax_sample=count), PEOPLE)
        for count in (0, 2, PEOPLE)
    }
    for head in made.values():
        head.centres.assign(CENTRES)
    pairs = (
        tf.reshape(SAMPLED_SOFTMAX_EMBEDDINGS, (2, 2, 6)),
        tf.constant([0, 1]),
        tf.reshape(SAMPLED_SOFTMAX_IDENTITIES, (2, 2)),
    )

    graphs = {count: tf.function(head.losses, jit_compile=jit) for count, head in made.items()}

    def losses_of(count: int, step: int) -> np.ndarray:
        return graphs[count](*pairs, tf.constant([0, step])).numpy()

    whole = losses_of(0, 1)
    np.testing.assert_allclose(losses_of(PEOPLE, 1), whole)
    found = [losses_of(2, step) for step in range(5)]
    assert (
        all(np.all(sampled < whole) for sampled in found)
        and len({tuple(sampled) for sampled in found}) > 1
    )
