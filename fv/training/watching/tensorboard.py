"""What TensorBoard is given: scalars, and what each validation found."""

import numpy as np
import tensorflow as tf

from fv.training.watching import montage
from fv.training.watching.validation import Validation


class Board:
    """A TensorBoard event file."""

    def __init__(self, folder: str):
        self._writer = tf.summary.create_file_writer(folder)

    def scalars(self, step: int, **values: float) -> None:
        """Writes numbers by their names, and all that is in memory: TensorBoard shows them now, not in two minutes."""
        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._writer.flush()

    def validation(self, step: int, found: Validation) -> None:
        """Writes a validation: its figures, the similarities of both kinds of pairs, and the sample pairs with theirs."""
        with self._writer.as_default(step=step):
            for name, label in (("genuine", 1), ("impostor", 0)):
                tf.summary.histogram(
                    f"val_similarity/{name}", found.similarities[found.labels == label]
                )
            if found.shown.size:
                pairs = (part[found.shown] for part in (found.labels, found.similarities))
                tf.summary.image(
                    "val_pairs", montage.draw(found.images, *pairs, found.threshold)[np.newaxis]
                )
        self.scalars(
            step, val_accuracy=found.accuracy, val_auc=found.auc, val_threshold=found.threshold
        )

    def close(self) -> None:
        """Writes what is still in memory."""
        self._writer.close()
