"""Batches of genuine pairs alone: every pair as often, or every identity, in groups, as batch-wise losses want them.

The order is a pure function of (seed, pass, shards, worker, workers). Identities, not records, are dealt to input workers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fv import progress, record
from fv.errors import UserError
from fv.pipeline import fields_on_host, slices
from fv.pipeline.damage import BadRecords
from fv.pipeline.shard_reader import ShardReader
from fv.pipeline.slices import Slice


class Groups(NamedTuple):
    """The genuine pairs of each identity, sorted by name.

    Attributes:
      records: int64 [pairs], numbers of records, those of one identity in a row.
      firsts: int64 [identities], where in `records` each one's begin.
      counts: int64 [identities], how many they are.
    """

    records: np.ndarray
    firsts: np.ndarray
    counts: np.ndarray


def find(parts: Sequence[Slice], bad: BadRecords, seed: int, worker: int, workers: int) -> Groups:
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
    return Groups(np.concatenate(records), np.cumsum(counts) - counts, counts)


def each_alone(groups: Groups) -> Groups:
    """The same pairs, each a group of its own: every pair as often."""
    return Groups(
        groups.records, np.arange(len(groups.records)), np.ones(len(groups.records), np.int64)
    )


def _genuine(parts: Sequence[Slice], bad: BadRecords) -> dict[bytes, list[int]]:
    """Numbers of the genuine pairs' records, by name."""
    members, read, count = {}, ShardReader(parts, bad).read, slices.count(parts)
    with progress.progress(count, "index identities", "pair") as line:
        for index in range(count):
            line.update()
            data = read(index)
            try:
                pair = fields_on_host.parse(data) if data is not None else None
            except record.DamagedRecordError as error:
                bad.add_record(parts, index, str(error))
                continue
            if pair and pair.label == record.GENUINE:
                members.setdefault(pair.identities[0], []).append(index)
    return members


def endless(
    groups: Groups, pairs: int, seed: int, start: int, first_pass: int = 0
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
