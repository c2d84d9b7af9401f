"""A teacher: a trained model whose embeddings the one in training imitates, beside what its own head asks of it.

A deep network that hardly begins on a few thousand faces begins at once where each image comes with the place that a
shallow one gave it. Source: Romero et al., FitNets: Hints for Thin Deep Nets, 2015, with the embedding as the hint.
"""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from fv import workdir
from fv.errors import UserError
from fv.model import checkpoint_files, model_record
from fv.model.model_record import ModelRecord
from fv.model.options import ModelOptions
from fv.model.siamese import Siamese
from fv.options import option
from fv.pipeline import augment
from fv.preprocessing import Preprocessing

_SAME_CROP = 0.01  # of the shorter side, by which two crops may differ


@dataclasses.dataclass(frozen=True)
class TeacherOptions:
    """Whose embeddings are imitated, and how closely."""

    teacher: str | None = option(
        None, "Workdir of a run on people of this training split, whose embeddings are imitated."
    )
    teacher_weight: float = option(
        10.0, "Factor on the imitation's loss, 1 − cosine to the teacher's embedding.", lower=0.0
    )


class Teacher:
    """A trained model that stands still; its `record` says whom it has met, and who imitates it has met them too."""

    def __init__(self, model: Siamese, weight: float, record: ModelRecord | None = None):
        self._model, self._weight, self.record = model, weight, record

    def embed(self, images: tf.Tensor) -> tf.Tensor:
        """Embeds pairs of images, uint8 or float [n, 2, any side, any side, 3]: float32 [n, 2, embedding_size]."""
        side = self._model.encoder.input_shape[1]
        return tf.stop_gradient(
            self._model.embed_pairs(augment.resize(images, side), training=False)
        )

    def losses(self, embeddings: tf.Tensor, taught: tf.Tensor) -> tf.Tensor:
        """The weighted distance of embeddings to the teacher's, both float32 [n, 2, embedding_size]: float32 [n]."""
        return self._weight * tf.reduce_mean(
            1.0 - tf.reduce_sum(embeddings * taught, axis=-1), axis=1
        )


def load(options: TeacherOptions, embedding_size: int, identities: Sequence[str]) -> Teacher | None:
    """Loads the teacher that the options name; call it in the strategy's scope.

    Args:
      options: which workdir.
      embedding_size: of the model that is to imitate it.
      identities: names of the people that this model is trained on.

    Raises:
      UserError: the workdir holds no trained model, or one that does not fit.
    """
    if options.teacher is None:
        return None
    record = model_record.load(options.teacher)
    _check_fits(record, options.teacher, embedding_size, identities)
    model, _ = checkpoint_files.load_model(options.teacher, record)
    return Teacher(model, options.teacher_weight, record)


def check_images(
    record: ModelRecord, folder: str, options: ModelOptions, preprocessing: Preprocessing | None
) -> None:
    """Checks that a teacher is shown the part of an image that it was trained on, as far as the records say.

    It is given what its student's crop leaves of a stored image. So a crop made at conversion and one made by
    --crop_fraction stand for each other.

    Args:
      record: of the teacher.
      folder: the teacher's workdir, for the message.
      options: of the student.
      preprocessing: what was done to the student's images before they were stored.

    Raises:
      UserError: it is shown another part.
    """
    taught = record.preprocessing
    if preprocessing is None or taught is None or preprocessing.same_crop(taught):
        return
    shown, wanted = (
        preprocessing.centre * options.crop_fraction,
        taught.centre * record.options.crop_fraction,
    )
    if preprocessing.boxes or taught.boxes or abs(shown - wanted) > _SAME_CROP:
        raise UserError(
            f"--teacher={folder} was trained on images stored with {taught}, but these are stored with {preprocessing}: "
            "give shards that were converted as the teacher's"
        )


def _check_fits(
    record: ModelRecord, folder: str, embedding_size: int, identities: Sequence[str]
) -> None:
    taught = record.options.embedding_size
    if taught != embedding_size:
        raise UserError(
            f"--teacher={folder} gives embeddings of {taught} numbers: give --embedding_size={taught}"
        )
    strangers = record.count_missing(identities)
    if strangers:  # some may be in the validation split, which would then flatter
        before = workdir.training_flag(folder, "tfrecords")
        give = f"--tfrecords={before}" if before else "its shards"
        raise UserError(
            f"--teacher={folder} was trained on {strangers:,} people who are not trained on here: give {give}"
        )
