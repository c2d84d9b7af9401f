import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv import manifest
from fv.model import siamese
from fv.model.siamese import PairScorer, StatelessDropout
from fv.pipeline import input_pipeline
from fv.pipeline.input_pipeline import PairSource
from fv.training import strategy as strategies
from tests.conftest import TINY

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 2, 32, 32, 3), dtype=np.uint8)
SEED = tf.constant([3, 17])


@pytest.fixture
def model() -> siamese.Siamese:
    return siamese.build_siamese(TINY, identities=3)


def test_both_images_of_a_pair_go_through_one_encoder_call(model):
    embeddings = model.embed_pairs(tf.constant(IMAGES), training=False)
    assert embeddings.shape == (4, 2, 16)
    np.testing.assert_allclose(embeddings[:, 0], model.encoder(IMAGES[:, 0]), atol=1e-5)
    np.testing.assert_allclose(embeddings[:, 1], model.encoder(IMAGES[:, 1]), atol=1e-5)


def test_batch_norm_sees_the_statistics_of_all_images_of_the_step(model):
    dark_and_bright = np.zeros_like(IMAGES)
    dark_and_bright[:, 1] = 255
    model.embed_pairs(tf.constant(dark_and_bright), training=True)
    layers = model.encoder.get_layer("backbone").layers
    first_norm = next(layer for layer in layers if hasattr(layer, "moving_variance"))
    kernel = next(layer for layer in layers if hasattr(layer, "kernel")).kernel
    pixels = tf.concat([tf.fill((4, 32, 32, 3), -1.0), tf.fill((4, 32, 32, 3), 1.0)], 0)
    _, variance = tf.nn.moments(tf.nn.conv2d(pixels, kernel, 2, "SAME"), axes=(0, 1, 2))
    count = 8 * 16 * 16
    # Momentum 0.9; the fused kernel's variance is unbiased.
    expected = 0.9 + 0.1 * variance * count / (count - 1)
    np.testing.assert_allclose(first_norm.moving_variance, expected, rtol=1e-3)


def test_equal_images_have_similarity_one(model):
    equal = np.repeat(IMAGES[:, :1], 2, axis=1)
    np.testing.assert_allclose(model.similarities(tf.constant(equal)), 1.0, atol=1e-5)


def test_all_trainable_variables_are_found_once(model):
    names = [variable.name for variable in model.trainable_variables]
    assert len(names) == len({id(variable) for variable in model.trainable_variables})
    assert "identity_centres:0" in names and "embedding/kernel:0" in names


def test_embeddings_are_float32_of_unit_length_under_every_precision():
    for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
        tf_keras.mixed_precision.set_global_policy(policy)
        embeddings = siamese.build_encoder(TINY)(IMAGES[:, 0])
        assert embeddings.dtype == tf.float32 and embeddings.shape == (4, 16)
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)


def test_a_frozen_backbone_keeps_its_weights_and_statistics_in_training():
    encoder = siamese.build_encoder(TINY)
    siamese.freeze_backbone(encoder)
    weights = encoder.get_layer("backbone").weights
    before = [weight.numpy() for weight in weights]
    encoder(IMAGES[:, 0], training=True)
    assert [weight.name for weight in encoder.trainable_variables] == ["embedding/kernel:0"]
    for weight, old in zip(weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)


# Dropout


def table(first: int, rows: int, columns: int, seed: tf.Tensor = SEED) -> np.ndarray:
    return siamese.stateless_uniform(seed, tf.constant(first), tf.constant(rows), columns).numpy()


@pytest.mark.parametrize("columns", [1, 6, 64])
def test_rows_drawn_apart_are_those_of_the_whole_table(columns):
    whole, parts = table(0, 12, columns), [table(0, 5, columns), table(5, 7, columns)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(np.unique(whole)) == whole.size


def test_numbers_are_uniform_and_differ_by_seed_and_step():
    numbers = table(0, 200, 100)
    assert numbers.min() >= 0.0 and numbers.max() < 1.0
    shares = np.histogram(numbers, bins=10, range=(0, 1))[0] / numbers.size
    np.testing.assert_allclose(shares, 0.1, atol=0.01)
    for other in ([3, 18], [4, 17]):
        assert not np.isin(table(0, 200, 100, tf.constant(other)), numbers).mean() > 0.01


def test_dropout_drops_the_rate_and_keeps_the_mean():
    layer, ones = StatelessDropout(0.3), tf.ones((400, 50))
    with layer.seeded(SEED, tf.constant(0)):
        dropped = layer(ones, training=True).numpy()
    assert set(np.unique(dropped).round(5)) == {0.0, np.float32(1 / 0.7).round(5)}
    assert (dropped == 0).mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(layer(ones, training=False), ones)


def test_the_seed_and_the_row_alone_decide_what_is_dropped():
    layer, ones = StatelessDropout(0.5), tf.ones((4, 10), tf.float16)

    @tf.function
    def drop(step: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        with layer.seeded(tf.stack([1, step]), first):
            return layer(ones, training=True)

    first = drop(tf.constant(5), tf.constant(0)).numpy()
    np.testing.assert_array_equal(drop(tf.constant(5), tf.constant(0)), first)
    np.testing.assert_array_equal(drop(tf.constant(5), tf.constant(2))[:2], first[2:])
    assert (drop(tf.constant(6), tf.constant(0)).numpy() != first).any()


# Scoring


@pytest.fixture
def source(shards) -> PairSource:
    return PairSource.of(str(shards), manifest.load(str(shards)), "test", TINY.image_size, 1.0)


def test_two_replicas_score_every_pair_once_and_as_one_device_does(source):
    one, two = tf.distribute.get_strategy(), strategies.mirrored_cpus(2)
    with two.scope():
        model = siamese.build_siamese(TINY, identities=3)
    scored = []
    for strategy, replicas in ((one, 1), (two, 2)):
        batches = strategy.distribute_datasets_from_function(
            lambda _, replicas=replicas: input_pipeline.evaluation_batches(
                source, batch_size=7, replicas=replicas
            )
        )
        scored.append(PairScorer(strategy, model).score(batches))
    (similarities, labels), (again, labels_again) = scored
    assert similarities.shape == (30,) and labels.sum() == 15
    np.testing.assert_allclose(again, similarities, atol=1e-6)
    np.testing.assert_array_equal(labels_again, labels)


def test_the_scorer_reports_every_batch(source, model):
    done = []
    scorer = PairScorer(tf.distribute.get_strategy(), model)
    scorer.score(input_pipeline.evaluation_batches(source, batch_size=8), lambda: done.append(1))
    assert len(done) == input_pipeline.evaluation_steps(source, 8) == 4
