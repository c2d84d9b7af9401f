"""An encoder as a fast function for an exported graph.

BatchNorm is folded into the layers before it and weights into the graph. A batch is embedded in
parts, one for each core, and concurrent calls share batches.
"""

import hashlib
import logging
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow.python.framework import convert_to_constants

from fv import image_ops
from fv.model.options import ModelOptions

_LINEAR = (tf_keras.layers.Conv2D, tf_keras.layers.Dense)  # DepthwiseConv2D is handled apart
_DEPTHWISE = tf_keras.layers.DepthwiseConv2D
_NORM = tf_keras.layers.BatchNormalization
_BATCHES_AT_ONCE = 1  # on all cores; what arrives meanwhile makes up the next batch
_WAIT_MICROSECONDS = 0  # requests merge only while they wait for the batch before theirs
_MOST_WAITING = 1 << 16  # batches; further requests are refused
_MOST_ROWS = 1 << 30  # of a call, which is split
_QUEUE = "images"
# Cores share a batch better by images than inside an op: two cores take 64 images in 154 ms by
# eight, in 220 ms at once. oneDNN also makes its kernels for eight sizes only.
_PART_ROWS = 8
_PARTS_AT_ONCE = 64

Encode = Callable[[tf.Tensor], tf.Tensor]


def make_encode(encoder: tf_keras.Model, options: ModelOptions, merged_images: int) -> Encode:
    """Returns an encoder as a function of uint8 [n, side, side, 3] to float32 [n, d], for n > 0.

    Rows of concurrent calls go through it together, up to `merged_images`; 0 for each call alone.
    """
    side, shape = options.image_size, [None, options.embedding_size]
    pixels = tf.TensorSpec([None, side, side, image_ops.CHANNELS], tf.uint8)
    frozen = freeze(fold_batch_norm(encoder))

    @tf.function(input_signature=[pixels], autograph=False)
    def encode(pixels):
        count = tf.shape(pixels)[0]
        parts = (count + _PART_ROWS - 1) // _PART_ROWS

        def encode_part(part, found):
            rows = pixels[count * part // parts : count * (part + 1) // parts]
            return part + 1, found.write(part, frozen(rows)[0])

        found = tf.TensorArray(tf.float32, parts, infer_shape=False, element_shape=shape)
        _, found = tf.while_loop(
            lambda part, _: part < parts,
            encode_part,
            (0, found),
            parallel_iterations=_PARTS_AT_ONCE,
        )
        return tf.ensure_shape(found.concat(), shape)

    if not merged_images:
        return lambda pixels: encode(pixels)

    @tf.function(input_signature=[pixels], autograph=False)
    def encode_merged(pixels):
        # Grappler optimises a call inside, but not the batched function itself: 15 % slower.
        return encode(pixels)

    digest = hashlib.sha256(repr(options).encode())
    for weight in encoder.variables:
        digest.update(weight.numpy())
    concrete = encode_merged.get_concrete_function()
    return merge_requests(concrete, merged_images, f"fv-{digest.hexdigest()}")


def merge_requests(encode: tf.types.experimental.ConcreteFunction, most: int, name: str) -> Encode:
    """Returns a function that sends the rows of concurrent calls through `encode` together.

    It merges behind the decoders, so a bad image fails only its own request. A server that merges
    whole requests (TensorFlow Serving with --enable_batching) fails all of them.

    Args:
      encode: one tensor [n, …] → one tensor [n, …], row by row, for n > 0.
      most: rows at once; a call with more is split.
      name: of the queue in this process. Another `encode`, or other weights, need another name;
        `tf.nondifferentiable_batch_function` uses one name for all, which mixes their answers.
    """

    def call(rows):
        (answers,) = tf.raw_ops.BatchFunction(
            in_tensors=[rows],
            captured_tensors=encode.captured_inputs,
            f=encode,
            Tout=[encode.outputs[0].dtype],
            num_batch_threads=_BATCHES_AT_ONCE,
            max_batch_size=_MOST_ROWS,
            allowed_batch_sizes=list(range(1, most + 1)),  # other sizes would be padded
            batch_timeout_micros=_WAIT_MICROSECONDS,
            max_enqueued_batches=_MOST_WAITING,
            enable_large_batch_splitting=True,
            shared_name=name,
            batching_queue=_QUEUE,
        )
        return tf.ensure_shape(answers, encode.outputs[0].shape)

    return call


def fold_batch_norm(network: tf_keras.Model) -> tf_keras.Model:
    """Returns a copy of a network whose convolutions contain the BatchNorm behind them.

    A BatchNorm is folded if it alone reads a convolution or dense layer without activation;
    others stay. Embeddings differ by rounding, less than 1e-5. The copy is for inference.
    """
    norms = _find_foldable(network)

    def rebuild(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        if isinstance(layer, tf_keras.Model):
            return fold_batch_norm(layer)
        if layer.name in folded_norms:
            return tf_keras.layers.Activation("linear", name=layer.name)
        bias = {"use_bias": True} if layer.name in norms else {}
        return layer.__class__.from_config(layer.get_config() | bias)

    folded_norms = {norm.name for norm in norms.values()}
    folded = tf_keras.models.clone_model(network, clone_function=rebuild)
    for layer in network.layers:
        if layer.name in norms:
            folded.get_layer(layer.name).set_weights(_fold_weights(layer, norms[layer.name]))
        elif layer.name not in folded_norms and not isinstance(layer, tf_keras.Model):
            folded.get_layer(layer.name).set_weights(layer.get_weights())
    folded._name = network.name
    return folded


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
