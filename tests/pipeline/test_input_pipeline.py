import collections
import dataclasses
import itertools
import threading
import weakref

import numpy as np
import pytest
import tensorflow as tf

from fv import record
from fv.errors import UserError
from fv.pipeline import input_pipeline
from fv.pipeline.damage import DamagedRecords
from fv.pipeline.input_pipeline import PairSource
from fv.pipeline.options import CACHES, InputOptions
from tests import samples
from tests.conftest import slow_case
from tests.pipeline.streams import pairs_of, source_of, stream

FOURS = InputOptions(images_per_identity=4)
ALONE = InputOptions(genuine_only=True)
PEOPLE = 6


@pytest.fixture(scope="module")
def source(shards):
    return source_of(shards)


def first_batches(source, count: int, **arguments) -> list[dict]:
    arguments = dict(batch_size=4, seed=3, shuffle_buffer=1, options=FOURS) | arguments
    return list(
        input_pipeline.training_batches(source, **arguments).take(count).as_numpy_iterator()
    )


def balanced(source, pairs: int, **arguments) -> list[bytes]:
    return stream(source, pairs, **(dict(batch_size=4, options=FOURS) | arguments))


def test_a_batch_is_balanced_and_each_identity_comes_once_in_a_pass(source):
    batches = first_batches(source, 3 * 4)
    for batch in batches:
        assert (batch["label"] == record.GENUINE).all()
        assert list(collections.Counter(batch["identities"].ravel().tolist()).values()) == [4, 4]
    for one_pass in range(4):
        shown = np.concatenate(
            [batch["identities"][::2, 0] for batch in batches[3 * one_pass :][:3]]
        )
        assert sorted(shown) == list(range(PEOPLE))


def test_every_pair_of_an_identity_comes_before_any_comes_again(source):
    pairs = balanced(source, 4 * PEOPLE)
    genuine = {
        pair for pair in stream(source, 64) if pair[-12:-8] == np.int32(record.GENUINE).tobytes()
    }
    for identity in {pair[-4:] for pair in pairs}:
        shown = [pair for pair in pairs if pair[-4:] == identity]
        own = sum(pair[-4:] == identity for pair in genuine)
        assert len(set(shown)) == min(len(shown), own)


def test_people_with_few_pairs_come_as_often_as_those_with_many():
    groups = [np.array([0]), np.arange(1, 8)]
    shown = list(
        input_pipeline.repeat_balanced(groups, 2, seed=0, start=0).take(28).as_numpy_iterator()
    )
    assert shown.count(0) == 14 and collections.Counter(shown)[1] == 2


def test_genuine_pairs_alone_come_each_once_in_a_pass(source):
    pairs = {
        pair for pair in stream(source, 64) if pair[-12:-8] == np.int32(record.GENUINE).tobytes()
    }
    shown = balanced(source, 2 * len(pairs), options=ALONE)
    first, second = shown[: len(pairs)], shown[len(pairs) :]
    assert set(first) == set(second) == pairs and first != second


@pytest.mark.parametrize("way", [FOURS, dataclasses.replace(FOURS, cache="decoded"), ALONE])
@pytest.mark.parametrize("start", [4, 24])
def test_a_stream_that_starts_at_a_record_goes_on_as_the_whole_one_does(source, start, way):
    whole = balanced(source, 40, options=dataclasses.replace(way, cache="none"))
    assert balanced(source, 40 - start, options=way, start_record=start) == whole[start:]


def test_another_seed_has_another_order_and_workers_have_different_people(source):
    assert balanced(source, 12) != balanced(source, 12, seed=4)
    batches = [first_batches(source, 4, worker=worker, workers=2) for worker in range(2)]
    shown = [
        {name for batch in each for name in batch["identities"].ravel().tolist()}
        for each in batches
    ]
    assert [len(names) for names in shown] == [3, 3] and not shown[0] & shown[1]


def test_what_does_not_go_together_is_refused(source):
    for options, named in (
        (InputOptions(images_per_identity=3), "even"),
        (InputOptions(images_per_identity=4, decoder="tensorflow"), "--decoder=host"),
        (InputOptions(images_per_identity=4, data_service="grpc://a:1"), "--images_per_identity"),
        (InputOptions(genuine_only=True, images_per_identity=4), "leave --genuine_only out"),
        (
            InputOptions(genuine_only=True, decoder="tensorflow"),
            "--genuine_only needs --decoder=host",
        ),
    ):
        with pytest.raises(UserError, match=named):
            options.check()
    with pytest.raises(UserError, match="a batch of 3 pairs .* is not made of groups of 2"):
        first_batches(source, 1, batch_size=3)
    with pytest.raises(UserError, match="6 people have genuine pairs, 7 input workers"):
        first_batches(source, 1, worker=6, workers=7)


RECORDS = 64
WAYS = [
    InputOptions(decoder="host"),
    InputOptions(decoder="tensorflow"),
    InputOptions(cache="encoded"),
]
WAYS += [InputOptions(cache="decoded"), InputOptions(max_bad_records=1)]


@pytest.fixture(scope="module")
def input_pipeline_source(shards) -> PairSource:
    return source_of(shards)


@pytest.mark.parametrize("options", WAYS)
def test_a_batch_has_the_documented_shapes_and_types(input_pipeline_source, options):
    batches = input_pipeline.training_batches(
        input_pipeline_source, batch_size=4, seed=0, shuffle_buffer=8, options=options
    )
    assert batches.element_spec == {
        "images": tf.TensorSpec((4, 2, 16, 16, 3), tf.uint8),
        "label": tf.TensorSpec((4,), tf.int32),
        "identities": tf.TensorSpec((4, 2), tf.int32),
        "valid": tf.TensorSpec((4,), tf.bool),
    }
    assert next(iter(batches))["valid"].numpy().all()


def test_identities_index_the_training_identities_and_agree_with_the_label(input_pipeline_source):
    batch = next(
        iter(
            input_pipeline.training_batches(
                input_pipeline_source, batch_size=RECORDS, seed=0, shuffle_buffer=8
            )
        )
    )
    identities, label = batch["identities"].numpy(), batch["label"].numpy()
    assert set(identities.ravel()) == set(range(6))
    np.testing.assert_array_equal(identities[:, 0] == identities[:, 1], label == record.GENUINE)


def test_people_outside_the_training_split_have_no_index(shards):
    batch = next(iter(input_pipeline.evaluation_batches(source_of(shards, "val"), batch_size=4)))
    assert np.all(batch["identities"].numpy() == -1)


def test_an_epoch_holds_every_record_once_and_the_next_has_another_order(input_pipeline_source):
    pairs = stream(input_pipeline_source, 2 * RECORDS)
    first, second = pairs[:RECORDS], pairs[RECORDS:]
    assert len(set(first)) == RECORDS
    assert set(first) == set(second) and first != second


def test_the_order_depends_on_the_seed_and_not_on_tensorflows_global_seed(
    input_pipeline_source,
):
    tf.random.set_seed(1)
    first = stream(input_pipeline_source, RECORDS)
    tf.random.set_seed(2)
    assert stream(input_pipeline_source, RECORDS) == first
    assert stream(input_pipeline_source, RECORDS, seed=4) != first


def test_batches_decoded_in_parallel_keep_their_order(input_pipeline_source):
    one_by_one = stream(input_pipeline_source, 5 * RECORDS)
    assert stream(input_pipeline_source, 5 * RECORDS, batch_size=3) == one_by_one


@pytest.mark.parametrize("options", WAYS[1:])
def test_every_decoder_and_cache_gives_the_same_stream(input_pipeline_source, options):
    expected, found = (
        np.array(list(map(list, stream(input_pipeline_source, 2 * RECORDS, options=way))))
        for way in (WAYS[0], options)
    )
    tolerance = samples.RESIZE_TOLERANCE if options.decoder == "tensorflow" else 0
    assert np.abs(expected - found).max() <= tolerance


@pytest.mark.parametrize("cache", CACHES)
def test_shards_behind_a_scheme_give_the_same_stream(input_pipeline_source, cache):
    remote = dataclasses.replace(
        input_pipeline_source, folder=f"file://{input_pipeline_source.folder}"
    )
    assert stream(remote, 80, options=InputOptions(cache=cache), batch_size=4) == stream(
        input_pipeline_source, 80
    )


def test_evaluation_behind_a_scheme_pads_too(input_pipeline_source):
    remote = dataclasses.replace(
        input_pipeline_source, folder=f"file://{input_pipeline_source.folder}"
    )
    arguments = dict(
        batch_size=10, damaged=DamagedRecords(remote.folder, 1)
    )  # the host decodes where records may be skipped
    batches = list(input_pipeline.evaluation_batches(remote, **arguments))
    assert [len(batch["images"]) for batch in batches] == [10] * 7
    assert sorted(pair for batch in batches for pair in pairs_of(batch) if pair) == sorted(
        stream(input_pipeline_source, RECORDS)
    )


@pytest.mark.parametrize(
    ("decoder", "worker", "workers"),
    [
        ("host", 0, 1),
        ("tensorflow", 1, 3),
        *(slow_case("host", worker, 3) for worker in range(3)),
        *(slow_case("tensorflow", *place) for place in ((0, 1), (0, 3), (2, 3))),
    ],
)
def test_a_restart_goes_on_with_the_very_next_record(
    input_pipeline_source, decoder, worker, workers
):
    arguments = dict(
        options=InputOptions(decoder=decoder), batch_size=3, worker=worker, workers=workers
    )
    whole = stream(input_pipeline_source, 120, **arguments)
    for start in (
        3,
        21,
        63,
        102,
    ):  # behind 1, 7, 21 and 34 batches; an epoch ends at 64, or at 21 or 22
        assert (
            stream(input_pipeline_source, 9, start_record=start, **arguments)
            == whole[start : start + 9]
        )


@pytest.mark.parametrize("cache", CACHES)
def test_a_restart_from_a_cache_is_as_exact(input_pipeline_source, cache):
    arguments = dict(batch_size=4, options=InputOptions(cache=cache))
    assert (
        stream(input_pipeline_source, 20, start_record=72, **arguments)
        == stream(input_pipeline_source, 92, **arguments)[72:]
    )


@pytest.mark.parametrize("workers", [3, slow_case(2), slow_case(8)])
def test_workers_share_an_epoch_without_overlap_or_loss(input_pipeline_source, workers):
    counts = [
        sum(each.take for each in input_pipeline_source.worker_slices(worker, workers))
        for worker in range(workers)
    ]
    parts = [
        stream(input_pipeline_source, count, worker=worker, workers=workers)
        for worker, count in enumerate(counts)
    ]
    assert sorted(itertools.chain(*parts)) == sorted(stream(input_pipeline_source, RECORDS))


@pytest.mark.parametrize(
    ("batch_size", "workers", "replicas"),
    [(7, 1, 1), (3, 2, 2), slow_case(1, 1, 1), slow_case(64, 1, 1), (4, 1, 2), (5, 3, 1)],
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


def test_options_that_exclude_each_other_are_refused(input_pipeline_source):
    for options in (
        InputOptions(decoder="tensorflow", max_bad_records=1),
        InputOptions(decoder="tensorflow", cache="decoded"),
        InputOptions(decoder="tensorflow", cache="encoded"),
        InputOptions(data_service="grpc://h:1", cache="encoded"),
        InputOptions(data_service="grpc://h:1", decoder="host"),
        InputOptions(data_service="h:1"),
    ):
        with pytest.raises(UserError, match="--"):
            stream(input_pipeline_source, 1, options=options)


def test_the_crop_decides_which_decoder_is_the_faster():
    assert InputOptions().decodes_on_host(1.0) and not InputOptions().decodes_on_host(0.64)
    assert InputOptions(cache="decoded").decodes_on_host(0.64) and not InputOptions(
        "tensorflow"
    ).decodes_on_host(1.0)


def test_an_iterator_is_deleted_in_another_thread():
    deleted_in = []

    class Batches:
        def __iter__(self):
            iterator = map(int, "123")
            holder = Holder(iterator)
            weakref.finalize(holder, lambda: deleted_in.append(threading.current_thread()))
            return holder

    class Holder:
        def __init__(self, iterator):
            self._iterator = iterator

        def __iter__(self):
            return self

        def __next__(self):
            return next(self._iterator)

    threads = set(threading.enumerate())
    assert list(input_pipeline.iterate(Batches())) == [1, 2, 3]
    for thread in set(threading.enumerate()) - threads:
        thread.join()
    assert deleted_in and deleted_in[0] is not threading.main_thread()
