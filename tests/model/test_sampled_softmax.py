import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fv.model import heads, losses, sampled_softmax
from tests.conftest import TINY
from tests.model.test_heads import unit

PEOPLE = 7
IDENTITIES = tf.constant([0, 3, 3, 5])
MARGINS = dict(scale=8.0, margin=0.2, angular_margin=0.3)
EMBEDDINGS, CENTRES = unit((4, 6)), 3 * unit((PEOPLE, 6), seed=1)


def of_all(embeddings: tf.Tensor, centres: tf.Tensor) -> tf.Tensor:
    cosines = tf.matmul(embeddings, tf.math.l2_normalize(centres, axis=1), transpose_b=True)
    return losses.margin_softmax(cosines, IDENTITIES, **MARGINS)


def of_sample(embeddings: tf.Tensor, centres: tf.Tensor, drawn: list[int]) -> tf.Tensor:
    return sampled_softmax.loss(embeddings, centres, IDENTITIES, tf.constant(drawn), **MARGINS)


@pytest.mark.parametrize("drawn", [range(PEOPLE), (1, 2, 4, 6)])
def test_with_all_others_drawn_loss_and_gradients_are_those_of_the_whole_softmax(drawn):
    embeddings, centres = tf.Variable(EMBEDDINGS), tf.Variable(CENTRES)
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
    for embedding, identity in zip(EMBEDDINGS, IDENTITIES.numpy(), strict=True):
        logits = {person: 8.0 * float(embedding @ centres[person]) for person in (0, 3, 5, 6)}
        logits[identity] = 8.0 * (
            np.cos(np.arccos(float(embedding @ centres[identity])) + 0.3) - 0.2
        )
        expected.append(np.log(sum(map(np.exp, logits.values()))) - logits[identity])
    np.testing.assert_allclose(of_sample(EMBEDDINGS, CENTRES, [3, 6]), expected, rtol=1e-4)


def test_the_gradient_of_a_centre_that_takes_no_part_is_zero_and_a_tensor():
    centres = tf.Variable(CENTRES)
    with tf.GradientTape() as tape:
        loss = of_sample(EMBEDDINGS, tf.convert_to_tensor(centres), [6])
    gradient = tape.gradient(loss, centres)
    assert isinstance(gradient, tf.Tensor)
    np.testing.assert_array_equal(np.flatnonzero(np.abs(gradient).sum(axis=1)), [0, 3, 5, 6])


@pytest.mark.parametrize("count", [1, 30, 77, 1000])
def test_a_draw_holds_nobody_twice_and_is_a_function_of_the_moment(count):
    drawn, again, later = (
        sampled_softmax.draw(1000, count, moment).numpy() for moment in ((3, 5), (3, 5), (3, 6))
    )
    assert len(np.unique(drawn)) == count and drawn.min() >= 0 and drawn.max() < 1000
    np.testing.assert_array_equal(drawn, again)
    assert count == 1000 or not np.array_equal(drawn, later)


def test_everybody_is_drawn_in_the_end_about_as_often():
    counts = np.bincount(
        np.concatenate([sampled_softmax.draw(100, 30, (0, step)) for step in range(400)]),
        minlength=100,
    )
    assert counts.min() > 60 and counts.max() < 180  # 120 in the mean; runs are of 3 or 4 people


@pytest.mark.parametrize("jit", [False, True])
def test_the_head_draws_by_the_moment_in_a_graph_too_and_takes_all_where_as_many_are_asked_for(jit):
    options = dataclasses.replace(TINY, head="softmax", embedding_size=6)
    made = {
        count: heads.build_head(dataclasses.replace(options, softmax_sample=count), PEOPLE)
        for count in (0, 2, PEOPLE)
    }
    for head in made.values():
        head.centres.assign(CENTRES)
    pairs = tf.reshape(EMBEDDINGS, (2, 2, 6)), tf.constant([0, 1]), tf.reshape(IDENTITIES, (2, 2))

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
