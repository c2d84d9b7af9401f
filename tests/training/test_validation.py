import numpy as np
import pytest
import tensorflow as tf

from fv.model import siamese
from fv.model.siamese import PairScorer
from fv.pipeline.damage import DamagedRecords
from fv.training import feeding, validation
from fv.training import strategy as strategies
from fv.training.validation import Validator


def test_samples_are_the_first_pairs_half_of_them_genuine():
    labels = np.array([0, 0, 1, 0, 1, 1, 0])
    assert list(validation.choose_samples(labels, 4)) == [2, 4, 0, 1]
    assert list(validation.choose_samples(labels, 0)) == []
    assert list(validation.choose_samples(np.zeros(3, int), 4)) == [0, 1]


def test_samples_show_every_image_and_mark_wrong_decisions():
    colours = np.random.default_rng(0).integers(0, 256, (5, 2, 1, 1, 3), np.uint8)
    images = np.broadcast_to(colours, (5, 2, 32, 32, 3))
    labels, right = np.array([1, 0, 1, 0, 1]), np.array([0.9, 0.1, 0.9, 0.1, 0.9])
    sheet = validation.draw_samples(images, labels, right, threshold=0.5)
    for colour in colours.reshape(10, 3):
        rows, columns = np.nonzero((sheet == colour).all(axis=2))
        assert (
            len(rows) == 64 * 64 and np.ptp(rows) == np.ptp(columns) == 63
        )  # one square, twice as large for its caption
    wrong = validation.draw_samples(
        images, labels, np.array([0.9, 0.1, 0.9, 0.1, 0.4]), threshold=0.5
    )
    rows, columns = np.nonzero((sheet != wrong).any(axis=2))
    assert len(rows) > 0 and np.ptp(rows) < 16 and np.ptp(columns) < 128  # the caption of one pair


def validator(options, strategy) -> Validator:
    with strategy.scope():
        model = siamese.build_siamese(options.model, identities=6)
    _, source = feeding.pair_sources(options)
    return Validator(strategy, model, source, options, DamagedRecords(options.tfrecords))


@pytest.mark.parametrize(
    "make", [lambda: tf.distribute.OneDeviceStrategy("CPU:0"), lambda: strategies.mirrored_cpus(2)]
)
def test_sample_pairs_stay_the_same_and_have_the_scores_of_their_images(tiny_run, make):
    judge = validator(tiny_run, make())
    first, second = judge.validate(), judge.validate()
    assert list(first.labels[first.sample_indices]) == [1] * 4 + [
        0
    ] * 4 and first.sample_images.shape[:2] == (8, 2)
    assert np.array_equal(first.sample_images, second.sample_images) and np.array_equal(
        first.sample_indices, second.sample_indices
    )
    scores = judge._scorer._model.similarities(tf.constant(first.sample_images)).numpy()
    np.testing.assert_allclose(first.similarities[first.sample_indices], scores, atol=1e-5)
    assert len(first.labels) == 22 and 0.5 <= first.accuracy <= 1.0


def test_validations_share_one_graph_and_one_pipeline(tiny_run, monkeypatch):
    traced, piped = [], []
    scores, make = PairScorer._replica_scores, feeding.validation_batches
    monkeypatch.setattr(
        PairScorer,
        "_replica_scores",
        lambda self, batch: (traced.append(1), scores(self, batch))[1],
    )
    monkeypatch.setattr(
        feeding, "validation_batches", lambda *arguments: (piped.append(1), make(*arguments))[1]
    )
    judge = validator(tiny_run, tf.distribute.OneDeviceStrategy("CPU:0"))
    assert not piped  # a run that has not validated yet has built nothing for it
    found = [judge.validate() for _ in range(3)]
    assert len(traced) == len(piped) == 1
    assert np.array_equal(found[0].similarities, found[2].similarities)
