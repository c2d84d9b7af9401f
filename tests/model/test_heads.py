import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fv import addons
from fv.model import heads, losses
from fv.model.options import HEADS
from tests.conftest import TINY

OPTIONS = dataclasses.replace(TINY, embedding_size=4)
IMPOSTOR = 2 - 2 * np.cos(np.radians(30))  # the smallest squared distance of the triplets below
BATCH_HEADS = ("all_distances", "n_pairs", "triplet_semihard", "triplet_hard")

needs_addons = pytest.mark.skipif(
    not addons.available(), reason="tensorflow-addons has no wheels for this Python"
)
USABLE_HEADS = [name for name in HEADS if addons.available() or not name.startswith("triplet")]


def unit(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("name", USABLE_HEADS)
def test_every_head_gives_one_loss_and_one_similarity_per_pair(name):
    head = heads.build_head(dataclasses.replace(OPTIONS, head=name), identities=3)
    embeddings = tf.constant(unit((5, 2, 4)))
    found = head.losses(
        embeddings,
        tf.constant([1, 0, 1, 0, 0]),
        tf.constant([[0, 0], [0, 1], [2, 2], [1, 0], [2, 1]]),
    )
    assert found.shape == (5,) and found.dtype == tf.float32 and np.all(np.isfinite(found))
    similarity = head.similarity(embeddings[:, 0], embeddings[:, 1]).numpy()
    assert similarity.shape == (5,) and np.all((similarity >= 0) & (similarity <= 1))


def test_cosine_similarity_runs_from_opposite_to_equal():
    a = tf.constant([[1.0, 0.0]] * 3)
    b = tf.constant([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(heads.cosine_similarity(a, b), [1.0, 0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize("name", USABLE_HEADS)
def test_similarity_does_not_depend_on_which_image_comes_first(name):
    head = heads.build_head(dataclasses.replace(OPTIONS, head=name), identities=3)
    a, b = tf.constant(unit((6, 4), 1)), tf.constant(unit((6, 4), 2))
    np.testing.assert_allclose(head.similarity(a, b), head.similarity(b, a), atol=1e-6)


def test_the_softmax_head_averages_the_losses_of_a_pair_s_images():
    head = heads.build_head(
        dataclasses.replace(OPTIONS, head="softmax", softmax_margin=(0.0, 0.0), softmax_scale=1.0),
        identities=2,
    )
    head.centres.assign(
        [[2.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0]]
    )  # their lengths must not matter
    embeddings = tf.constant([[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]])
    right, wrong = (np.log(np.exp(1.0) + 1.0) - cosine for cosine in (1.0, 0.0))
    np.testing.assert_allclose(
        head.losses(embeddings, None, tf.constant([[0, 1]])), [right], rtol=1e-5
    )
    np.testing.assert_allclose(
        head.losses(embeddings, None, tf.constant([[0, 0]])), [(right + wrong) / 2], rtol=1e-5
    )


@pytest.mark.parametrize("second", [False, True])
def test_the_softmax_margins_make_the_true_identity_harder(second):
    """In the second head too."""
    margins = dict(softmax_margin=(0.2, 0.4))
    alone, of_sum = (
        dict(head="softmax"),
        dict(head="distance", second_head="softmax"),
    )
    head = heads.build_head(
        dataclasses.replace(OPTIONS, **(of_sum if second else alone), **margins), identities=3
    )
    embeddings, label, identities = (
        tf.constant(unit((2, 2, 4))),
        tf.constant([0, 0]),
        tf.constant([[0, 1], [1, 2]]),
    )
    centres = tf.math.l2_normalize(head.trainable_variables[0], axis=1)
    cosines = tf.matmul(tf.reshape(embeddings, (-1, 4)), centres, transpose_b=True)
    by_hand = losses.margin_softmax_loss(cosines, tf.reshape(identities, [-1]), 16.0, 0.2, 0.4)
    expected = tf.reduce_mean(tf.reshape(by_hand, (-1, 2)), axis=1)
    if second:
        expected += losses.contrastive_loss(embeddings[:, 0], embeddings[:, 1], label, margin=1.0)
    found = head.losses(embeddings, label, identities)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_sum_of_heads_adds_weighted_losses_and_scores_by_the_first():
    options = dataclasses.replace(
        OPTIONS, head="sigmoid", second_head="n_pairs", second_head_weight=0.5
    )
    head = heads.build_head(options, identities=3)
    embeddings, label, identities = (
        tf.constant(unit((2, 2, 4))),
        tf.constant([1, 0]),
        tf.constant([[0, 0], [0, 1]]),
    )
    alone = heads.build_head(dataclasses.replace(OPTIONS, head="n_pairs"), identities=3)
    first = head._first.losses(embeddings, label, identities)
    second = alone.losses(embeddings, label, identities)
    np.testing.assert_allclose(
        head.losses(embeddings, label, identities), first + 0.5 * second, rtol=1e-6
    )
    assert len(head.trainable_variables) == 2 and head.scoring is head._first.scoring


@pytest.mark.parametrize("name", [name for name in BATCH_HEADS if name in USABLE_HEADS])
def test_losses_of_a_batch_leave_out_images_of_unknown_identity(name):
    head = heads.build_head(dataclasses.replace(OPTIONS, head=name), identities=3)
    known, label, identities = (
        unit((4, 2, 4)),
        tf.constant([1, 0, 1, 0]),
        np.array([[0, 0], [0, 1], [2, 2], [1, 2]]),
    )
    without = head.losses(tf.constant(known), label, tf.constant(identities))[0]
    more = np.concatenate([known, known[:1]])
    with_hole = head.losses(
        tf.constant(more), tf.constant([1, 0, 1, 0, 0]), tf.constant([*identities, [-1, -1]])
    )[0]
    assert without > 0
    np.testing.assert_allclose(with_hole, without, rtol=1e-6)


@needs_addons
@pytest.mark.parametrize(
    ("name", "margin", "loss"),
    [("triplet_hard", 0.2, (1.2 - IMPOSTOR) / 4), ("triplet_semihard", 1.5, 0.25)],
)
def test_a_triplet_costs_what_the_impostor_is_too_near(name, margin, loss, monkeypatch):
    monkeypatch.setattr(heads, "_TRIPLET_MARGIN", margin)
    degrees = np.radians(
        [[0, 60], [90, 180]]
    )  # squared distances: genuine 1; impostors 2 and 4 of the first, 0.27 and 3
    embeddings = np.stack([np.cos(degrees), np.sin(degrees)], axis=-1).astype(np.float32)
    head = heads.build_head(dataclasses.replace(OPTIONS, head=name), identities=3)
    found = head.losses(tf.constant(embeddings), tf.constant([1, 0]), tf.constant([[0, 0], [1, 2]]))
    # Hard: only the second image's nearest impostor is too near, of four anchors. Semi-hard: the nearest impostor beyond the
    # genuine image is at 2 for the first image, at 3 for the second, of two genuine pairs.
    np.testing.assert_allclose(found, [loss, loss], rtol=1e-5)
