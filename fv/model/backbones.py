"""The backbones: networks of tf_keras.applications and of our own, each with the pixels it expects."""

from collections.abc import Callable

import tensorflow as tf
import tf_keras

from fv.errors import UserError
from fv.model import plain_networks
from fv.model.options import ModelOptions
from fv.model.sync_batch_norm import SyncBatchNormalization

NAME = "backbone"  # of the layer inside the encoder
# ImageNet's channel means and deviations, as the published weights were trained with them.
_CAFFE_MEANS_BGR = (103.939, 116.779, 123.68)
_TORCH_MEANS, _TORCH_VARIANCES = (0.485, 0.456, 0.406), (0.229**2, 0.224**2, 0.225**2)
_ENDS = (
    "mixed",
    "_out",
    "_add",
    "/Add",
    "stage",
)  # in the names of layers that are good to cut behind


def build(
    options: ModelOptions, shape: tuple[int, int, int], *, sync_batch_norm: bool
) -> tf_keras.Model:
    """Builds the backbone that `options` name, cut behind their layer.

    Args:
      options: backbone, layer, BatchNorm's momentum.
      shape: of one image.
      sync_batch_norm: normalise by the statistics of all replicas' images together.

    Raises:
      UserError: sizes or layer do not fit the backbone.
    """
    return _rebuilt(
        _cut(build_plain(options.backbone, shape, None), options), options, sync_batch_norm
    )


def build_plain(name: str, shape: tuple[int, int, int], weights: str | None) -> tf_keras.Model:
    """Builds a whole backbone as tf_keras.applications does, without its top; `weights` None for random ones or 'imagenet'.

    Raises:
      UserError: it has no such sizes or weights, or these cannot be downloaded.
    """
    try:
        return _BUILDERS[name](include_top=False, weights=weights, input_shape=shape)
    except UserError:
        raise
    except Exception as error:  # a bad size; tf_keras raises a bare one where a download fails
        given = f" with weights '{weights}'" if weights else ""
        raise UserError(f"--backbone={name} at {shape[0]} pixels{given} fails: {error}") from error


def normalise(name: str, images: tf.Tensor) -> tf.Tensor:
    """Pixels of 0 to 255 as that backbone's published weights expect them."""
    return _NORMALISE[name](images)


def _cut(backbone: tf_keras.Model, options: ModelOptions) -> tf_keras.Model:
    if options.feature_layer is None:
        return backbone
    names = [layer.name for layer in backbone.layers]
    if options.feature_layer not in names:
        known = ", ".join(
            name for name in names if any(end in name for end in _ENDS) and "operators" not in name
        )
        raise UserError(
            f"--feature_layer={options.feature_layer} is no layer of {options.backbone}; among them are {known}"
        )
    return tf_keras.Model(backbone.input, backbone.get_layer(options.feature_layer).output)


def _rebuilt(backbone: tf_keras.Model, options: ModelOptions, synchronised: bool) -> tf_keras.Model:
    """The backbone with its weights, with BatchNorm as asked, and without dropout of its own, whose masks have a state."""

    def rebuild(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        config = layer.get_config()
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            config |= {"momentum": options.batch_norm_momentum, "synchronized": synchronised}
            return (SyncBatchNormalization if synchronised else layer.__class__).from_config(config)
        if isinstance(layer, tf_keras.layers.Dropout):
            config |= {"rate": 0.0}
        return layer.__class__.from_config(config)

    rebuilt = tf_keras.models.clone_model(backbone, clone_function=rebuild)
    rebuilt.set_weights(backbone.get_weights())
    rebuilt._name = NAME
    return rebuilt


def _build_efficient(**arguments) -> tf_keras.Model:
    return tf_keras.applications.EfficientNetV2B0(include_preprocessing=False, **arguments)


def _build_mobile(**arguments) -> tf_keras.Model:
    return tf_keras.applications.MobileNetV3Large(include_preprocessing=False, **arguments)


def _to_minus_one_to_one(images: tf.Tensor) -> tf.Tensor:
    return tf_keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="normalise")(images)


def _to_caffe(images: tf.Tensor) -> tf.Tensor:
    """RGB 0 to 255 → BGR less ImageNet's means."""
    return images[..., ::-1] - tf.constant(_CAFFE_MEANS_BGR)


def _to_torch(images: tf.Tensor) -> tf.Tensor:
    """RGB 0 to 255 → 0 to 1, less ImageNet's means, over its deviations."""
    scaled = tf_keras.layers.Rescaling(1 / 255.0)(images)
    return tf_keras.layers.Normalization(
        mean=_TORCH_MEANS, variance=_TORCH_VARIANCES, name="normalise"
    )(scaled)


_BUILDERS: dict[str, Callable[..., tf_keras.Model]] = {
    "inception_v3": tf_keras.applications.InceptionV3,
    "resnet50": tf_keras.applications.ResNet50,
    "efficientnet_v2_b0": _build_efficient,
    "mobilenet_v3": _build_mobile,
    "conv8": plain_networks.conv8,
    "tiny": plain_networks.tiny,
}
_NORMALISE = {
    "inception_v3": _to_minus_one_to_one,
    "resnet50": _to_caffe,
    "efficientnet_v2_b0": _to_torch,
    "mobilenet_v3": _to_minus_one_to_one,
    "conv8": _to_minus_one_to_one,
    "tiny": _to_minus_one_to_one,
}
