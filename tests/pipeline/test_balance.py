import collections
import dataclasses

import numpy as np
import pytest

from fv import record
from fv.errors import UserError
from fv.pipeline import balance, input_pipeline
from fv.pipeline.options import InputOptions
from tests.pipeline.streams import source_of, stream

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


def test_a_batch_holds_as_many_images_of_each_of_its_people_and_none_twice_in_a_pass(source):
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
    groups = balance.Groups(np.arange(8), np.array([0, 1]), np.array([1, 7]))
    shown = list(balance.endless(groups, 2, seed=0, start=0).take(28).as_numpy_iterator())
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
