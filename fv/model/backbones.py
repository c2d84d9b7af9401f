"""The backbones: networks of tf_keras.applications and of our own, with the pixels they expect.

To add one: enter its builder and its normalisation of pixels in `_BACKBONES`, at the end of this
file, and its name in `BACKBONES` in `options.py`. `tests/model/test_backbones.py` builds it.

Some networks of tf_keras.applications scale pixels themselves: EfficientNet, EfficientNetV2,
MobileNetV3, ConvNeXt, RegNet and ResNetRS. A normalisation in front of that would scale them twice.
Pass `include_preprocessing=False`, as `_build_efficient` does. EfficientNet has no such argument:
enter `lambda images: images` as its normalisation.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf
import tf_keras

from fv import errors
from fv.errors import UserError
from fv.model.options import ModelOptions
from fv.model.regions import TakeRegion, parse_regions

NAME = "backbone"  # of the layer inside the encoder
_CONV8_WIDTHS = (32, 64, 128, 256)
_TINY_WIDTHS = (16, 32, 64)
# ImageNet's channel means and deviations, as the published weights were trained with them.
_CAFFE_MEANS_BGR = (103.939, 116.779, 123.68)
_TORCH_MEANS, _TORCH_VARIANCES = (0.485, 0.456, 0.406), (0.229**2, 0.224**2, 0.225**2)
# Parts of the names of layers that are useful to cut behind, for the message.
_CUT_MARKS = ("mixed", "_out", "_add", "/Add", "stage")
_SUM = tf.distribute.ReduceOp.SUM


def build_backbone(
    options: ModelOptions, shape: tuple[int, int, int], *, sync_batch_norm: bool
) -> tf_keras.Model:
    """Builds the backbone that the options name, cut behind their layer; one for each region.

    Args:
      options: backbone, layer, regions, BatchNorm's momentum.
      shape: of one image.
      sync_batch_norm: normalise by the statistics of the images of all replicas together.

    Returns:
      A model from float [n, *shape] to a map of features; to a list of maps, one for each region.

    Raises:
      UserError: sizes or layer do not fit the backbone, or the regions are none.
    """
    regions = parse_regions(options.regions)
    if not regions:
        return _build_network(options, shape, sync_batch_norm, NAME)
    images, maps = tf_keras.Input(shape), []
    for number, region in enumerate(regions):
        region.edges(shape[0])  # tf_keras would add lines to the errors of its layer
        pixels = TakeRegion(region, name=f"pixels{number}")(images)
        network = _build_network(options, pixels.shape[1:], sync_batch_norm, f"region{number}")
        maps.append(network(pixels))
    return tf_keras.Model(images, maps, name=NAME)


def _build_network(
    options: ModelOptions, shape: tuple[int, int, int], sync_batch_norm: bool, name: str
) -> tf_keras.Model:
    backbone = _cut(build_plain(options.backbone, shape, None), options)

    def rebuild(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        layer_class, config = layer.__class__, layer.get_config()
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            config |= {"momentum": options.batch_norm_momentum, "synchronized": sync_batch_norm}
            layer_class = SyncBatchNormalization if sync_batch_norm else layer_class
        elif isinstance(layer, tf_keras.layers.Dropout):
            config |= {"rate": 0.0}  # its masks depend on a state, which no checkpoint restores
        return layer_class.from_config(config)

    rebuilt = tf_keras.models.clone_model(backbone, clone_function=rebuild)
    rebuilt.set_weights(backbone.get_weights())
    rebuilt._name = name
    return rebuilt


def build_plain(name: str, shape: tuple[int, int, int], weights: str | None) -> tf_keras.Model:
    """Builds a whole backbone, without its top.

    Args:
      name: of the backbone.
      shape: of one image.
      weights: 'imagenet', or None for random ones.

    Raises:
      UserError: the backbone has no such size or weights, or these cannot be downloaded.
    """
    build = _BACKBONES[name].build
    try:
        return build(include_top=False, weights=weights, input_shape=shape)
    except UserError:
        raise
    except Exception as error:  # a bad size; tf_keras raises a bare one where a download fails
        errors.raise_if_temporary(error)
        given = f" with weights '{weights}'" if weights else ""
        size = f"{shape[1]} × {shape[0]} pixels"
        raise UserError(f"--backbone={name} at {size}{given} fails: {error}") from error


def normalise_pixels(name: str, images: tf.Tensor) -> tf.Tensor:
    """Converts pixels of 0 to 255 to what the backbone's published weights expect."""
    return _BACKBONES[name].normalise(images)


def _cut(backbone: tf_keras.Model, options: ModelOptions) -> tf_keras.Model:
    if options.feature_layer is None:
        return backbone
    names = [layer.name for layer in backbone.layers]
    if options.feature_layer not in names:
        cuts = [name for name in names if any(mark in name for mark in _CUT_MARKS)]
        known = ", ".join(name for name in cuts if "operators" not in name)
        wrong = f"--feature_layer={options.feature_layer} is no layer of {options.backbone}"
        raise UserError(f"{wrong}; among them are {known or ', '.join(names)}")
    return tf_keras.Model(backbone.input, backbone.get_layer(options.feature_layer).output)


class SyncBatchNormalization(tf_keras.layers.BatchNormalization):
    """Normalises by the statistics of all replicas, which hold equally many images.

    It adds over the replicas once, where tf_keras with `synchronized=True` adds three times.
    TensorFlow 2.21 searches the graphs of the other replicas behind each of these sums, forward and
    backward: the 94 layers of InceptionV3 were still being traced after five minutes on two
    replicas.
    """

    def _sync_calculate_mean_and_var(
        self,
        x: tf.Tensor,
        reduction_axes: Sequence[int],
        keep_dims: bool,
        mask: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Overrides tf_keras: mean and variance of float [..., channels] over axes and replicas."""
        if mask is not None or tf.distribute.in_cross_replica_context():
            return super()._sync_calculate_mean_and_var(x, reduction_axes, keep_dims, mask=mask)
        images = tf.cast(x, tf.float32)  # a float16 holds no square beyond 65,504
        own = [
            tf.reduce_mean(each, reduction_axes, keepdims=keep_dims)
            for each in (images, tf.square(images))
        ]
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        mean, squares = tf.unstack(_sum_over_replicas(tf.stack(own)) / replicas)
        variance = tf.maximum(squares - tf.square(mean), 0.0)
        return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)


def _sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """Adds the values of all replicas, with a gradient; call it in each replica."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return value
    if not isinstance(context.strategy, tf.distribute.MirroredStrategy):
        return context.all_reduce(_SUM, value)  # each replica has its own graph
    return _attach_gradient(value, _merged_sum(value))


@tf.custom_gradient
def _attach_gradient(value: tf.Tensor, total: tf.Tensor):
    """Returns the total as a function of this replica's value.

    As an argument of a custom gradient, the total ends TensorFlow's search behind it.
    """
    del value
    return tf.identity(total), lambda gradient: (_merged_sum(gradient), None)


def _merged_sum(value: tf.Tensor) -> tf.Tensor:
    def merge(strategy: tf.distribute.Strategy, each: tf.Tensor) -> tf.Tensor:
        return strategy.extended.reduce_to(_SUM, each, destinations=each)

    return tf.distribute.get_replica_context().merge_call(merge, args=(value,))


def _build_conv8(
    include_top: bool, weights: str | None, input_shape: tuple[int, int, int]
) -> tf_keras.Model:
    """Eight 3 × 3 convolutions of 32 to 256 channels; every second one halves the side.

    An image of 64 pixels becomes a map of 4 × 4 with 0.2 G multiplications. 1.2 M weights. Meant
    for faces of 32 to 128 pixels, trained from scratch.
    """
    _refuse_weights(weights, "conv8")
    images = features = tf_keras.Input(input_shape)
    for stage, width in enumerate(_CONV8_WIDTHS, start=1):
        features = _convolve(_convolve(features, width), width)
        features = tf_keras.layers.MaxPooling2D(name=f"stage{stage}")(features)
    return tf_keras.Model(images, features)


def _build_tiny(
    include_top: bool, weights: str | None, input_shape: tuple[int, int, int]
) -> tf_keras.Model:
    """Three strided convolutions: for tests of everything but the backbone itself."""
    _refuse_weights(weights, "tiny")
    images = features = tf_keras.Input(input_shape)
    for width in _TINY_WIDTHS:
        features = _convolve(features, width, strides=2)
    return tf_keras.Model(images, features)


def _convolve(features: tf.Tensor, width: int, strides: int = 1) -> tf.Tensor:
    convolution = tf_keras.layers.Conv2D(width, 3, strides=strides, padding="same", use_bias=False)
    return tf_keras.layers.ReLU()(tf_keras.layers.BatchNormalization()(convolution(features)))


def _refuse_weights(weights: str | None, name: str) -> None:
    if weights:
        raise UserError(
            f"--backbone={name} has no ImageNet weights: give --init_weights=none or a path"
        )


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


class _Backbone(NamedTuple):
    """`build` takes include_top, weights and input_shape, as tf_keras.applications does."""

    build: Callable[..., tf_keras.Model]
    normalise: Callable[[tf.Tensor], tf.Tensor]


_BACKBONES = {
    "inception_v3": _Backbone(tf_keras.applications.InceptionV3, _to_minus_one_to_one),
    "resnet50": _Backbone(tf_keras.applications.ResNet50, _to_caffe),
    "efficientnet_v2_b0": _Backbone(_build_efficient, _to_torch),
    "mobilenet_v3": _Backbone(_build_mobile, _to_minus_one_to_one),
    "conv8": _Backbone(_build_conv8, _to_minus_one_to_one),
    "tiny": _Backbone(_build_tiny, _to_minus_one_to_one),
}
