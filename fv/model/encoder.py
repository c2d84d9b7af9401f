"""The encoder: pixels → unit embeddings, around a backbone."""

from collections.abc import Callable

import tensorflow as tf
import tf_keras

from fv import preprocess
from fv.errors import UserError
from fv.model.options import ModelOptions

_CAFFE_MEANS_BGR = (103.939, 116.779, 123.68)  # ImageNet's channel means, as ResNet50's weights were trained with
_TINY_WIDTHS = (16, 32, 64)


def build_encoder(options: ModelOptions, *, weights: str | None = None, sync_batch_norm: bool = False) -> tf_keras.Model:
    """Builds the encoder.

    Args:
      options: backbone, sizes, pooling, dropout.
      weights: of the backbone: None for random ones, 'imagenet' to download them, or the path of a weights file that
        tf_keras wrote for this backbone without its top.
      sync_batch_norm: normalise by the statistics of all replicas' images together.

    Returns:
      A model from uint8 or float [n, image_size, image_size, 3], values 0 to 255, to float32 [n, embedding_size] of unit
      length, whatever the precision policy. Its layer 'backbone' can be frozen.

    Raises:
      UserError: sizes, layer or weights do not fit the backbone.
    """
    shape = (options.image_size, options.image_size, preprocess.CHANNELS)
    images = tf_keras.Input(shape, dtype=tf.float32, name="images")
    backbone = _batch_norm_as(_cut(_build_backbone(options.backbone, shape, weights), options), options, sync_batch_norm)
    features = _pool(backbone(_NORMALISE[options.backbone](images)), options.pooling)
    if options.dropout:
        features = tf_keras.layers.Dropout(options.dropout, name="dropout")(features)
    embeddings = tf_keras.layers.Dense(options.embedding_size, use_bias=False, name="embedding")(features)
    embeddings = tf_keras.layers.UnitNormalization(dtype="float32", name="unit_length")(embeddings)
    return tf_keras.Model(images, embeddings, name="encoder")


def freeze_backbone(encoder: tf_keras.Model) -> None:
    """Keeps the backbone's weights and BatchNorm statistics as they are in training."""
    encoder.get_layer("backbone").trainable = False


def _build_backbone(name: str, shape: tuple[int, int, int], weights: str | None) -> tf_keras.Model:
    try:
        return _BUILDERS[name](include_top=False, weights=weights, input_shape=shape)
    except UserError:
        raise
    except Exception as error:  # a bad size or file; tf_keras raises a bare one where a download fails
        raise UserError(f"--backbone={name} at {shape[0]} pixels with weights '{weights}' fails: {error}") from error


def _build_tiny(include_top: bool, weights: str | None, input_shape: tuple[int, int, int]) -> tf_keras.Model:
    """Three strided convolutions with BatchNorm: for tests of everything but the backbone itself."""
    del include_top
    if weights == "imagenet":
        raise UserError("--backbone=tiny has no ImageNet weights: give --init_weights=none or a file")
    images = features = tf_keras.Input(input_shape)
    for width in _TINY_WIDTHS:
        features = tf_keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(features)
        features = tf_keras.layers.BatchNormalization()(features)
        features = tf_keras.layers.ReLU()(features)
    model = tf_keras.Model(images, features)
    if weights:
        model.load_weights(weights)
    return model


def _cut(backbone: tf_keras.Model, options: ModelOptions) -> tf_keras.Model:
    if options.feature_layer is None:
        return backbone
    names = [layer.name for layer in backbone.layers]
    if options.feature_layer not in names:
        known = ", ".join(name for name in names if name.startswith("mixed") or name.endswith("_out"))
        raise UserError(f"--feature_layer={options.feature_layer} is no layer of {options.backbone}; among them are {known}")
    return tf_keras.Model(backbone.input, backbone.get_layer(options.feature_layer).output)


def _batch_norm_as(backbone: tf_keras.Model, options: ModelOptions, synchronised: bool) -> tf_keras.Model:
    """Rebuilds the backbone with BatchNorm layers of the asked momentum and synchronisation, keeping its weights."""

    def rebuild(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        config = layer.get_config()
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            config |= {"momentum": options.batch_norm_momentum, "synchronized": synchronised}
            return tf_keras.layers.BatchNormalization.from_config(config)
        return layer.__class__.from_config(config)

    rebuilt = tf_keras.models.clone_model(backbone, clone_function=rebuild)
    rebuilt.set_weights(backbone.get_weights())
    rebuilt._name = "backbone"
    return rebuilt


def _pool(features: tf.Tensor, pooling: str) -> tf.Tensor:
    if pooling == "flatten":
        return tf_keras.layers.Flatten(name="pool")(features)
    return tf_keras.layers.GlobalAveragePooling2D(name="pool")(features)


def _to_minus_one_to_one(images: tf.Tensor) -> tf.Tensor:
    return tf_keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="normalise")(images)


def _to_caffe(images: tf.Tensor) -> tf.Tensor:
    """RGB 0 to 255 → BGR less ImageNet's means."""
    reversed_channels = images[..., ::-1]
    return reversed_channels - tf.constant(_CAFFE_MEANS_BGR)


_BUILDERS: dict[str, Callable[..., tf_keras.Model]] = {
    "inception_v3": tf_keras.applications.InceptionV3,
    "resnet50": tf_keras.applications.ResNet50,
    "tiny": _build_tiny,
}
_NORMALISE = {"inception_v3": _to_minus_one_to_one, "resnet50": _to_caffe, "tiny": _to_minus_one_to_one}
