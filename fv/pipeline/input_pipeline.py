"""Shards → batches of pairs, for training and for evaluation (docs/pipeline.md).

A batch is a dict of
  images      uint8 [batch, 2, image_size, image_size, 3], RGB
  label       int32 [batch], 1 = same person
  identities  int32 [batch, 2], index among the training identities, -1 for any other; of a source
              with `paths`, the image's index among these
  valid       bool [batch], False for padding and for skipped records

A record's way: `shards` deals records to input workers and reads them, `order` shuffles them,
`decoders` makes batches of them (with `decoding_processes` or a `cache`), and `damage` counts those
that are damaged.
"""

import math
import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from fv import files, progress, record
from fv.errors import UserError
from fv.pipeline import cache, decoders, order, service
from fv.pipeline.cache import DecodedCache
from fv.pipeline.damage import DamagedRecords
from fv.pipeline.decoders import HostDecoder, TensorFlowDecoder
from fv.pipeline.options import InputOptions
from fv.pipeline.order import SliceReader
from fv.pipeline.shards import PairSource, ShardReader, Slice, count_records

BATCHES_AHEAD = 2  # decoded batches that wait for the step
# To delete an iterator takes up to a minute: TensorFlow waits until the thread that tunes the
# pipeline wakes. No run waits for it: `iterate` leaves it to a thread, and `keep_iterator` does not
# delete, since the frames of a step hold the iterator too.
_KEPT_ITERATORS: list[Iterator] = []


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
    damaged: DamagedRecords | None = None,
) -> tf.data.Dataset:
    """Shuffled batches without end.

    Their order is a pure function of (seed, epoch, shards, worker, workers), except with a data
    service. Batches run across the ends of epochs, so no pair is dropped.

    Args:
      source: the pairs.
      batch_size: pairs in one batch.
      seed: of the order.
      shuffle_buffer: records held for shuffling: eight bytes each where the host decodes shards on
        a disk, else the records themselves.
      start_record: records of this worker's stream that earlier runs consumed. They are skipped
        without decoding any, and without reading those of complete epochs.
      first_epoch: number of the stream's first epoch, which changes its order as the seed does.
      worker: index of this input worker.
      workers: number of input workers.
      options: how the pairs are read and decoded.
      damaged: counts damaged records; by default none may be skipped.

    Raises:
      UserError: options exclude each other, a cache does not fit in memory, or more of the records
        that are read here are damaged than may be skipped.
    """
    options.check()
    damaged = damaged or DamagedRecords(source.folder)
    if options.data_service:
        batches = service.service_batches(
            source,
            source.worker_slices(worker, workers),
            options.data_service,
            batch_size=batch_size,
            seed=seed + first_epoch,
            shuffle_buffer=shuffle_buffer,
        )
        return batches.prefetch(BATCHES_AHEAD)
    if options.genuine_pairs_flag:
        pairs = _pairs_per_group(source, batch_size, options)
        slices = source.worker_slices(0, 1)  # identities are dealt to the workers, not records
        groups = group_by_identity(slices, damaged, seed, worker, workers)
        if options.genuine_only:  # each pair is a group of its own: every pair is equally frequent
            groups = [np.array([index]) for index in np.concatenate(groups)]
        _, decoder = _make_decoder(source, slices, options, damaged)
        # At least as many passes as the earlier epochs can have shown.
        passes = first_epoch * (count_records(slices) // (len(groups) * pairs) + 1)
        records = repeat_balanced(groups, pairs, seed, start_record, first_pass=passes)
    else:
        slices = source.worker_slices(worker, workers)
        read, decoder = _make_decoder(source, slices, options, damaged)
        records = order.repeat_epochs(
            slices, seed, shuffle_buffer, read, start=start_record, first_epoch=first_epoch
        )
    return decoder.batches(records, batch_size).prefetch(BATCHES_AHEAD)


def evaluation_batches(
    source: PairSource,
    *,
    batch_size: int,
    worker: int = 0,
    workers: int = 1,
    replicas: int = 1,
    damaged: DamagedRecords | None = None,
) -> tf.data.Dataset:
    """Every pair of the source exactly once, in the shards' order, in full batches.

    The last batches are padded, so that each of the worker's replicas gets one in every step.
    TensorFlow's kernels decode, as in the exported graph; the host does where records may be
    skipped.

    Args:
      source: the pairs.
      batch_size: pairs in one batch.
      worker: index of this input worker.
      workers: number of input workers, all of which get the same number of batches.
      replicas: number of replicas that share this worker's batches.
      damaged: counts damaged records; by default none may be skipped.
    """
    slices = source.worker_slices(worker, workers)
    damaged = damaged or DamagedRecords(source.folder)
    options = InputOptions(
        decoder="host" if damaged.allowed else "tensorflow", max_bad_records=damaged.allowed
    )
    read, decoder = _make_decoder(source, slices, options, damaged)
    assert isinstance(decoder, HostDecoder | TensorFlowDecoder)  # evaluation has no cache
    batches = decoder.padded_batches(order.stored_order(slices, read), batch_size)
    steps = evaluation_steps(source, batch_size * replicas, workers)
    return batches.take(replicas * steps).prefetch(BATCHES_AHEAD)


def keep_iterator(batches: Iterable) -> Iterator:
    """Returns an iterator of a dataset, for a tf.function; it lives as long as the process."""
    _KEPT_ITERATORS.append(iter(batches))
    return _KEPT_ITERATORS[-1]


def iterate(batches: Iterable) -> Iterator:
    """Yields the batches of a dataset, then deletes its iterator in a thread of its own."""
    held = [iter(batches)]  # the only reference: no frame keeps another one
    try:
        while (batch := next(held[0], None)) is not None:
            yield batch
    finally:
        threading.Thread(target=held.clear, daemon=True).start()


def evaluation_steps(source: PairSource, batch_size: int, workers: int = 1) -> int:
    """Steps in which each worker reads its pairs, at `batch_size` pairs per worker and step."""
    most = max(count_records(source.worker_slices(worker, workers)) for worker in range(workers))
    return -(-most // batch_size)


def _make_decoder(
    source: PairSource, slices: Sequence[Slice], options: InputOptions, damaged: DamagedRecords
) -> tuple[SliceReader, HostDecoder | TensorFlowDecoder | DecodedCache]:
    """What the order reads of each record, and what makes batches of that. Fills a cache.

    The order of shards on a disk needs indices only: the decoding processes read the records.
    TensorFlow reads remote shards, ahead and in order.
    """
    pixels = source.image_size, source.crop_fraction
    if not options.decodes_on_host(source.crop_fraction):
        lookup = decoders.identity_lookup(list(source.paths) or source.identities)
        return order.read_records, TensorFlowDecoder(*pixels, lookup, by_path=bool(source.paths))
    reader, remote = ShardReader(slices, damaged), files.is_remote(source.folder)
    index_of = record.identity_indexer(source.identities, list(source.paths))
    if options.cache == "none":
        read = order.read_records if remote else order.read_indices
        return read, HostDecoder(*pixels, index_of, reader)
    records: Iterable[bytes | None]
    if remote:
        stored = order.stored_order(slices, order.read_records).as_numpy_iterator()
        records = (encoded for _, encoded in stored)
    else:
        records = map(reader.read, range(count_records(slices)))
    if options.cache == "decoded":
        return order.read_indices, DecodedCache(source, slices, records, index_of, reader)
    held = cache.hold_encoded(source, slices, records, damaged)
    return order.read_indices, HostDecoder(*pixels, index_of, reader, held)


# Batches of genuine pairs only.


def _pairs_per_group(source: PairSource, batch_size: int, options: InputOptions) -> int:
    """Pairs of one identity that follow each other.

    Raises:
      UserError: batches are not made of whole groups, or the shards are not on a disk.
    """
    flag, pairs = options.genuine_pairs_flag, options.images_per_identity // 2 or 1
    if batch_size % pairs:
        raise UserError(
            f"{flag}: a batch of {batch_size} pairs on one replica is not made of groups of "
            f"{pairs}: multiply --global_batch_size by {pairs // math.gcd(batch_size, pairs)}"
        )
    if files.is_remote(source.folder):
        raise UserError(f"{flag} reads shards on a disk: copy {source.folder} to one")
    return pairs


def group_by_identity(
    slices: Sequence[Slice], damaged: DamagedRecords, seed: int, worker: int, workers: int
) -> list[np.ndarray]:
    """The genuine pairs of each of a worker's identities, as indices of records, int64.

    Identities are sorted by name; the order of the pairs of one is drawn from the seed.

    Args:
      slices: of all records, each of which is read once.
      damaged: counts damaged records, which are in no group.
      seed: of the order.
      worker: index of this input worker.
      workers: number of input workers, to which the identities are dealt.

    Raises:
      UserError: fewer identities than workers have genuine pairs, or more records are damaged than
        may be skipped.
    """
    members: dict[bytes, list[int]] = {}
    reader, count = ShardReader(slices, damaged), count_records(slices)
    with progress.Progress(count, "index identities", "pair") as line:
        for index in range(count):
            line.update()
            data = reader.read(index)
            try:
                pair = record.parse_pair(data) if data is not None else None
            except record.DamagedRecordError as error:
                reader.count_damaged(index, str(error))
                continue
            if pair and pair.label == record.GENUINE:
                members.setdefault(pair.names[0], []).append(index)
    names = sorted(members)[worker::workers]
    if not names:
        found = f"{len(members)} people have genuine pairs, {workers} input workers want some"
        raise UserError(f"{found}: use fewer workers, or convert more people")
    rng = np.random.default_rng(seed)
    return [rng.permutation(members[name]) for name in names]


def repeat_balanced(
    groups: Sequence[np.ndarray], pairs: int, seed: int, start: int, first_pass: int = 0
) -> tf.data.Dataset:
    """Indices of records, int64: passes over the groups without end, each in an order of its own.

    In each pass every group shows its next `pairs` pairs, one after the other; one that has fewer
    begins again.

    Args:
      groups: indices of the records of each group.
      pairs: of a group in one pass.
      seed: of the order.
      start: records of the stream to skip.
      first_pass: number of the stream's first pass, on which its order depends.
    """
    sizes = np.array([len(group) for group in groups])
    records = tf.constant(np.concatenate(groups), tf.int64)
    firsts, counts = (tf.constant(each, tf.int64) for each in (np.cumsum(sizes) - sizes, sizes))

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        shuffled = tf.random.experimental.stateless_shuffle(
            tf.range(len(groups)), seed=[seed, number]
        )
        places = number * pairs + tf.range(pairs, dtype=tf.int64)
        places %= tf.gather(counts, shuffled)[:, tf.newaxis]
        shown = tf.gather(records, tf.gather(firsts, shuffled)[:, tf.newaxis] + places)
        return tf.data.Dataset.from_tensor_slices(tf.reshape(shown, [-1]))

    passes, skip = divmod(start, len(groups) * pairs)
    return tf.data.Dataset.range(first_pass + passes, tf.int64.max).flat_map(one_pass).skip(skip)
