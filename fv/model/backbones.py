"""The backbones: networks of tf_keras.applications and of our own, each with the pixels it expects."""

from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras

from fv.errors import UserError
from fv.model.options import ModelOptions

# BatchNorm by the statistics of all replicas' images together.

_SUM = tf.distribute.ReduceOp.SUM


class SyncBatchNormalization(tf_keras.layers.BatchNormalization):
    """tf_keras's layer with `synchronized=True`, of which one sum over the replicas serves where that takes three.

    All replicas have equally many images, as fv's batches give them. Tracing is the other reason: behind each of those sums
    TensorFlow 2.21 searches the other replicas' whole graphs for variables, so that the step of InceptionV3, whose 94 layers
    do so forward and backward, was still being traced after five minutes on two replicas.
    """

    def _sync_calculate_mean_and_var(
        self,
        x: tf.Tensor,
        reduction_axes: Sequence[int],
        keep_dims: bool,
        mask: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and variance of float [..., channels] over the axes and the replicas; overrides that of tf_keras."""
        if mask is not None or tf.distribute.in_cross_replica_context():
            return super()._sync_calculate_mean_and_var(x, reduction_axes, keep_dims, mask=mask)
        images = tf.cast(x, tf.float32)  # a float16 holds no square beyond 65,504
        own = [
            tf.reduce_mean(each, reduction_axes, keepdims=keep_dims)
            for each in (images, tf.square(images))
        ]
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        mean, squares = tf.unstack(sum_over_replicas(tf.stack(own)) / replicas)
        variance = tf.maximum(squares - tf.square(mean), 0.0)
        return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)


def sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """The sum of all replicas' values, float of any one shape, with its gradient; to be called in each replica."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return value
    if not isinstance(context.strategy, tf.distribute.MirroredStrategy):
        return context.all_reduce(_SUM, value)  # each replica has a graph of its own
    return _attached(value, _merged_sum(value))


@tf.custom_gradient
def _attached(value: tf.Tensor, total: tf.Tensor):
    """The total as a function of this replica's value; as an argument it ends TensorFlow's search behind it."""
    del value
    return tf.identity(total), lambda gradient: (_merged_sum(gradient), None)


def _merged_sum(value: tf.Tensor) -> tf.Tensor:
    def merge(strategy: tf.distribute.Strategy, each: tf.Tensor) -> tf.Tensor:
        return strategy.extended.reduce_to(_SUM, each, destinations=each)

    return tf.distribute.get_replica_context().merge_call(merge, args=(value,))


# Backbones of our own: plain convolutions with BatchNorm, for faces of 32 to 128 pixels from
# scratch, and for tests.

_CONV8_WIDTHS = (32, 64, 128, 256)
_TINY_WIDTHS = (16, 32, 64)


def conv8(
    include_top: bool, weights: str | None, input_shape: tuple[int, int, int]
) -> tf_keras.Model:
    """Eight 3 × 3 convolutions of 32 to 256 channels, the side halved behind every second one: 64 pixels become 4 × 4.

    0.2 G multiplications for an image of 64 pixels, 1.2 M weights. Layers 'stage1' to 'stage4' are what a stage gives.

    Raises:
      UserError: ImageNet weights are asked for.
    """
    del include_top
    _refuse(weights, "conv8")
    images = features = tf_keras.Input(input_shape)
    for stage, width in enumerate(_CONV8_WIDTHS, start=1):
        features = _convolve(_convolve(features, width), width)
        features = tf_keras.layers.MaxPooling2D(name=f"stage{stage}")(features)
    return tf_keras.Model(images, features)


def tiny(
    include_top: bool, weights: str | None, input_shape: tuple[int, int, int]
) -> tf_keras.Model:
    """Three strided convolutions: for tests of everything but the backbone itself.

    Raises:
      UserError: ImageNet weights are asked for.
    """
    del include_top
    _refuse(weights, "tiny")
    images = features = tf_keras.Input(input_shape)
    for width in _TINY_WIDTHS:
        features = _convolve(features, width, strides=2)
    return tf_keras.Model(images, features)


def _convolve(features: tf.Tensor, width: int, strides: int = 1) -> tf.Tensor:
    features = tf_keras.layers.Conv2D(width, 3, strides=strides, padding="same", use_bias=False)(
        features
    )
    return tf_keras.layers.ReLU()(tf_keras.layers.BatchNormalization()(features))


def _refuse(weights: str | None, name: str) -> None:
    if weights:
        raise UserError(
            f"--backbone={name} has no ImageNet weights: give --init_weights=none or a path"
        )


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


def build_backbone(
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


def normalise_pixels(name: str, images: tf.Tensor) -> tf.Tensor:
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
            f"--feature_layer={options.feature_layer} is no layer of {options.backbone}; "
            f"among them are {known or ', '.join(names)}"
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
    "conv8": conv8,
    "tiny": tiny,
}
_NORMALISE = {
    "inception_v3": _to_minus_one_to_one,
    "resnet50": _to_caffe,
    "efficientnet_v2_b0": _to_torch,
    "mobilenet_v3": _to_minus_one_to_one,
    "conv8": _to_minus_one_to_one,
    "tiny": _to_minus_one_to_one,
}
