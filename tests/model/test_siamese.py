import numpy as np
import tensorflow as tf

from fv import manifest
from fv.model import siamese
from fv.model.siamese import PairScorer
from fv.pipeline import input_pipeline
from fv.pipeline.input_pipeline import PairSource
from fv.training import strategy as strategies
from tests.conftest import TINY

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 2, 32, 32, 3), dtype=np.uint8)


def test_both_images_of_a_pair_go_through_one_encoder_call():
    model = siamese.build_siamese(TINY, identities=3)
    embeddings = model.embed_pairs(tf.constant(IMAGES), training=False)
    assert embeddings.shape == (4, 2, 16)
    np.testing.assert_allclose(embeddings[:, 0], model.encoder(IMAGES[:, 0]), atol=1e-5)
    np.testing.assert_allclose(embeddings[:, 1], model.encoder(IMAGES[:, 1]), atol=1e-5)


def test_batch_norm_sees_the_statistics_of_all_images_of_the_step():
    model = siamese.build_siamese(TINY, identities=3)
    dark_and_bright = np.stack(
        [np.zeros_like(IMAGES[:, 0]), np.full_like(IMAGES[:, 0], 255)], axis=1
    )
    model.embed_pairs(tf.constant(dark_and_bright), training=True)
    backbone = model.encoder.get_layer("backbone")
    first_norm = next(layer for layer in backbone.layers if hasattr(layer, "moving_variance"))
    kernel = next(layer for layer in backbone.layers if hasattr(layer, "kernel")).kernel
    maps = tf.nn.conv2d(
        tf.concat([tf.fill((4, 32, 32, 3), -1.0), tf.fill((4, 32, 32, 3), 1.0)], 0),
        kernel,
        2,
        "SAME",
    )
    _, variance = tf.nn.moments(maps, axes=(0, 1, 2))
    pixels = 8 * 16 * 16
    expected = 0.9 + 0.1 * variance * pixels / (
        pixels - 1
    )  # momentum 0.9; the fused kernel's unbiased variance
    np.testing.assert_allclose(first_norm.moving_variance, expected, rtol=1e-3)


def test_equal_images_have_similarity_one():
    model = siamese.build_siamese(TINY, identities=3)
    equal = np.repeat(IMAGES[:, :1], 2, axis=1)
    np.testing.assert_allclose(model.similarities(tf.constant(equal)), 1.0, atol=1e-5)


def test_all_trainable_variables_are_found_once():
    model = siamese.build_siamese(TINY, identities=3)
    names = [variable.name for variable in model.trainable_variables]
    assert len(names) == len({id(variable) for variable in model.trainable_variables})
    assert "identity_centres:0" in names and "embedding/kernel:0" in names


def test_two_replicas_score_every_pair_once_and_as_one_device_does(shards):
    source = PairSource.of(str(shards), manifest.load(str(shards)), "test", TINY.image_size, 1.0)
    one, two = tf.distribute.get_strategy(), strategies.mirrored_cpus(2)
    scored = {}
    with two.scope():
        model = siamese.build_siamese(TINY, identities=3)
    for strategy, replicas in ((one, 1), (two, 2)):
        batches = strategy.distribute_datasets_from_function(
            lambda _, replicas=replicas: input_pipeline.evaluation_batches(
                source, batch_size=7, replicas=replicas
            )
        )
        scored[replicas] = PairScorer(strategy, model).score(batches)
    (similarities, labels), (again, labels_again) = scored[1], scored[2]
    assert similarities.shape == (30,) and labels.sum() == 15
    np.testing.assert_allclose(again, similarities, atol=1e-6)
    np.testing.assert_array_equal(labels_again, labels)


def test_it_tells_of_every_batch(shards):
    source = PairSource.of(str(shards), manifest.load(str(shards)), "test", TINY.image_size, 1.0)
    done = []
    scorer = PairScorer(tf.distribute.get_strategy(), siamese.build_siamese(TINY, identities=3))
    scorer.score(input_pipeline.evaluation_batches(source, batch_size=8), lambda: done.append(1))
    assert len(done) == input_pipeline.evaluation_steps(source, 8) == 4
