"""Folds BatchNorm into the layers before it, and weights into the graph, for faster inference."""

import logging

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow.python.framework import convert_to_constants

from fv import image_ops
from fv.model import backbones

_LINEAR = (tf_keras.layers.Conv2D, tf_keras.layers.Dense)  # DepthwiseConv2D is handled apart
_DEPTHWISE = tf_keras.layers.DepthwiseConv2D
_NORM = tf_keras.layers.BatchNormalization


def fold_batch_norm(encoder: tf_keras.Model) -> tf_keras.Model:
    """Returns a copy of an encoder whose convolutions contain the BatchNorm behind them.

    A BatchNorm is folded if it alone reads a convolution or dense layer without activation;
    others stay. Embeddings differ by rounding, less than 1e-5. The copy is for inference.
    """
    backbone = encoder.get_layer(backbones.NAME)
    folded = _fold(backbone)
    copy = tf_keras.models.clone_model(
        encoder, clone_function=lambda layer: folded if layer is backbone else _clone(layer)
    )
    for layer in encoder.layers:
        if layer is not backbone:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def freeze(encoder: tf_keras.Model) -> tf.types.experimental.ConcreteFunction:
    """Returns an encoder as a function uint8 [n, side, side, 3] → float32 [n, d] of constants.

    TensorFlow fuses convolution, bias and ReLU, and arranges kernels once, only for constants.
    """
    side = encoder.input_shape[1]
    pixels = tf.TensorSpec([None, side, side, image_ops.CHANNELS], tf.uint8, "pixels")

    @tf.function(input_signature=[pixels], autograph=False)
    def encode(pixels):
        return encoder(pixels, training=False)

    traced = encode.get_concrete_function()
    logger = tf.get_logger()
    before = logger.level
    logger.setLevel(logging.ERROR)  # it warns of lookup tables that the graph lacks
    try:
        return convert_to_constants.convert_variables_to_constants_v2(traced)
    finally:
        logger.setLevel(before)


def _fold(network: tf_keras.Model) -> tf_keras.Model:
    norms = _find_foldable(network)

    def rebuild(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        if layer.name in norms:
            config = {**layer.get_config(), "use_bias": True}
            return layer.__class__.from_config(config)
        if layer.name in folded_norms:
            return tf_keras.layers.Activation("linear", name=layer.name)
        return _clone(layer)

    folded_norms = {norm.name for norm in norms.values()}
    folded = tf_keras.models.clone_model(network, clone_function=rebuild)
    for layer in network.layers:
        if layer.name in norms:
            folded.get_layer(layer.name).set_weights(_fold_weights(layer, norms[layer.name]))
        elif layer.name not in folded_norms:
            folded.get_layer(layer.name).set_weights(layer.get_weights())
    folded._name = network.name
    return folded


def _find_foldable(network: tf_keras.Model) -> dict[str, tf_keras.layers.Layer]:
    """The BatchNorm to fold into each layer, by the layer's name."""
    outputs = {id(tensor) for tensor in network.outputs}
    readers: dict[int, list[tf_keras.layers.Layer]] = {}
    for layer in network.layers:
        for node in layer.inbound_nodes:
            for tensor in tf.nest.flatten(node.keras_inputs):
                readers.setdefault(id(tensor), []).append(layer)
    found = {}
    for layer in network.layers:
        if not isinstance(layer, (*_LINEAR, _DEPTHWISE)) or len(layer.inbound_nodes) != 1:
            continue
        behind = readers.get(id(layer.output), [])
        is_linear = layer.activation is tf_keras.activations.linear
        if len(behind) != 1 or not is_linear or id(layer.output) in outputs:
            continue
        norm = behind[0]
        # Channels are the last axis of what these layers make.
        if isinstance(norm, _NORM) and list(norm.axis) == [len(layer.output.shape) - 1]:
            found[layer.name] = norm
    return found


def _fold_weights(layer: tf_keras.layers.Layer, norm: tf_keras.layers.Layer) -> list[np.ndarray]:
    """Kernel and bias of norm(layer(x)), computed in float64."""
    kernel, *bias = [weight.astype(np.float64) for weight in layer.get_weights()]
    mean, variance = (
        weight.numpy().astype(np.float64) for weight in (norm.moving_mean, norm.moving_variance)
    )
    scale = 1.0 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma.numpy()
    offset = ((bias[0] if bias else 0.0) - mean) * scale
    if norm.center:
        offset = offset + norm.beta.numpy()
    # A depthwise kernel has [height, width, channels, multiplier].
    across = scale.reshape(kernel.shape[2:]) if isinstance(layer, _DEPTHWISE) else scale
    return [(kernel * across).astype(np.float32), offset.astype(np.float32)]


def _clone(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
    return layer.__class__.from_config(layer.get_config())
