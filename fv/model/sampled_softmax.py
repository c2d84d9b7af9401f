"""The margin softmax over a sample of the training identities: what a step costs does not grow with their number.

The centres of the batch's own identities take part in every step, with a sample of the others; what is left out is not made
up for by weights. Source: An et al., Partial FC: Training 10 Million Identities on a Single Machine, 2021. Each replica, and
each part of an accumulated batch, has the same sample and identities of its own.

The centres' gradient is dense, zero where none took part: the update rules' moments, weight decay, loss scale and averages
go through all centres in every step anyway, and accumulation sums tensors.
"""

import numpy as np
import tensorflow as tf

from fv.model import losses

_STREAM = 0x50F7  # draws apart from all others of the same seed and step


def draw(identities: int, count: int, moment: tf.Tensor | tuple[int, int]) -> tf.Tensor:
    """Draws identities, no one twice: they are cut into as many runs of even length, and one of each run is drawn.

    Args:
      identities: how many there are.
      count: how many are drawn, from 1 to all.
      moment: int32 [2], seed and step, which decide the draw.

    Returns:
      int32 [count], rising.
    """
    bounds = np.arange(count + 1, dtype=np.int64) * identities // count
    seed = tf.random.experimental.stateless_fold_in(tf.cast(moment, tf.int32), _STREAM)
    free = tf.random.stateless_uniform(
        (count,), seed=seed, minval=None, maxval=None, dtype=tf.int32
    )
    return tf.constant(bounds[:-1], tf.int32) + free % tf.constant(np.diff(bounds), tf.int32)


def loss(
    embeddings: tf.Tensor,
    centres: tf.Tensor,
    identities: tf.Tensor,
    drawn: tf.Tensor,
    scale: float,
    margin: float | tf.Tensor,
    angular_margin: float | tf.Tensor,
) -> tf.Tensor:
    """As `losses.margin_softmax` over the batch's identities and the drawn ones, each once.

    Args:
      embeddings: float32 [n, d], unit length.
      centres: float32 [all identities, d], of any length.
      identities: int32 [n], index of the true identity.
      drawn: int32 [m], no one twice.
      scale: as in `losses.margin_softmax`.
      margin: likewise.
      angular_margin: likewise.

    Returns:
      float32 [n].
    """
    own = tf.math.l2_normalize(_rows(centres, identities), axis=1)
    others = tf.math.l2_normalize(_rows(centres, drawn), axis=1)
    cosines = tf.matmul(embeddings, tf.concat([own, others], axis=0), transpose_b=True)
    same = identities[:, tf.newaxis] == identities
    before = (
        tf.linalg.band_part(tf.ones_like(same, tf.int32), -1, 0)
        - tf.eye(tf.shape(same)[0], dtype=tf.int32)
        > 0
    )
    repeated = tf.reduce_any(same & before, axis=1)
    present = tf.reduce_any(drawn[:, tf.newaxis] == identities, axis=1)
    chosen, once = tf.concat([identities, drawn], axis=0), ~tf.concat([repeated, present], axis=0)
    counted = once & (chosen != identities[:, tf.newaxis])
    true = tf.reduce_sum(embeddings * own, axis=1)
    return losses.margin_softmax_beside(true, cosines, counted, scale, margin, angular_margin)


@tf.custom_gradient
def _rows(table: tf.Tensor, numbers: tf.Tensor):
    """Rows of a table, whose gradient is a tensor and no IndexedSlices."""
    count = tf.shape(table)[0]
    return tf.gather(table, numbers), lambda upstream: (
        tf.math.unsorted_segment_sum(upstream, numbers, count),
        None,
    )
