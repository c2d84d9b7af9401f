"""The losses, all in float32: in float16 distances and norms overflow or vanish silently.

Losses of given pairs and of identities come one per example. Losses of a batch look at every pair that its images make,
n(n − 1) / 2 of n images, told apart by identity, and come as one number.
"""

import numpy as np
import tensorflow as tf

_EPSILON = 1e-12  # inside the square root, whose gradient at 0 is infinite
_NEVER = -1e9  # a logit whose softmax is 0, without the NaN that infinity makes


def binary_cross_entropy_loss(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of a pair's label under sigmoid(logits).

    Args:
      logits: float32 [batch].
      labels: int [batch], 1 = same person.

    Returns:
      float32 [batch].
    """
    return tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.cast(labels, tf.float32), logits=logits
    )


def contrastive_loss(
    embeddings_a: tf.Tensor, embeddings_b: tf.Tensor, labels: tf.Tensor, margin: float
) -> tf.Tensor:
    """Contrastive loss y·d² + (1 − y)·max(0, margin − d)² on the Euclidean distance d.

    Source: Hadsell, Chopra and LeCun, Dimensionality Reduction by Learning an Invariant Mapping, 2006, without the halves.

    Args:
      embeddings_a: float32 [batch, d], unit length.
      embeddings_b: as embeddings_a.
      labels: int [batch], 1 = same person.
      margin: distance beyond which an impostor pair costs nothing, (0, 2].

    Returns:
      float32 [batch].
    """
    squared = tf.reduce_sum(tf.square(embeddings_a - embeddings_b), axis=-1)
    genuine = tf.cast(labels, tf.float32)
    return genuine * squared + (1.0 - genuine) * _shortfall(squared, margin)


def contrastive_loss_of_batch(
    embeddings: tf.Tensor, identities: tf.Tensor, margin: float
) -> tf.Tensor:
    """Contrastive loss of every pair in the batch: the mean of genuine pairs plus that of impostors nearer than the margin.

    Impostors outnumber genuine pairs by far and most are beyond the margin: a mean over all of them would fade as training
    goes on (Hermans, Beyer and Leibe, In Defense of the Triplet Loss, 2017, section 2, make the same point for triplets).

    Args:
      embeddings: float32 [n, d], unit length.
      identities: int [n].
      margin: distance beyond which an impostor pair costs nothing, (0, 2].

    Returns:
      float32 scalar.
    """
    squared = tf.maximum(0.0, 2.0 - 2.0 * tf.matmul(embeddings, embeddings, transpose_b=True))
    genuine, impostor = _genuine(identities), _impostor(identities)
    shortfall = _shortfall(squared, margin) * impostor
    too_near = tf.cast(shortfall > 0.0, tf.float32)
    return _mean(squared * genuine, genuine) + _mean(shortfall, too_near)


def n_pairs_loss(embeddings: tf.Tensor, identities: tf.Tensor, scale: float) -> tf.Tensor:
    """Each image has to pick the others of its identity among all other images of the batch, by softmax(scale · cosines).

    Source: Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, 2016, on unit embeddings, and with
    several positives to an anchor as in Khosla et al., Supervised Contrastive Learning, 2020, equation 2.

    Args:
      embeddings: float32 [n, d], unit length.
      identities: int [n].
      scale: factor on the cosines, the inverse of the temperature.

    Returns:
      float32 scalar, the mean over anchors that have a positive; 0 where none has.
    """
    itself = tf.eye(tf.shape(embeddings)[0])
    logits = scale * tf.matmul(embeddings, embeddings, transpose_b=True) + _NEVER * itself
    genuine = _genuine(identities)
    positives = tf.reduce_sum(genuine, axis=1)
    log_likelihood = tf.reduce_sum(genuine * tf.nn.log_softmax(logits), axis=1)
    has_positive = tf.cast(positives > 0.0, tf.float32)
    return _mean(-log_likelihood / tf.maximum(positives, 1.0), has_positive)


def margin_softmax_loss(
    cosines: tf.Tensor,
    identities: tf.Tensor,
    scale: float,
    margin: float | tf.Tensor,
    angular_margin: float | tf.Tensor = 0.0,
) -> tf.Tensor:
    """Cross-entropy of the identity under softmax(scale · cosines), with cos(θ + angular_margin) − margin at the true one.

    Sources: Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition, 2018, equation 4; Deng et al.,
    ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2019, equation 4. Where θ + angular_margin passes π the
    cosine would rise again: there it goes on as cos θ − angular_margin · sin(angular_margin), as in ArcFace's own code.

    Args:
      cosines: float32 [n, identities], in [−1, 1].
      identities: int32 [n], index of the true identity.
      scale: factor on the cosines.
      margin: subtracted from the true identity's cosine.
      angular_margin: added to the true identity's angle θ, radians.

    Returns:
      float32 [n].
    """
    true = _turned(tf.gather(cosines, identities, batch_dims=1), angular_margin) - margin
    at_true = tf.range(tf.shape(cosines)[1]) == identities[:, tf.newaxis]
    logits = scale * tf.where(at_true, true[:, tf.newaxis], cosines)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=identities, logits=logits)


def margin_softmax_loss_beside(
    true: tf.Tensor,
    others: tf.Tensor,
    counted: tf.Tensor,
    scale: float,
    margin: float | tf.Tensor,
    angular_margin: float | tf.Tensor = 0.0,
) -> tf.Tensor:
    """As `margin_softmax`, of cosines to the true identity and to others.

    Args:
      true: float32 [n], in [−1, 1].
      others: float32 [n, m], likewise.
      counted: bool [n, m], False where what stands there takes no part, the true identity among it.
      scale: as in `margin_softmax`.
      margin: likewise.
      angular_margin: likewise.

    Returns:
      float32 [n].
    """
    logit = scale * (_turned(true, angular_margin) - margin)
    beside = tf.where(counted, scale * others, _NEVER)
    return tf.reduce_logsumexp(tf.concat([logit[:, tf.newaxis], beside], axis=1), axis=1) - logit


def _turned(cosines: tf.Tensor, angle: float | tf.Tensor) -> tf.Tensor:
    """cos(θ + angle) of cos θ, and its straight continuation behind θ + angle = π."""
    sines = tf.sqrt(tf.maximum(1.0 - tf.square(cosines), 0.0) + _EPSILON)
    turned = cosines * tf.cos(angle) - sines * tf.sin(angle)
    return tf.where(cosines > -tf.cos(angle), turned, cosines - angle * tf.sin(angle))


def _shortfall(squared: tf.Tensor, margin: float) -> tf.Tensor:
    """(max(0, margin − d))² of squared distances."""
    return tf.square(tf.maximum(0.0, margin - tf.sqrt(squared + _EPSILON)))


def _genuine(identities: tf.Tensor) -> tf.Tensor:
    """1 where two different images are of one identity, float32 [n, n]."""
    same = tf.cast(identities[:, tf.newaxis] == identities, tf.float32)
    return same - tf.eye(tf.shape(identities)[0])


def _impostor(identities: tf.Tensor) -> tf.Tensor:
    """1 where two images are of different identities, float32 [n, n]."""
    return tf.cast(identities[:, tf.newaxis] != identities, tf.float32)


def _mean(values: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """Mean of the values where `counted` is 1, 0 where it never is."""
    return tf.math.divide_no_nan(tf.reduce_sum(values * counted), tf.reduce_sum(counted))


# The margin softmax over a sample of the training identities: what a step costs does not grow
# with their number.
#
# The centres of the batch's own identities take part in every step, with a sample of the others;
# what is left out is not made
# up for by weights. Source: An et al., Partial FC: Training 10 Million Identities on a Single
# Machine, 2021. Each replica, and
# each part of an accumulated batch, has the same sample and identities of its own.
#
# The centres' gradient is dense, zero where none took part: the update rules' moments, weight
# decay, loss scale and averages
# go through all centres in every step anyway, and accumulation sums tensors.

_STREAM = 0x50F7  # draws apart from all others of the same seed and step


def sample_classes(identities: int, count: int, moment: tf.Tensor | tuple[int, int]) -> tf.Tensor:
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


def sampled_softmax_loss(
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
    return margin_softmax_loss_beside(true, cosines, counted, scale, margin, angular_margin)


@tf.custom_gradient
def _rows(table: tf.Tensor, numbers: tf.Tensor):
    """Rows of a table, whose gradient is a tensor and no IndexedSlices."""
    count = tf.shape(table)[0]
    return tf.gather(table, numbers), lambda upstream: (
        tf.math.unsorted_segment_sum(upstream, numbers, count),
        None,
    )
