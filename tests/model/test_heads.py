import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fv import addons
from fv.errors import UserError
from fv.model import heads, losses
from fv.model.heads import Head
from fv.model.losses import Margins
from fv.model.options import HEADS
from tests.conftest import TINY, slow_case

OPTIONS = dataclasses.replace(TINY, embedding_size=4)
IMPOSTOR = 2 - 2 * np.cos(np.radians(30))  # the smallest squared distance of the triplets below
PEOPLE = 7
START = tf.constant([0, 0])  # seed and step

needs_addons = pytest.mark.skipif(
    not addons.available(), reason="tensorflow-addons has no wheels for this Python"
)
USABLE_HEADS = [name for name in HEADS if addons.available() or not name.startswith("triplet")]
BATCH_HEADS = [name for name in losses.batch_losses(OPTIONS) if name in USABLE_HEADS]


def unit(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def make_head(identities: int = 3, **changes) -> Head:
    return heads.build_head(dataclasses.replace(OPTIONS, **changes), identities)


@pytest.mark.parametrize("name", USABLE_HEADS)
def test_every_head_returns_one_loss_and_one_similarity_per_pair(name):
    head, embeddings = make_head(head=name), tf.constant(unit((5, 2, 4)))
    identities = tf.constant([[0, 0], [0, 1], [2, 2], [1, 0], [2, 1]])
    found = head.pair_losses(embeddings, tf.constant([1, 0, 1, 0, 0]), identities, START)
    assert found.shape == (5,) and found.dtype == tf.float32 and np.all(np.isfinite(found))
    similarity = head.similarity(embeddings[:, 0], embeddings[:, 1]).numpy()
    assert similarity.shape == (5,) and np.all((similarity >= 0) & (similarity <= 1))


def test_cosine_similarity_runs_from_opposite_to_equal():
    a = tf.constant([[1.0, 0.0]] * 3)
    b = tf.constant([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(heads.cosine_similarity(a, b), [1.0, 0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize("name", USABLE_HEADS)
def test_similarity_does_not_depend_on_which_image_comes_first(name):
    head, a, b = make_head(head=name), tf.constant(unit((6, 4), 1)), tf.constant(unit((6, 4), 2))
    np.testing.assert_allclose(head.similarity(a, b), head.similarity(b, a), atol=1e-6)


def test_the_softmax_head_averages_the_losses_of_a_pairs_images():
    head = make_head(2, head="softmax", softmax_margin=(0.0, 0.0), softmax_scale=1.0)
    # The lengths of the centres must not matter.
    head.centres.assign([[2.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0]])
    embeddings = tf.constant([[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]])
    right, wrong = (np.log(np.exp(1.0) + 1.0) - cosine for cosine in (1.0, 0.0))
    for identities, expected in (([[0, 1]], right), ([[0, 0]], (right + wrong) / 2)):
        found = head.pair_losses(embeddings, None, tf.constant(identities), START)
        np.testing.assert_allclose(found, [expected], rtol=1e-5)


@pytest.mark.parametrize("second", [False, True], ids=["first head", "second head"])
def test_the_softmax_margins_make_the_true_identity_harder(second):
    names = dict(head="distance", second_head="softmax") if second else dict(head="softmax")
    head = make_head(**names, softmax_margin=(0.2, 0.4))
    embeddings, label = tf.constant(unit((2, 2, 4))), tf.constant([0, 0])
    identities = tf.constant([[0, 1], [1, 2]])
    by_hand = losses.margin_softmax_loss(
        tf.reshape(embeddings, (-1, 4)),
        head.trainable_variables[0],
        tf.reshape(identities, [-1]),
        16.0,
        Margins(cosine=0.2, angle=0.4),
    )
    expected = tf.reduce_mean(tf.reshape(by_hand, (-1, 2)), axis=1)
    if second:
        expected += losses.contrastive_loss(embeddings[:, 0], embeddings[:, 1], label, margin=1.0)
    found = head.pair_losses(embeddings, label, identities, START)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("jit", [False, slow_case(True)])
def test_the_softmax_head_samples_by_seed_and_step(jit):
    made = {
        count: make_head(PEOPLE, head="softmax", embedding_size=6, softmax_sample=count)
        for count in (0, 2, PEOPLE)
    }
    for head in made.values():
        head.centres.assign(3 * unit((PEOPLE, 6), seed=1))
    pairs = tf.constant(unit((2, 2, 6))), tf.constant([0, 1]), tf.constant([[0, 3], [3, 5]])
    graphs = {count: tf.function(head.pair_losses, jit_compile=jit) for count, head in made.items()}

    def losses_of(count: int, step: int) -> np.ndarray:
        return graphs[count](*pairs, tf.constant([0, step])).numpy()

    whole = losses_of(0, 1)
    np.testing.assert_allclose(losses_of(PEOPLE, 1), whole)  # a sample of all is no sample
    found = [losses_of(2, step) for step in range(5)]
    assert all(np.all(sampled < whole) for sampled in found)
    assert len({tuple(sampled) for sampled in found}) > 1


def test_a_sum_of_heads_adds_weighted_losses_and_scores_by_the_first():
    head = make_head(head="sigmoid", second_head="n_pairs", second_head_weight=0.5)
    alone = make_head(head="n_pairs")
    batch = tf.constant(unit((2, 2, 4))), tf.constant([1, 0]), tf.constant([[0, 0], [0, 1]]), START
    first, second = head._first.pair_losses(*batch), alone.pair_losses(*batch)
    np.testing.assert_allclose(head.pair_losses(*batch), first + 0.5 * second, rtol=1e-6)
    assert len(head.trainable_variables) == 2 and head.scoring is head._first.scoring


def test_a_second_head_like_the_first_is_refused():
    with pytest.raises(UserError, match="--second_head=n_pairs is --head again"):
        make_head(head="n_pairs", second_head="n_pairs")


@pytest.mark.parametrize("name", BATCH_HEADS)
def test_losses_of_a_batch_ignore_images_of_unknown_identity(name):
    head, known = make_head(head=name), unit((4, 2, 4))
    label, identities = [1, 0, 1, 0], [[0, 0], [0, 1], [2, 2], [1, 2]]
    batch = tf.constant(known), tf.constant(label), tf.constant(identities)
    without = head.pair_losses(*batch, START)[0]
    more = tf.constant(np.concatenate([known, known[:1]]))
    unknown = tf.constant([*identities, [-1, -1]])
    with_unknown = head.pair_losses(more, tf.constant([*label, 0]), unknown, START)[0]
    assert without > 0
    np.testing.assert_allclose(with_unknown, without, rtol=1e-6)


@needs_addons
@pytest.mark.parametrize(
    ("name", "margin", "loss"),
    [("triplet_hard", 0.2, (1.2 - IMPOSTOR) / 4), ("triplet_semihard", 1.5, 0.25)],
)
def test_a_triplet_costs_what_the_impostor_is_too_near(name, margin, loss, monkeypatch):
    monkeypatch.setattr(losses, "TRIPLET_MARGIN", margin)
    # Squared distances: genuine 1; impostors 2 and 4 of the first, 0.27 and 3 of the second.
    degrees = np.radians([[0, 60], [90, 180]])
    embeddings = np.stack([np.cos(degrees), np.sin(degrees)], axis=-1).astype(np.float32)
    found = make_head(head=name).pair_losses(
        tf.constant(embeddings), tf.constant([1, 0]), tf.constant([[0, 0], [1, 2]]), START
    )
    # Hard: of four anchors, only the second image's nearest impostor is too near. Semi-hard: of
    # two genuine pairs, the nearest impostor beyond the genuine image is at 2 for the first image
    # and at 3 for the second.
    np.testing.assert_allclose(found, [loss, loss], rtol=1e-5)
