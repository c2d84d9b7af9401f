"""A teacher: a trained model that the model in training imitates, beside its own loss.

A deep network that hardly begins to learn on a few thousand faces begins at once with the
embeddings of a shallow one as targets. Source: Romero et al., FitNets: Hints for Thin Deep Nets,
2015, with the embedding as the hint.

An external teacher's embeddings may have another length; a fixed matrix gives them the student's.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf
from absl import logging

from fv import embedding_files, errors, manifest, progress, record, workdir
from fv.errors import UserError
from fv.model import checkpoint_files, model_record
from fv.model.model_record import ModelRecord
from fv.model.options import ModelOptions
from fv.model.siamese import Siamese
from fv.onnx_encoder import OnnxEncoder
from fv.pipeline import augment
from fv.pipeline.shards import FrameReader, PairSource, ShardIndex
from fv.preprocessing import Preprocessing
from fv.training.options import TeacherOptions

_SAME_CROP = 0.01  # of the shorter side: crops that differ by no more are the same


class AnyTeacher(Protocol):
    """What a training step imitates."""

    def teach(
        self, batch: Mapping[str, tf.Tensor], images: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what is taught about a replica's batch.

        Args:
          batch: of `fv.pipeline.input_pipeline`.
          images: the augmented ones, float32 [n, 2, side, side, 3], values 0 to 255.

        Returns:
          Indices of the identities, int32 [n, 2], and embeddings, float32 [n, 2, any size].
        """

    def pair_losses(self, embeddings: tf.Tensor, taught: tf.Tensor) -> tf.Tensor:
        """The weighted loss of each pair, float32 [n].

        Args:
          embeddings: the student's, float32 [n, 2, embedding_size], of unit length.
          taught: of `teach`.
        """

    def note_in(self, student: ModelRecord) -> ModelRecord:
        """Adds to the student's record whom the teacher was trained on, or that it is not known."""


class Teacher:
    """A frozen trained model.

    Attributes:
      record: of that model.
    """

    def __init__(self, model: Siamese, weight: float, held: ModelRecord):
        self._model, self._weight, self.record = model, weight, held

    def note_in(self, student: ModelRecord) -> ModelRecord:
        """As `AnyTeacher.note_in`: the teacher's training identities count as seen."""
        return model_record.inherit(student, self.record)

    def teach(
        self, batch: Mapping[str, tf.Tensor], images: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `AnyTeacher.teach`."""
        return batch["identities"], self.embed(images)

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


class ExternalTeacher:
    """Embeddings of any length, from a file by the images' paths, or from an ONNX file."""

    def __init__(
        self,
        weight: float,
        network: OnnxEncoder | None = None,
        table: np.ndarray | None = None,
        owners: np.ndarray | None = None,
        name: str = "",
    ):
        """Args:
        weight: of the loss.
        network: embeds the augmented images.
        table: without a network, the embedding of each image of `PairSource.paths`, float32
          [images, d]; 0 where it is not known.
        owners: with `table`, the identity of each image, int32 [images].
        name: of the file.
        """
        self._weight, self._network, self._name = weight, network, name
        self._table = None if table is None else tf.constant(table)
        self._owners = None if owners is None else tf.constant(owners, tf.int32)

    def note_in(self, student: ModelRecord) -> ModelRecord:
        """As `AnyTeacher.note_in`."""
        return dataclasses.replace(student, external_teachers=(self._name,))

    def teach(
        self, batch: Mapping[str, tf.Tensor], images: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `AnyTeacher.teach`."""
        if self._network is None:
            known = batch["identities"] >= 0
            rows = tf.maximum(batch["identities"], 0)
            taught = tf.where(known[:, :, tf.newaxis], tf.gather(self._table, rows), 0.0)
            return tf.where(known, tf.gather(self._owners, rows), record.NO_IDENTITY), taught
        side, size = self._network.image_size, self._network.embedding_size
        flat = tf.reshape(augment.resize(images, side), (-1, side, side, 3))
        # Not stateful, or op determinism would refuse it.
        taught = tf.numpy_function(self._network, [flat], tf.float32, stateful=False)
        return batch["identities"], tf.reshape(taught, (-1, 2, size))

    def pair_losses(self, embeddings: tf.Tensor, taught: tf.Tensor) -> tf.Tensor:
        """The weighted loss of each pair: 1 − cosine, mean of both images, float32 [n].

        The teacher's embeddings are centred first: cosines of embeddings that all point in one
        direction hardly differ. Then they get the student's length. Images without an embedding
        take no part.
        """
        known = tf.cast(tf.reduce_any(taught != 0.0, axis=2, keepdims=True), tf.float32)
        middle = tf.reduce_sum(taught, axis=(0, 1)) / tf.maximum(tf.reduce_sum(known), 1.0)
        fitted = tf.tensordot(
            (taught - middle) * known, _fit(taught.shape[2], embeddings.shape[2]), 1
        )
        cosines = tf.reduce_sum(embeddings * tf.math.l2_normalize(fitted, axis=2), axis=2)
        return self._weight * tf.reduce_mean(known[:, :, 0] * (1.0 - cosines), axis=1)


def _fit(size: int, wanted: int) -> np.ndarray:
    """A fixed matrix that nearly keeps cosines, float32 [size, wanted].

    It adds zeros to short embeddings, and turns long ones by a random rotation that is cut off.
    """
    if size <= wanted:
        return np.eye(size, wanted, dtype=np.float32)
    numbers = np.random.default_rng(0).normal(size=(size, wanted))
    return np.linalg.qr(numbers)[0].astype(np.float32)


def load(options: TeacherOptions, student: ModelOptions, training: PairSource) -> AnyTeacher | None:
    """Loads the teacher that the options name, if any; call it in the strategy's scope.

    Raises:
      UserError: the teacher cannot be used, or does not fit the student or its training images.
    """
    if options.external:
        return load_external(options, training.paths)
    if options.teacher is None:
        return None
    teacher = load_trained(options, student.embedding_size, training.identities)
    check_images(teacher.record, options.teacher, student, training.preprocessing)
    return teacher


def load_external(options: TeacherOptions, paths: Mapping[str, int]) -> ExternalTeacher:
    """Loads the teacher in a file.

    Args:
      options: which file.
      paths: of the training source.

    Raises:
      UserError: the file cannot be used, or has no embedding of any training image.
    """
    name = os.path.basename(str(options.external))
    if options.teacher_onnx:
        network = OnnxEncoder(options.teacher_onnx)
        return ExternalTeacher(options.teacher_weight, network, name=name)
    path = str(options.teacher_embeddings)
    held = embedding_files.read(path)
    rows = {name: row for row, name in enumerate(held.paths.tolist())}
    table = np.zeros((len(paths), held.vectors.shape[1]), np.float32)
    found = [(place, rows[name]) for place, name in enumerate(paths) if name in rows]
    if not found:
        raise UserError(
            f"--teacher_embeddings={path} has no embedding of a training image, such as "
            f"{next(iter(paths))}: embed the images that were converted"
        )
    places, sources = map(list, zip(*found, strict=True))
    table[places] = held.vectors[sources]
    missing = len(paths) - len(found)
    if missing:
        logging.info("%s has no embedding of %d of %d training images", path, missing, len(paths))
    owners = np.array(list(paths.values()))
    return ExternalTeacher(options.teacher_weight, None, table, owners, name)


def read_paths(folder: str, split: manifest.Split, *, skip_damaged: bool = False) -> dict[str, int]:
    """Reads the path of each image of a split, with the index of its identity.

    Args:
      folder: where the shards are.
      split: the split.
      skip_damaged: pass over damaged records, which the decoder counts and names.

    Raises:
      UserError: a record is damaged; with `skip_damaged`, all are.
    """
    indices = {name: index for index, name in enumerate(split.identities)}
    found: dict[str, int] = {}
    pairs = _list_sound_images(folder, split) if skip_damaged else _list_images(folder, split)
    with progress.Progress(split.pairs, "read paths", "pair") as line:
        for pair in pairs:
            for path, identity in pair:
                found[path] = indices.get(identity, record.NO_IDENTITY)
            line.update()
    if skip_damaged and not found:
        return read_paths(folder, split)  # says what is damaged
    return found


def _list_images(folder: str, split: manifest.Split) -> Iterator[list[tuple[str, str]]]:
    """Yields the path and the identity of both images of each record."""
    for _, pair in manifest.list_images(folder, split.shards):
        yield [(image.path, image.identity) for image in pair]


def _list_sound_images(folder: str, split: manifest.Split) -> Iterator[list[tuple[str, str]]]:
    """As `_list_images`, without damaged records."""
    frames = FrameReader()
    for shard in split.shards:
        path = os.path.join(folder, shard.name)
        index = ShardIndex(path)
        for number in range(shard.records):
            try:
                begin, end, lost = index.span(number)
                if not lost:
                    pair = record.parse_pair(frames.read(path, begin, end))
                    names = [name.decode(errors="replace") for name in pair.names]
                    yield [(names[2], names[0]), (names[3], names[1])]
            except record.DamagedRecordError:
                continue
            except OSError as error:
                errors.raise_if_temporary(error)


def load_trained(
    options: TeacherOptions, embedding_size: int, identities: Sequence[str]
) -> Teacher:
    """Loads the last checkpoint of --teacher; call it in the strategy's scope.

    Args:
      options: which workdir.
      embedding_size: of the model that imitates it.
      identities: names of that model's training identities.

    Raises:
      UserError: the workdir holds no trained model, one of another embedding size, or one with
        other training identities: they may be in the validation split, whose figures would flatter.
    """
    folder = str(options.teacher)
    held = model_record.load(folder)
    size = held.options.embedding_size
    if size != embedding_size:
        raise UserError(
            f"--teacher={folder} gives embeddings of {size} numbers: give --embedding_size={size}"
        )
    strangers = held.count_missing(identities)
    if strangers:
        before = workdir.training_flag(folder, "tfrecords")
        give = f"--tfrecords={before}" if before else "its shards"
        raise UserError(
            f"--teacher={folder} was trained on {strangers:,} people who are not trained on here: "
            f"give {give}"
        )
    model, _ = checkpoint_files.load_model(folder, held)
    return Teacher(model, options.teacher_weight, held)


def check_images(
    held: ModelRecord, folder: str, options: ModelOptions, preprocessing: Preprocessing
) -> None:
    """Checks that a teacher sees the part of an image that it was trained on.

    It sees what the student's crop leaves of a stored image, so a crop at conversion and
    --crop_fraction are equivalent.

    Args:
      held: the teacher's.
      folder: the teacher's workdir.
      options: the student's.
      preprocessing: of the student's images before they were stored.

    Raises:
      UserError: it sees another part.
    """
    taught = held.preprocessing
    if preprocessing.same_crop(taught):
        return
    seen = preprocessing.centre * options.crop_fraction
    trained = taught.centre * held.options.crop_fraction
    apart = (preprocessing.boxes, taught.boxes, preprocessing.alignment, taught.alignment)
    if any(apart) or abs(seen - trained) > _SAME_CROP:
        raise UserError(
            f"--teacher={folder} was trained on images stored with {taught}, but these are stored "
            f"with {preprocessing}: give shards that were converted as the teacher's"
        )
