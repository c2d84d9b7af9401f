import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fv.model import heads
from fv.model.options import HEADS
from tests.conftest import TINY

OPTIONS = dataclasses.replace(TINY, embedding_size=4)


def unit(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_gives_one_loss_and_one_similarity_per_pair(name):
    head = heads.build_head(dataclasses.replace(OPTIONS, head=name), identities=3)
    embeddings = tf.constant(unit((5, 2, 4)))
    losses = head.losses(embeddings, tf.constant([1, 0, 1, 0, 0]), tf.constant([[0, 0], [0, 1], [2, 2], [1, 0], [2, 1]]))
    assert losses.shape == (5,) and losses.dtype == tf.float32 and np.all(np.isfinite(losses))
    similarity = head.similarity(embeddings[:, 0], embeddings[:, 1]).numpy()
    assert similarity.shape == (5,) and np.all((similarity >= 0) & (similarity <= 1))


def test_cosine_similarity_runs_from_opposite_to_equal():
    a = tf.constant([[1.0, 0.0]] * 3)
    b = tf.constant([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(heads.cosine_similarity(a, b), [1.0, 0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_similarity_does_not_depend_on_which_image_comes_first(name):
    head = heads.build_head(dataclasses.replace(OPTIONS, head=name), identities=3)
    a, b = tf.constant(unit((6, 4), 1)), tf.constant(unit((6, 4), 2))
    np.testing.assert_allclose(head.similarity(a, b), head.similarity(b, a), atol=1e-6)


def test_the_softmax_head_averages_the_losses_of_a_pair_s_images():
    head = heads.build_head(
        dataclasses.replace(OPTIONS, head="softmax", softmax_margin=0.0, softmax_scale=1.0), identities=2
    )
    head.centres.assign([[2.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0]])  # their lengths must not matter
    embeddings = tf.constant([[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]])
    right, wrong = (np.log(np.exp(1.0) + 1.0) - cosine for cosine in (1.0, 0.0))
    np.testing.assert_allclose(head.losses(embeddings, None, tf.constant([[0, 1]])), [right], rtol=1e-5)
    np.testing.assert_allclose(head.losses(embeddings, None, tf.constant([[0, 0]])), [(right + wrong) / 2], rtol=1e-5)
