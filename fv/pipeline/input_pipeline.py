"""Shards → batches of pairs: one straight line for training, one for evaluation (reasons and figures: docs/pipeline.md).

A batch is a dict of
  images      uint8 [batch, 2, image_size, image_size, 3], RGB; pixels leave the host as bytes, a quarter of float32's size
  label       int32 [batch], 1 = same person
  identities  int32 [batch, 2], index among the training identities, -1 for any other
  valid       bool [batch], False on the padding that fills evaluation's last batches and in the place of a skipped record
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fv import files, progress, record
from fv.errors import UserError
from fv.pipeline import cache, order, service, slices, tensorflow_decoder
from fv.pipeline.damage import BadRecords
from fv.pipeline.host_decoder import HostDecoder
from fv.pipeline.options import InputOptions
from fv.pipeline.shard_reader import ShardReader
from fv.pipeline.slices import PairSource, Slice
from fv.pipeline.tensorflow_decoder import TensorFlowDecoder

# Batches of genuine pairs alone: every pair as often, or every identity, in groups, as batch-wise
# losses want them.
#
# The order is a pure function of (seed, pass, shards, worker, workers). Identities, not records,
# are dealt to input workers.


class PairGroups(NamedTuple):
    """The genuine pairs of each identity, sorted by name.

    Attributes:
      records: int64 [pairs], numbers of records, those of one identity in a row.
      firsts: int64 [identities], where in `records` each one's begin.
      counts: int64 [identities], how many they are.
    """

    records: np.ndarray
    firsts: np.ndarray
    counts: np.ndarray


def group_by_identity(
    parts: Sequence[Slice], bad: BadRecords, seed: int, worker: int, workers: int
) -> PairGroups:
    """The groups that an input worker shows, an identity's pairs in an order of the seed's.

    Args:
      parts: slices of all records, each of which is read once.
      bad: is told of damaged records, which are in no group, and says when they are too many.
      seed: of the order.
      worker: index of this worker.
      workers: number of them.

    Raises:
      UserError: there are fewer identities with a genuine pair than workers, or more damaged records than may be skipped.
    """
    members = _genuine(parts, bad)
    names = sorted(members)[worker::workers]
    if not names:
        found = f"{len(members)} people have genuine pairs, {workers} input workers want some"
        raise UserError(f"{found}: use fewer workers, or convert more people")
    rng = np.random.default_rng(seed)
    records = [rng.permutation(members[name]) for name in names]
    counts = np.array([len(each) for each in records])
    return PairGroups(np.concatenate(records), np.cumsum(counts) - counts, counts)


def ungroup(groups: PairGroups) -> PairGroups:
    """The same pairs, each a group of its own: every pair as often."""
    return PairGroups(
        groups.records, np.arange(len(groups.records)), np.ones(len(groups.records), np.int64)
    )


def _genuine(parts: Sequence[Slice], bad: BadRecords) -> dict[bytes, list[int]]:
    """Numbers of the genuine pairs' records, by name."""
    members, read, count = {}, ShardReader(parts, bad).read, slices.count_records(parts)
    with progress.progress(count, "index identities", "pair") as line:
        for index in range(count):
            line.update()
            data = read(index)
            try:
                pair = record.parse_pair(data) if data is not None else None
            except record.DamagedRecordError as error:
                bad.add_record(parts, index, str(error))
                continue
            if pair and pair.label == record.GENUINE:
                members.setdefault(pair.identities[0], []).append(index)
    return members


def repeat_balanced(
    groups: PairGroups, pairs: int, seed: int, start: int, first_pass: int = 0
) -> tf.data.Dataset:
    """Indices of records, int64: pass after pass over the identities, each pass in an order of its own.

    Each identity shows its next `pairs` pairs, one after the other; one that has fewer begins again.

    Args:
      groups: whose.
      pairs: of an identity in one pass.
      seed: of the order.
      start: records of the stream that came before.
      first_pass: number of the stream's first pass.
    """
    records, firsts, counts = (tf.constant(each, tf.int64) for each in groups)

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(groups.counts)), seed=[seed, number]
        )
        places = (number * pairs + tf.range(pairs, dtype=tf.int64)) % tf.gather(counts, order)[
            :, tf.newaxis
        ]
        shown = tf.gather(records, tf.gather(firsts, order)[:, tf.newaxis] + places)
        return tf.data.Dataset.from_tensor_slices(tf.reshape(shown, [-1]))

    passes, skip = divmod(start, len(groups.counts) * pairs)
    return tf.data.Dataset.range(first_pass + passes, tf.int64.max).flat_map(one_pass).skip(skip)


BATCHES_AHEAD = 2  # that wait, finished, for the step


def training_batches(
    source: PairSource,
    *,
    batch_size: int,
    seed: int,
    shuffle_buffer: int,
    start_record: int = 0,
    first_epoch: int = 0,
    worker: int = 0,
    workers: int = 1,
    options: InputOptions = InputOptions(),  # noqa: B008  frozen
    bad: BadRecords | None = None,
) -> tf.data.Dataset:
    """Endless shuffled batches; their order is a pure function of (seed, epoch, shards, worker, workers).

    Args:
      source: the pairs.
      batch_size: pairs in one batch; batches run across the ends of epochs, so no pair is dropped.
      seed: of the order.
      shuffle_buffer: records held for shuffling: eight bytes each where the host decodes shards on a disk, else their own.
      start_record: records of this worker's endless stream that earlier runs consumed: the stream goes on behind them,
        going past indices (or encoded records) of the current epoch only, decoding none.
      first_epoch: number of the stream's first epoch; with another one the same records come in another order.
      worker: index of this input worker.
      workers: number of input workers.
      options: how the pairs come; under a data service the order is no longer the seed's alone.
      bad: counts damaged records; by default none may be skipped.

    Raises:
      UserError: the options exclude each other, a cache does not fit in memory, or a record that it reads is damaged.
    """
    options.check()
    if options.genuine_pairs_flag:
        return _genuine_batches(
            source, batch_size, seed, (start_record, first_epoch), (worker, workers), options, bad
        )
    parts = source.worker_slices(worker, workers)
    if options.data_service:
        order_of = dict(
            batch_size=batch_size, seed=seed + first_epoch, shuffle_buffer=shuffle_buffer
        )
        return service.service_batches(source, parts, options.data_service, **order_of).prefetch(
            BATCHES_AHEAD
        )
    read, decoder = _reading(source, parts, options, bad or BadRecords(source.folder))
    records = order.repeat_epochs(  # indices or bytes
        parts, seed, shuffle_buffer, read, start=start_record, first_epoch=first_epoch
    )
    return records.apply(lambda records: decoder.batches(records, batch_size)).prefetch(
        BATCHES_AHEAD
    )


def _genuine_batches(
    source: PairSource,
    batch_size: int,
    seed: int,
    start: tuple[int, int],
    share: tuple[int, int],
    options: InputOptions,
    bad: BadRecords | None,
) -> tf.data.Dataset:
    """As `training_batches`, of genuine pairs, alone or in groups of an identity's: people are dealt to the workers."""
    flag, pairs = options.genuine_pairs_flag, options.images_per_identity // 2 or 1
    if batch_size % pairs:
        raise UserError(
            f"{flag}: a batch of {batch_size} pairs on one replica is not made of groups of {pairs}: multiply "
            f"--global_batch_size by {pairs // math.gcd(batch_size, pairs)}"
        )
    if files.is_remote(source.folder):
        raise UserError(f"{flag} reads shards on a disk: copy {source.folder} to one")
    parts, bad = source.worker_slices(0, 1), bad or BadRecords(source.folder)
    groups = group_by_identity(parts, bad, seed, *share)
    if options.genuine_only:
        groups = ungroup(groups)
    _, decoder = _reading(source, parts, options, bad)
    start_record, first_epoch = start
    passes = first_epoch * (
        slices.count_records(parts) // (len(groups.counts) * pairs) + 1
    )  # at least as many as were shown
    records = repeat_balanced(groups, pairs, seed, start_record, first_pass=passes)
    return decoder.batches(records, batch_size).prefetch(BATCHES_AHEAD)


def evaluation_batches(
    source: PairSource,
    *,
    batch_size: int,
    worker: int = 0,
    workers: int = 1,
    replicas: int = 1,
    bad: BadRecords | None = None,
) -> tf.data.Dataset:
    """Batches that hold every pair of the source exactly once, in the shards' order, the last ones padded.

    Every worker gets the same number of batches, all of them full, one for each of its replicas in every step: no replica
    starves. Arguments as in `training_batches`, and `replicas`, the number of replicas that share this worker's batches.
    TensorFlow's kernels decode, as they do in the exported graph; where `bad` lets records be skipped, the host does.
    """
    parts = source.worker_slices(worker, workers)
    lenient = bad is not None and bad.allowed > 0
    options = InputOptions(
        decoder="host" if lenient else "tensorflow", max_bad_records=bad.allowed if lenient else 0
    )
    read, decoder = _reading(source, parts, options, bad or BadRecords(source.folder))
    return (
        order.stored_order(parts, read)
        .apply(lambda records: decoder.padded_batches(records, batch_size))
        .take(replicas * evaluation_steps(source, batch_size * replicas, workers))
        .prefetch(BATCHES_AHEAD)
    )


def evaluation_steps(source: PairSource, batch_size: int, workers: int = 1) -> int:
    """Number of steps in which each worker reads its pairs, at `batch_size` pairs per worker and step."""
    most = max(
        slices.count_records(source.worker_slices(worker, workers)) for worker in range(workers)
    )
    return -(-most // batch_size)


def _reading(source: PairSource, parts: list[slices.Slice], options: InputOptions, bad: BadRecords):
    """What is read of each record for the order, and what makes batches of that; a cache is filled here.

    Of shards on a disk the order needs indices alone: the processes that decode read the records. Remote ones are read by
    TensorFlow, ahead and in order.
    """
    if not options.decodes_on_host(source.crop_fraction):
        return _reading_for_kernels(source, parts, options)
    remote, reader = files.is_remote(source.folder), ShardReader(parts, bad)
    records = (
        _remote_records(parts) if remote else map(reader.read, range(slices.count_records(parts)))
    )
    index_of = record.identity_indexer(source.identities)
    if options.cache == "decoded":
        return order.read_indices, cache.hold_decoded(source, parts, records, index_of, bad)
    pixels = (source.image_size, source.crop_fraction, index_of, parts, bad)
    if options.cache == "encoded":
        return order.read_indices, HostDecoder(
            *pixels, cache.hold_encoded(source, parts, records, bad).__getitem__
        )
    if remote:
        return order.read_records, HostDecoder(*pixels)
    return order.read_indices, HostDecoder(*pixels, reader.read, reader.place)


def _reading_for_kernels(source: PairSource, parts: list[slices.Slice], options: InputOptions):
    """As `_reading`, for TensorFlow's decoder."""
    decoder = TensorFlowDecoder(
        source.image_size,
        source.crop_fraction,
        tensorflow_decoder.identity_indexer(source.identities),
    )
    if options.cache == "encoded":
        return order.read_indices, cache.hold_encoded_for_kernels(source, parts, decoder)
    return order.read_records, decoder


def _remote_records(parts: list[slices.Slice]) -> Iterator[bytes]:
    return (
        encoded for _, encoded in order.stored_order(parts, order.read_records).as_numpy_iterator()
    )
