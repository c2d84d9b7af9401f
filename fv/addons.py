"""The parts of tensorflow-addons 0.23 that fv uses, imported on first use.

tensorflow-addons has reached its end of life and has wheels for Python 3.11 and older only, so it
is optional: without it, the choices that need it are refused. TF_USE_LEGACY_KERAS and
TF_ADDONS_PY_OPS, which `fv` sets, have to precede the import of TensorFlow.
"""

import contextlib
import functools
import importlib.util
import platform
import re
import sys
import types
import warnings
from collections.abc import Iterator, Sequence

import tensorflow as tf
import tf_keras

from fv.errors import UserError

_KERAS = re.compile(r"(tensorflow\.)?keras(\.|$)")


def available() -> bool:
    """Whether tensorflow-addons is installed."""
    return importlib.util.find_spec("tensorflow_addons") is not None


def lamb(
    learning_rate: float, weight_decay: float = 0.0, *, adapts_layers: bool = True
) -> tf_keras.optimizers.legacy.Optimizer:
    """The LAMB optimizer for large batches (You et al. 2019, https://arxiv.org/abs/1904.00962).

    Args:
      learning_rate: step size; it multiplies the ratio of the weights' norm to the update's.
      weight_decay: decoupled weight decay.
      adapts_layers: False omits that ratio and the decay, as is usual for biases and normalisation.

    Raises:
      UserError: tensorflow-addons is not installed.
    """
    # Regular expressions of variables' names; the empty one matches every name.
    excluded = [] if adapts_layers else [""]
    return _addons("the LAMB optimizer").optimizers.LAMB(
        learning_rate, weight_decay=weight_decay, exclude_from_weight_decay=excluded
    )


def rectified_adam_lookahead(
    learning_rate: float,
    weight_decay: float = 0.0,
    sync_period: int = 6,
    slow_step_size: float = 0.5,
) -> tf_keras.optimizers.legacy.Optimizer:
    """Rectified Adam inside Lookahead.

    Sources: Liu et al. 2019, https://arxiv.org/abs/1908.03265; Zhang et al. 2019,
    https://arxiv.org/abs/1907.08610.

    Args:
      learning_rate: step size of Rectified Adam.
      weight_decay: decoupled weight decay.
      sync_period: steps between two moves of the slow weights.
      slow_step_size: how far the slow weights move towards the fast ones, (0, 1].

    Raises:
      UserError: tensorflow-addons is not installed.
    """
    optimizers = _addons("the Rectified Adam + Lookahead optimizer").optimizers
    adam = optimizers.RectifiedAdam(learning_rate, weight_decay=weight_decay)
    return optimizers.Lookahead(adam, sync_period=sync_period, slow_step_size=slow_step_size)


@tf.autograph.experimental.do_not_convert  # as in `cutout`
def triplet_loss(
    embeddings: tf.Tensor, identities: tf.Tensor, margin: float, hardest: bool
) -> tf.Tensor:
    """Triplet loss on squared distances over all images of a batch.

    Args:
      embeddings: float32 [n, d], unit length.
      identities: int [n].
      margin: squared distance by which an impostor has to be farther than a genuine image, (0, 4].
      hardest: take each anchor's farthest genuine and nearest impostor image (Hermans et al. 2017,
        https://arxiv.org/abs/1703.07737); else, for each genuine image, the nearest impostor beyond
        it, semi-hard (Schroff et al. 2015, https://arxiv.org/abs/1503.03832).

    Returns:
      float32 scalar.

    Raises:
      UserError: tensorflow-addons is not installed.
    """
    losses = _addons("the triplet loss").losses
    loss = losses.triplet_hard_loss if hardest else losses.triplet_semihard_loss
    return loss(identities, embeddings, margin=margin, distance_metric="squared-L2")


@tf.autograph.experimental.do_not_convert  # AutoGraph would try to rewrite the import, and warn
def cutout(images: tf.Tensor, mask_size: int | Sequence[int], offset: tf.Tensor) -> tf.Tensor:
    """Sets one rectangle of each image to 0 (DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552).

    Args:
      images: [batch, height, width, channels], any numeric dtype.
      mask_size: side of a square, or (height, width), in pixels; even.
      offset: int32 [batch, 2], the centre (y, x) of each mask: its rows are y - height / 2 to
        y + height / 2 - 1, its columns likewise. A mask is cut off at the border.

    Returns:
      The images, same shape and dtype.

    Raises:
      UserError: tensorflow-addons is not installed.
    """
    return _addons("cutout").image.cutout(images, mask_size=mask_size, offset=offset)


def _addons(choice: str) -> types.ModuleType:
    if not available():
        raise UserError(
            f"{choice} needs tensorflow-addons, which is not installed: choose another, or install "
            "version 0.23.0 under Python 3.11 or older (it has no wheels for newer ones; this is "
            f"{platform.python_version()})"
        )
    if tf.keras.Model is not tf_keras.Model:
        raise UserError(
            f"{choice} needs tensorflow-addons, which needs tf.keras to be Keras 2: import fv "
            "before TensorFlow"
        )
    return _import_addons()


@functools.cache
def _import_addons() -> types.ModuleType:
    with _tf_keras_as_keras(), warnings.catch_warnings():
        # It warns of its end of life and of TensorFlow's version; both are known, see BUILD.md.
        warnings.filterwarnings("ignore", category=UserWarning, module="tensorflow_addons")
        return importlib.import_module("tensorflow_addons")


@contextlib.contextmanager
def _tf_keras_as_keras() -> Iterator[None]:
    """Makes imports of `keras` and `tensorflow.keras` find tf_keras, which tensorflow-addons needs.

    Since TF 2.16 both are Keras 3, the second one unless TF_USE_LEGACY_KERAS=1 was set before the
    import of TensorFlow.
    """
    before = {name: module for name, module in sys.modules.items() if _KERAS.match(name)}
    for name in [name for name in sys.modules if name.partition(".")[0] == "tf_keras"]:
        sys.modules[name.removeprefix("tf_")] = sys.modules[name]
        sys.modules[f"tensorflow.{name.removeprefix('tf_')}"] = sys.modules[name]
    try:
        yield
    finally:
        for name in [name for name in sys.modules if _KERAS.match(name)]:
            del sys.modules[name]
        sys.modules.update(before)
