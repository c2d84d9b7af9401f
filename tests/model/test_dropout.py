import numpy as np
import pytest
import tensorflow as tf

from fv.model import dropout
from fv.model.dropout import StatelessDropout

SEED = tf.constant([3, 17])


def table(first: int, rows: int, columns: int, seed: tf.Tensor = SEED) -> np.ndarray:
    return dropout.uniform(seed, tf.constant(first), tf.constant(rows), columns).numpy()


@pytest.mark.parametrize("columns", [1, 6, 64])
def test_rows_drawn_apart_are_those_of_the_whole_table(columns):
    whole = table(0, 12, columns)
    np.testing.assert_array_equal(
        np.concatenate([table(0, 5, columns), table(5, 7, columns)]), whole
    )
    assert len(np.unique(whole)) == whole.size


def test_numbers_are_uniform_and_differ_by_seed_and_step():
    numbers = table(0, 200, 100)
    assert numbers.min() >= 0.0 and numbers.max() < 1.0
    np.testing.assert_allclose(
        np.histogram(numbers, bins=10, range=(0, 1))[0] / numbers.size, 0.1, atol=0.01
    )
    for other in ([3, 18], [4, 17]):
        assert not np.isin(table(0, 200, 100, tf.constant(other)), numbers).mean() > 0.01


def test_it_drops_the_rate_and_keeps_the_mean():
    layer, ones = StatelessDropout(0.3), tf.ones((400, 50))
    with layer.seeded(SEED, tf.constant(0)):
        dropped = layer(ones, training=True).numpy()
    assert set(np.unique(dropped).round(5)) == {0.0, np.float32(1 / 0.7).round(5)}
    assert (dropped == 0).mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(layer(ones, training=False), ones)


def test_the_same_seed_and_row_drop_the_same_features_and_a_retraced_graph_does_too():
    layer, ones = StatelessDropout(0.5), tf.ones((4, 10), tf.float16)

    @tf.function
    def drop(step: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        with layer.seeded(tf.stack([1, step]), first):
            return layer(ones, training=True)

    first = drop(tf.constant(5), tf.constant(0)).numpy()
    np.testing.assert_array_equal(drop(tf.constant(5), tf.constant(0)), first)
    np.testing.assert_array_equal(drop(tf.constant(5), tf.constant(2))[:2], first[2:])
    assert (drop(tf.constant(6), tf.constant(0)).numpy() != first).any()
