"""Shards → batches of pairs: one straight line for training, one for evaluation.

A batch is a dict of
  images      uint8 [batch, 2, image_size, image_size, 3], RGB; pixels leave the host as bytes, a quarter of float32's size
  label       int32 [batch], 1 = same person
  identities  int32 [batch, 2], index among the training identities, -1 for any other
  valid       bool [batch], evaluation only: False on the padding that fills the last batches
"""

import dataclasses

import tensorflow as tf

from fv import manifest as manifests
from fv import preprocess, record
from fv.pipeline import slices

_READ_BUFFER_BYTES = 1 << 20
_SHARDS_READ_AT_ONCE = 8
_EPOCHS_PER_SEED = 1_000_003  # a prime: neighbouring seeds share no epoch's order for the first million epochs
_GRAPH_SEED = 1  # any but 0, at which tf.data asks whether the epoch's seed, a tensor, is 0 too
_NO_IDENTITIES = ("",)  # a lookup table cannot be empty, a name is never
_IMAGES = (record.IMAGE_A, record.IMAGE_B)
_FEATURES = {name: tf.io.FixedLenFeature([], tf.string) for name in record.BYTES_FIELDS}
_FEATURES |= {name: tf.io.FixedLenFeature([], tf.int64) for name in record.INT64_FIELDS}


@dataclasses.dataclass(frozen=True)
class PairSource:
    """A split of converted pairs and what is needed to turn its records into tensors.

    Attributes:
      folder: where the shards are.
      split: the split, from the manifest.
      image_size: side of the images in a batch, in pixels.
      crop_fraction: side of the centre square that is kept, over the shorter side, in (0, 1].
      identities: names whose position is their index in a batch's `identities`.
    """

    folder: str
    split: manifests.Split
    image_size: int
    crop_fraction: float
    identities: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, folder: str, manifest: manifests.Manifest, split: str, image_size: int, crop_fraction: float
    ) -> "PairSource":
        """The split of that name, with identities indexed among the training split's."""
        identities = manifest.splits["train"].identities if "train" in manifest.splits else ()
        return cls(folder, manifest.split(split), image_size, crop_fraction, identities)

    def worker_slices(self, worker: int, workers: int) -> list[slices.Slice]:
        """What input worker `worker` of `workers` reads."""
        return slices.worker_slices(self.folder, self.split.shards, worker, workers)


def training_batches(
    source: PairSource,
    *,
    batch_size: int,
    seed: int,
    shuffle_buffer: int,
    start_record: int = 0,
    worker: int = 0,
    workers: int = 1,
) -> tf.data.Dataset:
    """Endless shuffled batches; their order is a pure function of (seed, epoch, shards, worker, workers).

    Args:
      source: the pairs.
      batch_size: pairs in one batch; batches run across the ends of epochs, so no pair is dropped.
      seed: of the order.
      shuffle_buffer: encoded records held for shuffling; memory is this times a record's bytes.
      start_record: records of this worker's endless stream that earlier runs consumed: the stream goes on behind them,
        reading past encoded records of the current epoch only, decoding none.
      worker: index of this input worker.
      workers: number of input workers.
    """
    parts = source.worker_slices(worker, workers)
    first_epoch, skip = divmod(start_record, slices.count(parts))
    return (
        tf.data.Dataset.range(first_epoch, tf.int64.max)
        .flat_map(lambda epoch: _epoch_records(parts, seed, epoch, shuffle_buffer))  # shuffles bytes, never pixels
        .skip(skip)
        .map(_decoder(source), num_parallel_calls=tf.data.AUTOTUNE)  # one fused map: chained ones run at 0.8 ×
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation_batches(
    source: PairSource, *, batch_size: int, worker: int = 0, workers: int = 1, replicas: int = 1
) -> tf.data.Dataset:
    """Batches that hold every pair of the source exactly once, in the shards' order, the last ones padded.

    Every worker gets the same number of batches, all of them full, one for each of its replicas in every step: no replica
    starves. Arguments as in `training_batches`, and `replicas`, the number of replicas that share this worker's batches.
    """
    parts = source.worker_slices(worker, workers)
    padding = tf.data.Dataset.from_tensors(_padding(source.image_size)).repeat()
    return (
        _slice_dataset(parts)
        .flat_map(_read_slice)
        .map(_decoder(source), num_parallel_calls=tf.data.AUTOTUNE)
        .map(lambda pair: pair | {"valid": tf.constant(True)})
        .concatenate(padding)
        .batch(batch_size, drop_remainder=True)
        .take(replicas * evaluation_steps(source, batch_size * replicas, workers))
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation_steps(source: PairSource, batch_size: int, workers: int = 1) -> int:
    """Number of steps in which each worker reads its pairs, at `batch_size` pairs per worker and step."""
    most = max(slices.count(source.worker_slices(worker, workers)) for worker in range(workers))
    return -(-most // batch_size)


def _epoch_records(parts: list[slices.Slice], seed: int, epoch: tf.Tensor, shuffle_buffer: int) -> tf.data.Dataset:
    """The encoded records of one epoch: slices shuffled, several read at once, records shuffled."""
    tf.compat.v1.set_random_seed(_GRAPH_SEED)  # of flat_map's graph alone: tf.random.set_seed must not change the order
    epoch_seed = seed * _EPOCHS_PER_SEED + epoch
    ordered = _slice_dataset(parts).shuffle(len(parts), seed=epoch_seed, reshuffle_each_iteration=False)
    records = ordered.interleave(_read_slice, cycle_length=_SHARDS_READ_AT_ONCE)
    return records.shuffle(shuffle_buffer, seed=epoch_seed, reshuffle_each_iteration=False)


def _slice_dataset(parts: list[slices.Slice]) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(tuple(map(list, zip(*parts, strict=True))))


def _read_slice(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor) -> tf.data.Dataset:
    records = tf.data.TFRecordDataset(path, buffer_size=_READ_BUFFER_BYTES)
    return records.skip(tf.cast(skip, tf.int64)).take(tf.cast(take, tf.int64))


def _decoder(source: PairSource):
    """The map from one encoded record to the tensors of one pair."""
    names = tf.constant(source.identities or _NO_IDENTITIES)
    indices = tf.range(tf.size(names), dtype=tf.int32)
    index_of = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(names, indices), default_value=-1)

    def decode(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        pair = tf.io.parse_single_example(encoded, _FEATURES)
        images = [preprocess.load_jpeg(pair[name], source.image_size, source.crop_fraction) for name in _IMAGES]
        return {
            "images": tf.stack(images),
            "label": tf.cast(pair[record.LABEL], tf.int32),
            "identities": index_of.lookup(tf.stack([pair[record.IDENTITY_A], pair[record.IDENTITY_B]])),
        }

    return decode


def _padding(image_size: int) -> dict[str, tf.Tensor]:
    return {
        "images": tf.zeros((2, image_size, image_size, preprocess.CHANNELS), tf.uint8),
        "label": tf.constant(record.IMPOSTOR, tf.int32),
        "identities": tf.constant((-1, -1), tf.int32),
        "valid": tf.constant(False),
    }
