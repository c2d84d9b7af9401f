"""The losses, per example, all in float32: in float16 distances and norms overflow or vanish silently."""

import tensorflow as tf

_EPSILON = 1e-12  # inside the square root, whose gradient at 0 is infinite


def binary_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of a pair's label under sigmoid(logits).

    Args:
      logits: float32 [batch].
      labels: int [batch], 1 = same person.

    Returns:
      float32 [batch].
    """
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.cast(labels, tf.float32), logits=logits)


def contrastive(embeddings_a: tf.Tensor, embeddings_b: tf.Tensor, labels: tf.Tensor, margin: float) -> tf.Tensor:
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
    shortfall = tf.maximum(0.0, margin - tf.sqrt(squared + _EPSILON))
    genuine = tf.cast(labels, tf.float32)
    return genuine * squared + (1.0 - genuine) * tf.square(shortfall)


def margin_softmax(cosines: tf.Tensor, identities: tf.Tensor, scale: float, margin: float) -> tf.Tensor:
    """Cross-entropy of the identity under softmax(scale · (cosines − margin at the true identity)).

    Source: Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition, 2018, equation 4.

    Args:
      cosines: float32 [n, identities], in [−1, 1].
      identities: int32 [n], index of the true identity.
      scale: factor on the cosines.
      margin: subtracted from the true identity's cosine.

    Returns:
      float32 [n].
    """
    handicap = margin * tf.one_hot(identities, tf.shape(cosines)[1])
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=identities, logits=scale * (cosines - handicap))
