"""Heads: what the embeddings are trained by, and how alike two of them are.

Every head is a tf.Module with the same two methods:
  losses(embeddings, label, identities, moment) → float32 [batch], one loss per pair
  similarity(embeddings_a, embeddings_b) → float32 [batch] in [0, 1]
on unit embeddings: float32 [batch, 2, d], or [batch, d] each. `identities` is int32 [batch, 2], −1 for unknown; `moment` is
int32 [2], the run's seed and the steps done before: what changes in the course of a run depends on that. `scoring` is the
part that `similarity` needs of a head's variables, None where it needs none: the export carries no more than that.
"""

import functools
from collections.abc import Callable

import tensorflow as tf
import tf_keras

from fv import addons
from fv.model import losses as losses_module
from fv.model.options import ModelOptions

START = (0, 0)  # a moment
_CONTRASTIVE_MARGIN = 1.0  # distance that impostors are pushed to; at most 2 on the unit sphere
_TRIPLET_MARGIN = 0.2  # of squared distances, as in FaceNet (Schroff et al., 2015)


def build_head(options: ModelOptions, identities: int) -> tf.Module:
    """Builds the head that `options` name, for that many training identities."""
    head = _build_one(options.head, options, identities)
    if options.second_head == "none":
        return head
    return SumHead(
        head, _build_one(options.second_head, options, identities), options.second_head_weight
    )


def _build_one(name: str, options: ModelOptions, identities: int) -> tf.Module:
    if name == "sigmoid":
        return SigmoidHead(options.embedding_size)
    if name == "distance":
        return DistanceHead(_CONTRASTIVE_MARGIN)
    if name == "softmax":
        return SoftmaxHead(options, identities)
    return BatchHead(name, _batch_loss(name, options))


def _batch_loss(name: str, options: ModelOptions) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """(embeddings, identities) → the loss of all pairs of a batch, a scalar."""
    if name == "all_distances":
        return functools.partial(
            losses_module.contrastive_loss_of_batch, margin=_CONTRASTIVE_MARGIN
        )
    if name == "n_pairs":
        return functools.partial(losses_module.n_pairs_loss, scale=options.softmax_scale)
    hardest = name == "triplet_hard"
    return functools.partial(addons.triplet_loss, margin=_TRIPLET_MARGIN, hardest=hardest)


def cosine_similarity(embeddings_a: tf.Tensor, embeddings_b: tf.Tensor) -> tf.Tensor:
    """(1 + cosine) / 2 of unit embeddings, float32 [batch] in [0, 1]; the same as 1 − distance² / 4."""
    cosine = tf.reduce_sum(embeddings_a * embeddings_b, axis=-1)
    return tf.clip_by_value((1.0 + cosine) / 2.0, 0.0, 1.0)


class SigmoidHead(tf.Module):
    """A binary classifier of the pair: logistic regression on |a − b| and a · b, element by element."""

    def __init__(self, embedding_size: int):
        super().__init__(name="sigmoid_head")
        self.scoring = tf_keras.layers.Dense(1, dtype="float32", name="pair_logit")
        self.scoring.build((None, 2 * embedding_size))

    def losses(
        self, embeddings: tf.Tensor, label: tf.Tensor, identities: tf.Tensor, moment=START
    ) -> tf.Tensor:
        del identities, moment
        return losses_module.binary_cross_entropy_loss(
            self._logits(embeddings[:, 0], embeddings[:, 1]), label
        )

    def similarity(self, embeddings_a: tf.Tensor, embeddings_b: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(self._logits(embeddings_a, embeddings_b))

    def _logits(self, embeddings_a: tf.Tensor, embeddings_b: tf.Tensor) -> tf.Tensor:
        # Unit vectors of d numbers have elements of size 1/√d, their products 1/d: scaled to the order of 1.
        root = embeddings_a.shape[-1] ** 0.5
        features = [
            root * tf.abs(embeddings_a - embeddings_b),
            root**2 * embeddings_a * embeddings_b,
        ]
        return tf.squeeze(self.scoring(tf.concat(features, axis=-1)), axis=-1)


class DistanceHead(tf.Module):
    """Contrastive loss on the Euclidean distance of the pair."""

    scoring = None
    similarity = staticmethod(cosine_similarity)

    def __init__(self, margin: float):
        super().__init__(name="distance_head")
        self._margin = margin

    def losses(
        self, embeddings: tf.Tensor, label: tf.Tensor, identities: tf.Tensor, moment=START
    ) -> tf.Tensor:
        del identities, moment
        return losses_module.contrastive_loss(
            embeddings[:, 0], embeddings[:, 1], label, self._margin
        )


class SoftmaxHead(tf.Module):
    """A cosine softmax with margin over the training identities, or a sample of them; both images of a pair are examples."""

    scoring = None
    similarity = staticmethod(cosine_similarity)

    def __init__(self, options: ModelOptions, identities: int):
        super().__init__(name="softmax_head")
        self._scale, self._margins = options.softmax_scale, options.softmax_margin
        self._identities, self._sample = identities, options.softmax_sample
        initial = tf_keras.initializers.GlorotUniform()((identities, options.embedding_size))
        self.centres = tf.Variable(initial, name="identity_centres")

    def losses(
        self, embeddings: tf.Tensor, label: tf.Tensor, identities: tf.Tensor, moment=START
    ) -> tf.Tensor:
        del label
        flat, identities = (
            tf.reshape(embeddings, (-1, embeddings.shape[-1])),
            tf.reshape(tf.maximum(identities, 0), [-1]),
        )
        shape = self._scale, *self._margins
        if 0 < self._sample < self._identities:
            drawn = losses_module.sample_classes(self._identities, self._sample, moment)
            per_image = losses_module.sampled_softmax_loss(
                flat, tf.convert_to_tensor(self.centres), identities, drawn, *shape
            )
        else:
            cosines = tf.matmul(flat, tf.math.l2_normalize(self.centres, axis=1), transpose_b=True)
            per_image = losses_module.margin_softmax_loss(cosines, identities, *shape)
        return tf.reduce_mean(tf.reshape(per_image, (-1, 2)), axis=1)


class BatchHead(tf.Module):
    """A loss on every pair that the images of a replica's batch make, told apart by identity: n(n − 1) / 2 of n images."""

    scoring = None
    similarity = staticmethod(cosine_similarity)

    def __init__(self, name: str, loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]):
        super().__init__(name=f"{name}_head")
        self._loss = loss

    def losses(
        self, embeddings: tf.Tensor, label: tf.Tensor, identities: tf.Tensor, moment=START
    ) -> tf.Tensor:
        del moment
        flat, identities = (
            tf.reshape(embeddings, (-1, embeddings.shape[-1])),
            tf.reshape(identities, [-1]),
        )
        known = identities >= 0
        loss = self._loss(tf.boolean_mask(flat, known), tf.boolean_mask(identities, known))
        return tf.fill(tf.shape(label), loss)


class SumHead(tf.Module):
    """Two heads' losses on the same embeddings; the first one's similarity."""

    def __init__(self, first: tf.Module, second: tf.Module, weight: float):
        super().__init__(name="sum_head")
        self._first, self._second, self._weight = first, second, weight
        self.scoring, self.similarity = first.scoring, first.similarity

    def losses(
        self, embeddings: tf.Tensor, label: tf.Tensor, identities: tf.Tensor, moment=START
    ) -> tf.Tensor:
        first = self._first.losses(embeddings, label, identities, moment)
        return first + self._weight * self._second.losses(embeddings, label, identities, moment)
