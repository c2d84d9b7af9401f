import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv.model.backbones import SyncBatchNormalization
from fv.training import strategy as strategies

IMAGES = np.random.default_rng(0).normal(3, 2, (8, 4, 4, 2)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(0, 1, IMAGES.shape).astype(np.float32)  # of the loss


def normalised(layer_class: type, replicas: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Outputs, gradients of the images, and the layer's weights after one call in training."""
    strategy = (
        strategies.mirrored_cpus(replicas)
        if replicas > 1
        else tf.distribute.OneDeviceStrategy("CPU:0")
    )
    with strategy.scope():
        layer = layer_class(momentum=0.5, synchronized=True)
        layer.build(IMAGES.shape)

    @tf.function
    def call(images, weights):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=True)
            loss = tf.reduce_sum(outputs * weights)
        return outputs, tape.gradient(loss, images)

    def share(array: np.ndarray):
        parts = np.split(array, replicas)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    found = strategy.run(call, args=(share(IMAGES), share(WEIGHTS)))
    outputs, gradients = (
        np.concatenate(strategy.experimental_local_results(each)) for each in found
    )
    return outputs, gradients, [weight.numpy() for weight in layer.weights]


@pytest.mark.parametrize("replicas", [1, 2])
def test_outputs_gradients_and_statistics_are_those_of_the_whole_batch(replicas):
    outputs, gradients, weights = normalised(SyncBatchNormalization, replicas)
    expected = normalised(tf_keras.layers.BatchNormalization, replicas)  # tf_keras's own sums
    np.testing.assert_allclose(outputs, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradients, expected[1], rtol=1e-4, atol=1e-5)
    for found, wanted in zip(weights, expected[2], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    mean, deviation = IMAGES.mean((0, 1, 2)), np.sqrt(IMAGES.var((0, 1, 2)) + 1e-3)
    np.testing.assert_allclose(outputs, (IMAGES - mean) / deviation, rtol=1e-4, atol=1e-5)
