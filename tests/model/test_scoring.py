import numpy as np
import tensorflow as tf

from fv import manifest
from fv.model import siamese
from fv.model.scoring import PairScorer
from fv.pipeline import input_pipeline
from fv.pipeline.input_pipeline import PairSource
from fv.training import strategy as strategies
from tests.conftest import TINY


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
