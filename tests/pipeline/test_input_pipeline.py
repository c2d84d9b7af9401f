import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from fv import record
from fv.errors import UserError
from fv.pipeline import input_pipeline
from fv.pipeline.damage import BadRecords
from fv.pipeline.input_pipeline import PairSource
from fv.pipeline.options import CACHES, InputOptions
from tests import samples
from tests.pipeline.streams import pairs_of, source_of, stream

RECORDS = 64
WAYS = [
    InputOptions(decoder="host"),
    InputOptions(decoder="tensorflow"),
    InputOptions(cache="encoded"),
]
WAYS += [InputOptions(cache="decoded"), InputOptions(max_bad_records=1)]


@pytest.fixture(scope="module")
def source(shards) -> PairSource:
    return source_of(shards)


@pytest.mark.parametrize("options", WAYS)
def test_a_batch_has_the_documented_shapes_and_types(source, options):
    batches = input_pipeline.training_batches(
        source, batch_size=4, seed=0, shuffle_buffer=8, options=options
    )
    assert batches.element_spec == {
        "images": tf.TensorSpec((4, 2, 16, 16, 3), tf.uint8),
        "label": tf.TensorSpec((4,), tf.int32),
        "identities": tf.TensorSpec((4, 2), tf.int32),
        "valid": tf.TensorSpec((4,), tf.bool),
    }
    assert next(iter(batches))["valid"].numpy().all()


def test_identities_index_the_training_identities_and_agree_with_the_label(source):
    batch = next(
        iter(input_pipeline.training_batches(source, batch_size=RECORDS, seed=0, shuffle_buffer=8))
    )
    identities, label = batch["identities"].numpy(), batch["label"].numpy()
    assert set(identities.ravel()) == set(range(6))
    np.testing.assert_array_equal(identities[:, 0] == identities[:, 1], label == record.GENUINE)


def test_people_outside_the_training_split_have_no_index(shards):
    batch = next(iter(input_pipeline.evaluation_batches(source_of(shards, "val"), batch_size=4)))
    assert np.all(batch["identities"].numpy() == -1)


def test_an_epoch_holds_every_record_once_and_the_next_has_another_order(source):
    pairs = stream(source, 2 * RECORDS)
    first, second = pairs[:RECORDS], pairs[RECORDS:]
    assert len(set(first)) == RECORDS
    assert set(first) == set(second) and first != second


def test_the_same_seed_repeats_the_order_whatever_the_global_seed_and_another_changes_it(source):
    tf.random.set_seed(1)
    first = stream(source, RECORDS)
    tf.random.set_seed(2)
    assert stream(source, RECORDS) == first
    assert stream(source, RECORDS, seed=4) != first


def test_batches_decoded_in_parallel_keep_their_order(source):
    one_by_one = stream(source, 5 * RECORDS)
    assert stream(source, 5 * RECORDS, batch_size=3) == one_by_one


@pytest.mark.parametrize("options", WAYS[1:])
def test_every_decoder_and_cache_gives_the_same_stream(source, options):
    expected, found = (
        np.array(list(map(list, stream(source, 2 * RECORDS, options=way))))
        for way in (WAYS[0], options)
    )
    tolerance = samples.RESIZE_TOLERANCE if options.decoder == "tensorflow" else 0
    assert np.abs(expected - found).max() <= tolerance


@pytest.mark.parametrize("cache", CACHES)
def test_shards_behind_a_scheme_give_the_same_stream(source, cache):
    remote = dataclasses.replace(source, folder=f"file://{source.folder}")
    assert stream(remote, 80, options=InputOptions(cache=cache), batch_size=4) == stream(source, 80)


def test_evaluation_behind_a_scheme_pads_too(source):
    remote = dataclasses.replace(source, folder=f"file://{source.folder}")
    arguments = dict(
        batch_size=10, bad=BadRecords(remote.folder, 1)
    )  # the host decodes where records may be skipped
    batches = list(input_pipeline.evaluation_batches(remote, **arguments))
    assert [len(batch["images"]) for batch in batches] == [10] * 7
    assert sorted(pair for batch in batches for pair in pairs_of(batch) if pair) == sorted(
        stream(source, RECORDS)
    )


@pytest.mark.parametrize("decoder", ["host", "tensorflow"])
@pytest.mark.parametrize(("worker", "workers"), [(0, 1), (0, 3), (1, 3), (2, 3)])
def test_a_restart_goes_on_with_the_very_next_record(source, decoder, worker, workers):
    arguments = dict(
        options=InputOptions(decoder=decoder), batch_size=3, worker=worker, workers=workers
    )
    whole = stream(source, 120, **arguments)
    for start in (
        3,
        21,
        63,
        102,
    ):  # behind 1, 7, 21 and 34 batches; an epoch ends at 64, or at 21 or 22
        assert stream(source, 9, start_record=start, **arguments) == whole[start : start + 9]


@pytest.mark.parametrize("cache", CACHES)
def test_a_restart_from_a_cache_is_as_exact(source, cache):
    arguments = dict(batch_size=4, options=InputOptions(cache=cache))
    assert stream(source, 20, start_record=72, **arguments) == stream(source, 92, **arguments)[72:]


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_workers_share_an_epoch_without_overlap_or_loss(source, workers):
    counts = [
        sum(part.take for part in source.worker_slices(worker, workers))
        for worker in range(workers)
    ]
    parts = [
        stream(source, count, worker=worker, workers=workers) for worker, count in enumerate(counts)
    ]
    assert sorted(itertools.chain(*parts)) == sorted(stream(source, RECORDS))


@pytest.mark.parametrize(
    ("batch_size", "workers", "replicas"),
    [(1, 1, 1), (7, 1, 1), (64, 1, 1), (4, 1, 2), (5, 3, 1), (3, 2, 2)],
)
def test_evaluation_sees_every_pair_once_in_full_batches(shards, batch_size, workers, replicas):
    source = source_of(shards, "test")
    arguments = dict(batch_size=batch_size, workers=workers, replicas=replicas)
    per_worker = [
        list(input_pipeline.evaluation_batches(source, worker=w, **arguments))
        for w in range(workers)
    ]
    assert len({len(batches) for batches in per_worker}) == 1 and len(per_worker[0]) % replicas == 0
    assert all(len(batch["images"]) == batch_size for batch in itertools.chain(*per_worker))
    seen = [pair for batch in itertools.chain(*per_worker) for pair in pairs_of(batch) if pair]
    assert len(seen) == 30 and sorted(seen) == sorted(
        stream(source, 30, options=InputOptions(decoder="tensorflow"))
    )


def test_options_that_exclude_each_other_are_refused(source):
    for options in (
        InputOptions(decoder="tensorflow", max_bad_records=1),
        InputOptions(decoder="tensorflow", cache="decoded"),
        InputOptions(data_service="grpc://h:1", cache="encoded"),
        InputOptions(data_service="grpc://h:1", decoder="host"),
        InputOptions(data_service="h:1"),
    ):
        with pytest.raises(UserError, match="--"):
            stream(source, 1, options=options)


def test_the_crop_decides_which_decoder_is_the_faster():
    assert InputOptions().decodes_on_host(1.0) and not InputOptions().decodes_on_host(0.64)
    assert InputOptions(cache="decoded").decodes_on_host(0.64) and not InputOptions(
        "tensorflow"
    ).decodes_on_host(1.0)
