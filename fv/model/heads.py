"""Heads: the loss that trains the embeddings, and the similarity of two embeddings.

To add a loss over the images of a batch: write it in `losses.py`, enter it there in `batch_losses`,
and add its name to `HEADS` in `options.py`. To add a head with variables or a similarity of its
own: write a subclass of `Head` here, build it in `_build_one`, and add its name to `HEADS`.
`tests/model/test_heads.py` checks every name in `HEADS`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from fv.errors import UserError
from fv.model import losses
from fv.model.losses import Margins
from fv.model.options import ModelOptions
from fv.model.regions import parse_regions


def build_head(options: ModelOptions, identities: int) -> "Head":
    """Builds the head that the options name, for that many training identities.

    Raises:
      UserError: the head weighs each number of an embedding, and there are regions, or the second
        head is the first one again.
    """
    regions = parse_regions(options.regions)
    if not regions:
        return _build_sum(options, identities)
    size = options.embedding_size // len(regions)
    heads = []
    for number in range(len(regions)):
        with tf.name_scope(f"region{number}"):
            own = dataclasses.replace(options, embedding_size=size)
            heads.append(_build_sum(own, identities))
    if heads[0].scoring is not None:
        raise UserError(
            f"--regions are compared by cosine: give another --head than {options.head}"
        )
    return RegionsHead(heads)


def _build_sum(options: ModelOptions, identities: int) -> "Head":
    head = _build_one(options.head, options, identities)
    if options.second_head == "none":
        return head
    if options.second_head == options.head:
        raise UserError(f"--second_head={options.head} is --head again: give another head, or none")
    second = _build_one(options.second_head, options, identities)
    return SumHead(head, second, options.second_head_weight)


def _build_one(name: str, options: ModelOptions, identities: int) -> "Head":
    if name == "sigmoid":
        return SigmoidHead(options.embedding_size)
    if name == "distance":
        return DistanceHead()
    if name == "softmax":
        return SoftmaxHead(options, identities)
    return BatchHead(name, losses.batch_losses(options)[name])


def cosine_similarity(embeddings_a: tf.Tensor, embeddings_b: tf.Tensor) -> tf.Tensor:
    """(1 + cosine) / 2 of unit embeddings, or 1 − distance² / 4: float32 [batch] in [0, 1]."""
    cosine = tf.reduce_sum(embeddings_a * embeddings_b, axis=-1)
    return tf.clip_by_value((1.0 + cosine) / 2.0, 0.0, 1.0)


class Head(tf.Module):
    """What every head does.

    Attributes:
      scoring: the layer that `similarity` uses, None if it uses none. An export contains no other
        variables of the head.
    """

    scoring: Any = None  # a tf_keras layer

    def pair_losses(
        self,
        embeddings: tf.Tensor,
        label: tf.Tensor,
        identities: tf.Tensor,
        seed_and_step: tf.Tensor,
    ) -> tf.Tensor:
        """Computes the loss of each pair.

        Args:
          embeddings: float32 [batch, 2, d], unit length.
          label: int [batch], 1 = same person.
          identities: int32 [batch, 2], index of each image's training identity, −1 if unknown.
          seed_and_step: int32 [2], the run's seed and the steps done before: all randomness.

        Returns:
          float32 [batch].
        """
        raise NotImplementedError

    def similarity(self, embeddings_a: tf.Tensor, embeddings_b: tf.Tensor) -> tf.Tensor:
        """Similarity of unit embeddings, float32 [batch, d] each: float32 [batch] in [0, 1]."""
        return cosine_similarity(embeddings_a, embeddings_b)


class SigmoidHead(Head):
    """A binary classifier of the pair: logistic regression on |a − b| and a · b per element."""

    def __init__(self, embedding_size: int):
        super().__init__()
        self.scoring = tf_keras.layers.Dense(1, dtype="float32", name="pair_logit")
        self.scoring.build((None, 2 * embedding_size))

    def pair_losses(self, embeddings, label, identities, seed_and_step):
        logits = self._logits(embeddings[:, 0], embeddings[:, 1])
        return losses.binary_cross_entropy_loss(logits, label)

    def similarity(self, embeddings_a, embeddings_b):
        return tf.sigmoid(self._logits(embeddings_a, embeddings_b))

    def _logits(self, embeddings_a: tf.Tensor, embeddings_b: tf.Tensor) -> tf.Tensor:
        # The elements of a unit vector of d numbers are of size 1/√d, their products 1/d. Both are
        # scaled to the order of 1.
        root = embeddings_a.shape[-1] ** 0.5
        differences = root * tf.abs(embeddings_a - embeddings_b)
        products = root**2 * embeddings_a * embeddings_b
        return tf.squeeze(self.scoring(tf.concat([differences, products], axis=-1)), axis=-1)


class DistanceHead(Head):
    """Contrastive loss on the Euclidean distance of the pair."""

    def pair_losses(self, embeddings, label, identities, seed_and_step):
        first, second = embeddings[:, 0], embeddings[:, 1]
        return losses.contrastive_loss(first, second, label, losses.CONTRASTIVE_MARGIN)


class SoftmaxHead(Head):
    """A cosine softmax with margins over the training identities, or over a sample of them.

    Each image is an example. The loss of a pair is the mean of its images' losses.
    """

    def __init__(self, options: ModelOptions, identities: int):
        super().__init__()
        self._scale, self._margins = options.softmax_scale, Margins(*options.softmax_margin)
        self._identities, self._sample = identities, options.softmax_sample
        initial = tf_keras.initializers.GlorotUniform()((identities, options.embedding_size))
        self.centres = tf.Variable(initial, name="identity_centres")

    def pair_losses(self, embeddings, label, identities, seed_and_step):
        flat, identities = _flatten_pairs(embeddings, tf.maximum(identities, 0))
        if 0 < self._sample < self._identities:
            drawn = losses.sample_classes(self._identities, self._sample, seed_and_step)
            per_image = losses.sampled_softmax_loss(
                flat, self.centres, identities, self._scale, self._margins, drawn
            )
        else:
            per_image = losses.margin_softmax_loss(
                flat, self.centres, identities, self._scale, self._margins
            )
        return tf.reduce_mean(tf.reshape(per_image, (-1, 2)), axis=1)


class BatchHead(Head):
    """A loss on all n(n − 1) / 2 pairs of the n images in a replica's batch.

    Images of unknown identity do not take part. The loss of every pair is the loss of the batch.
    """

    def __init__(self, name: str, loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]):
        super().__init__(name=f"{name}_head")
        self._loss = loss

    def pair_losses(self, embeddings, label, identities, seed_and_step):
        flat, identities = _flatten_pairs(embeddings, identities)
        known = identities >= 0
        loss = self._loss(tf.boolean_mask(flat, known), tf.boolean_mask(identities, known))
        return tf.fill(tf.shape(label), loss)


class SumHead(Head):
    """The weighted sum of two heads' losses; the first head computes the similarity."""

    def __init__(self, first: Head, second: Head, weight: float):
        super().__init__()
        self._first, self._second, self._weight = first, second, weight
        self.scoring = first.scoring

    def pair_losses(self, embeddings, label, identities, seed_and_step):
        first = self._first.pair_losses(embeddings, label, identities, seed_and_step)
        second = self._second.pair_losses(embeddings, label, identities, seed_and_step)
        return first + self._weight * second

    def similarity(self, embeddings_a, embeddings_b):
        return self._first.similarity(embeddings_a, embeddings_b)


class RegionsHead(Head):
    """The mean of the losses of heads on equal parts of the embeddings, one for each region."""

    def __init__(self, heads: Sequence[Head]):
        super().__init__()
        self._heads = list(heads)

    def pair_losses(self, embeddings, label, identities, seed_and_step):
        parts = tf.split(embeddings, len(self._heads), axis=-1)
        each = [
            head.pair_losses(tf.math.l2_normalize(part, axis=-1), label, identities, seed_and_step)
            for head, part in zip(self._heads, parts, strict=True)
        ]
        return tf.add_n(each) / len(each)


def _flatten_pairs(embeddings: tf.Tensor, identities: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Embeddings and identities of all images, [2 · batch, d] and [2 · batch]."""
    return tf.reshape(embeddings, (-1, embeddings.shape[-1])), tf.reshape(identities, [-1])
