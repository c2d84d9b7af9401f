"""Similarities of all pairs of a dataset, under any strategy."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from fv.model.siamese import Siamese


class PairScorer:
    """Scores evaluation batches with a model; its graph is built once and serves every later call."""

    def __init__(self, strategy: tf.distribute.Strategy, model: Siamese):
        self._strategy, self._model = strategy, model

    def score(
        self, batches: tf.data.Dataset, after_batch: Callable[[], object] = lambda: None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores every valid pair once.

        Args:
          batches: a dataset that the strategy distributes, of batches that `input_pipeline.evaluation_batches` makes.
          after_batch: called after each batch.

        Returns:
          similarities float32 [pairs] in [0, 1] and labels int32 [pairs]; in the shards' order where there is one replica.
        """
        rows = [np.zeros((0, 3), np.float32)]
        for batch in batches:
            rows.append(self._score_batch(batch).numpy())
            after_batch()
        similarities, labels, valid = np.concatenate(rows).T
        kept = valid > 0
        return similarities[kept], labels[kept].astype(np.int32)

    @tf.function(autograph=False)
    def _score_batch(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        return self._strategy.gather(
            self._strategy.run(self._replica_scores, args=(batch,)), axis=0
        )

    def _replica_scores(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        similarities = self._model.similarities(batch["images"])
        return tf.stack(
            [
                similarities,
                tf.cast(batch["label"], tf.float32),
                tf.cast(batch["valid"], tf.float32),
            ],
            axis=1,
        )
