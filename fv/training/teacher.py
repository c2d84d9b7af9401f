"""A teacher: a trained model whose embeddings the model in training imitates, beside its own loss.

A deep network that hardly begins to learn on a few thousand faces begins at once with the
embeddings of a shallow one as targets. Source: Romero et al., FitNets: Hints for Thin Deep Nets,
2015, with the embedding as the hint.
"""

from collections.abc import Sequence

import tensorflow as tf

from fv import workdir
from fv.errors import UserError
from fv.model import checkpoint_files, model_record
from fv.model.model_record import ModelRecord
from fv.model.options import ModelOptions
from fv.model.siamese import Siamese
from fv.pipeline import augment
from fv.preprocessing import Preprocessing
from fv.training.options import TeacherOptions

_SAME_CROP = 0.01  # of the shorter side: crops that differ by no more are the same


class Teacher:
    """A frozen trained model.

    Attributes:
      record: of that model; its training identities count as seen by the model that imitates it.
    """

    def __init__(self, model: Siamese, weight: float, record: ModelRecord):
        self._model, self._weight, self.record = model, weight, record

    def embed(self, images: tf.Tensor) -> tf.Tensor:
        """Embeds pairs of images.

        Args:
          images: uint8 or float [n, 2, any side, any side, 3], values 0 to 255.

        Returns:
          float32 [n, 2, embedding_size].
        """
        resized = augment.resize(images, self._model.encoder.input_shape[1])
        return tf.stop_gradient(self._model.embed_pairs(resized, training=False))

    def pair_losses(self, embeddings: tf.Tensor, taught: tf.Tensor) -> tf.Tensor:
        """The weighted loss of each pair: 1 − cosine, mean of both images, float32 [n].

        Args:
          embeddings: float32 [n, 2, embedding_size], of unit length.
          taught: the teacher's, alike.
        """
        cosines = tf.reduce_sum(embeddings * taught, axis=-1)
        return self._weight * tf.reduce_mean(1.0 - cosines, axis=1)


def load(options: TeacherOptions, embedding_size: int, identities: Sequence[str]) -> Teacher | None:
    """Loads the teacher that the options name, if any; call it in the strategy's scope.

    Args:
      options: which workdir.
      embedding_size: of the model that imitates it.
      identities: names of that model's training identities.

    Raises:
      UserError: the workdir holds no trained model, one of another embedding size, or one with
        other training identities: they may be in the validation split, whose figures would flatter.
    """
    folder = options.teacher
    if folder is None:
        return None
    record = model_record.load(folder)
    size = record.options.embedding_size
    if size != embedding_size:
        raise UserError(
            f"--teacher={folder} gives embeddings of {size} numbers: give --embedding_size={size}"
        )
    strangers = record.count_missing(identities)
    if strangers:
        before = workdir.training_flag(folder, "tfrecords")
        give = f"--tfrecords={before}" if before else "its shards"
        raise UserError(
            f"--teacher={folder} was trained on {strangers:,} people who are not trained on here: "
            f"give {give}"
        )
    model, _ = checkpoint_files.load_model(folder, record)
    return Teacher(model, options.teacher_weight, record)


def check_images(
    record: ModelRecord, folder: str, options: ModelOptions, preprocessing: Preprocessing
) -> None:
    """Checks that a teacher sees the part of an image that it was trained on.

    It sees what the student's crop leaves of a stored image, so a crop at conversion and
    --crop_fraction are equivalent.

    Args:
      record: the teacher's.
      folder: the teacher's workdir.
      options: the student's.
      preprocessing: of the student's images before they were stored.

    Raises:
      UserError: it sees another part.
    """
    taught = record.preprocessing
    if preprocessing.same_crop(taught):
        return
    seen = preprocessing.centre * options.crop_fraction
    trained = taught.centre * record.options.crop_fraction
    apart = (preprocessing.boxes, taught.boxes, preprocessing.alignment, taught.alignment)
    if any(apart) or abs(seen - trained) > _SAME_CROP:
        raise UserError(
            f"--teacher={folder} was trained on images stored with {taught}, but these are stored "
            f"with {preprocessing}: give shards that were converted as the teacher's"
        )
