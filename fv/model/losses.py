"""The losses, all in float32: in float16 distances and norms overflow or vanish silently.

Losses of given pairs and of identities come one per example. Losses of a batch look at every pair that its images make,
n(n − 1) / 2 of n images, told apart by identity, and come as one number.
"""

import tensorflow as tf

_EPSILON = 1e-12  # inside the square root, whose gradient at 0 is infinite
_NEVER = -1e9  # a logit whose softmax is 0, without the NaN that infinity makes


def binary_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
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


def contrastive(
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


def contrastive_of_batch(embeddings: tf.Tensor, identities: tf.Tensor, margin: float) -> tf.Tensor:
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


def n_pairs(embeddings: tf.Tensor, identities: tf.Tensor, scale: float) -> tf.Tensor:
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


def margin_softmax(
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


def margin_softmax_beside(
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
