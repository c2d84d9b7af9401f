"""The losses. All compute in float32: in float16, distances and norms overflow or vanish silently.

Losses of given pairs, and of identities, return one value per example. Losses of a batch compare
every two of its n images, n(n − 1) / 2 pairs, by their identities, and return a scalar.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from fv import addons
from fv.model.options import ModelOptions

CONTRASTIVE_MARGIN = 1.0  # distance that impostors are pushed to; at most 2 on the unit sphere
TRIPLET_MARGIN = 0.2  # of squared distances, as in FaceNet (Schroff et al., 2015)
_EPSILON = 1e-12  # inside the square root, whose gradient at 0 is infinite
_MASKED = -1e9  # a logit whose softmax is 0; infinity would make NaN
_SAMPLE_STREAM = 0x50F7  # separates these random numbers from others of the same seed and step


def batch_losses(
    options: ModelOptions,
) -> dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
    """The losses of a batch that --head can name: (embeddings, identities) → float32 scalar."""
    return {
        "all_distances": functools.partial(contrastive_loss_of_batch, margin=CONTRASTIVE_MARGIN),
        "n_pairs": functools.partial(n_pairs_loss, scale=options.softmax_scale),
        "triplet_semihard": functools.partial(
            addons.triplet_loss, margin=TRIPLET_MARGIN, hardest=False
        ),
        "triplet_hard": functools.partial(addons.triplet_loss, margin=TRIPLET_MARGIN, hardest=True),
    }


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

    Source: Hadsell, Chopra and LeCun, Dimensionality Reduction by Learning an Invariant Mapping,
    2006, without the halves.

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
    return genuine * squared + (1.0 - genuine) * _squared_shortfall(squared, margin)


def contrastive_loss_of_batch(
    embeddings: tf.Tensor, identities: tf.Tensor, margin: float
) -> tf.Tensor:
    """Mean contrastive loss of the genuine pairs, plus that of the impostors within the margin.

    Impostors outnumber genuine pairs by far and most are beyond the margin, so a mean over all of
    them would fade during training. Hermans, Beyer and Leibe, In Defense of the Triplet Loss, 2017,
    section 2, make the same point for triplets.

    Args:
      embeddings: float32 [n, d], unit length.
      identities: int [n].
      margin: distance beyond which an impostor pair costs nothing, (0, 2].

    Returns:
      float32 scalar.
    """
    squared = tf.maximum(0.0, 2.0 - 2.0 * tf.matmul(embeddings, embeddings, transpose_b=True))
    genuine = _genuine(identities)
    impostor = tf.cast(identities[:, tf.newaxis] != identities, tf.float32)
    shortfall = _squared_shortfall(squared, margin) * impostor
    within = tf.cast(shortfall > 0.0, tf.float32)
    return _masked_mean(squared * genuine, genuine) + _masked_mean(shortfall, within)


def n_pairs_loss(embeddings: tf.Tensor, identities: tf.Tensor, scale: float) -> tf.Tensor:
    """Cross-entropy of an image's positives among all other images, by softmax(scale · cosines).

    Source: Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, 2016, on
    unit embeddings, with several positives per anchor as in Khosla et al., Supervised Contrastive
    Learning, 2020, equation 2.

    Args:
      embeddings: float32 [n, d], unit length.
      identities: int [n].
      scale: factor on the cosines, the inverse of the temperature.

    Returns:
      float32 scalar, the mean over anchors that have a positive; 0 where none has.
    """
    itself = tf.eye(tf.shape(embeddings)[0])
    logits = scale * tf.matmul(embeddings, embeddings, transpose_b=True) + _MASKED * itself
    genuine = _genuine(identities)
    positives = tf.reduce_sum(genuine, axis=1)
    log_likelihood = tf.reduce_sum(genuine * tf.nn.log_softmax(logits), axis=1)
    has_positive = tf.cast(positives > 0.0, tf.float32)
    return _masked_mean(-log_likelihood / tf.maximum(positives, 1.0), has_positive)


@dataclasses.dataclass(frozen=True)
class Margins:
    """The handicap of the true identity in a softmax: cos θ becomes cos(θ + angle) − cosine.

    Sources: Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition, 2018,
    equation 4; Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2019,
    equation 4.

    Attributes:
      cosine: subtracted from the cosine, [0, 1].
      angle: added to the angle θ, radians, [0, 1.5].
    """

    cosine: float = 0.0
    angle: float = 0.0

    def apply(self, cosines: tf.Tensor) -> tf.Tensor:
        """Applies the margins to cosines to the true identity, float32 of any shape."""
        sines = tf.sqrt(tf.maximum(1.0 - tf.square(cosines), 0.0) + _EPSILON)
        turned = cosines * tf.cos(self.angle) - sines * tf.sin(self.angle)
        # Beyond θ + angle = π the cosine would rise again. There it continues in a straight line,
        # as in ArcFace's code.
        beyond = cosines - self.angle * tf.sin(self.angle)
        return tf.where(cosines > -tf.cos(self.angle), turned, beyond) - self.cosine


def margin_softmax_loss(
    embeddings: tf.Tensor,
    centres: tf.Tensor,
    identities: tf.Tensor,
    scale: float,
    margins: Margins,
) -> tf.Tensor:
    """Cross-entropy of the identity under softmax(scale · cosines to the centres of identities).

    Args:
      embeddings: float32 [n, d], unit length.
      centres: float32 [all identities, d], of any length.
      identities: int32 [n], index of the true identity.
      scale: factor on the cosines.
      margins: applied to the true identity's cosine.

    Returns:
      float32 [n].
    """
    cosines = tf.matmul(embeddings, tf.math.l2_normalize(centres, axis=1), transpose_b=True)
    true = margins.apply(tf.gather(cosines, identities, batch_dims=1))
    at_true = tf.range(tf.shape(cosines)[1]) == identities[:, tf.newaxis]
    logits = scale * tf.where(at_true, true[:, tf.newaxis], cosines)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=identities, logits=logits)


def sampled_softmax_loss(
    embeddings: tf.Tensor,
    centres: tf.Tensor,
    identities: tf.Tensor,
    scale: float,
    margins: Margins,
    drawn: tf.Tensor,
) -> tf.Tensor:
    """As `margin_softmax_loss`, over the identities of the batch and the drawn ones, each once.

    The cost of a step does not grow with the number of identities. No weights make up for the
    identities that are not drawn. Replicas, and parts of an accumulated batch, share the sample;
    each has the identities of its own images. Source: An et al., Partial FC: Training 10 Million
    Identities on a Single Machine, 2021.

    Args:
      embeddings: as in `margin_softmax_loss`; so are the other arguments but the last.
      drawn: int32 [m], distinct, as `sample_classes` returns them.

    Returns:
      float32 [n].
    """
    centres = tf.convert_to_tensor(centres)  # `_gather_rows` takes no variable
    own = tf.math.l2_normalize(_gather_rows(centres, identities), axis=1)
    others = tf.math.l2_normalize(_gather_rows(centres, drawn), axis=1)
    cosines = tf.matmul(embeddings, tf.concat([own, others], axis=0), transpose_b=True)
    # Each identity counts once: the first image's, and a drawn one that no image has. The true
    # identity is not among the others.
    places = tf.range(tf.shape(identities)[0])
    same = identities[:, tf.newaxis] == identities
    repeated = tf.reduce_any(same & (places[:, tf.newaxis] > places), axis=1)
    present = tf.reduce_any(drawn[:, tf.newaxis] == identities, axis=1)
    once = ~tf.concat([repeated, present], axis=0)
    counted = once & (tf.concat([identities, drawn], axis=0) != identities[:, tf.newaxis])
    logit = scale * margins.apply(tf.reduce_sum(embeddings * own, axis=1))
    beside = tf.where(counted, scale * cosines, _MASKED)
    return tf.reduce_logsumexp(tf.concat([logit[:, tf.newaxis], beside], axis=1), axis=1) - logit


def sample_classes(
    identities: int, count: int, seed_and_step: tf.Tensor | tuple[int, int]
) -> tf.Tensor:
    """Draws distinct identities: one from each of `count` runs of nearly equal length.

    Args:
      identities: how many there are.
      count: how many are drawn, from 1 to all.
      seed_and_step: int32 [2]; the draw depends on nothing else.

    Returns:
      int32 [count], ascending.
    """
    bounds = np.arange(count + 1, dtype=np.int64) * identities // count
    seed = tf.random.experimental.stateless_fold_in(
        tf.cast(seed_and_step, tf.int32), _SAMPLE_STREAM
    )
    free = tf.random.stateless_uniform(
        (count,), seed=seed, minval=None, maxval=None, dtype=tf.int32
    )
    return tf.constant(bounds[:-1], tf.int32) + free % tf.constant(np.diff(bounds), tf.int32)


@tf.custom_gradient
def _gather_rows(table: tf.Tensor, numbers: tf.Tensor):
    """Gathers rows of a table; the gradient is dense, not IndexedSlices.

    The optimizer's moments, weight decay, loss scale and averages visit all centres in every step
    anyway, and gradient accumulation adds tensors.
    """
    count = tf.shape(table)[0]
    return tf.gather(table, numbers), lambda upstream: (
        tf.math.unsorted_segment_sum(upstream, numbers, count),
        None,
    )


def _squared_shortfall(squared: tf.Tensor, margin: float) -> tf.Tensor:
    """(max(0, margin − d))² of squared distances d²."""
    return tf.square(tf.maximum(0.0, margin - tf.sqrt(squared + _EPSILON)))


def _genuine(identities: tf.Tensor) -> tf.Tensor:
    """1 where two different images have the same identity, float32 [n, n]."""
    same = tf.cast(identities[:, tf.newaxis] == identities, tf.float32)
    return same - tf.eye(tf.shape(identities)[0])


def _masked_mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mean of the values where the mask is 1; 0 where it never is."""
    return tf.math.divide_no_nan(tf.reduce_sum(values * mask), tf.reduce_sum(mask))
