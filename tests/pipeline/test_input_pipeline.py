import itertools

import numpy as np
import pytest
import tensorflow as tf

from fv import manifest, record
from fv.pipeline import input_pipeline
from fv.pipeline.input_pipeline import PairSource

RECORDS = 64


@pytest.fixture
def source(shards) -> PairSource:
    return source_of(shards, "train")


def source_of(shards, split: str) -> PairSource:
    held = manifest.load(str(shards))
    return PairSource(str(shards), held.split(split), 16, 1.0, held.split("train").identities)


def stream(source: PairSource, pairs: int, **arguments) -> list[bytes]:
    """The first pairs of a training stream, each as the bytes of its pixels."""
    arguments = dict(batch_size=1, seed=3, shuffle_buffer=10) | arguments
    batches = input_pipeline.training_batches(source, **arguments)
    return [batch["images"].numpy().tobytes() for batch in batches.take(pairs)]


def test_a_batch_has_the_documented_shapes_and_types(source):
    batch = next(iter(input_pipeline.training_batches(source, batch_size=4, seed=0, shuffle_buffer=8)))
    assert batch["images"].dtype == tf.uint8 and batch["images"].shape == (4, 2, 16, 16, 3)
    assert batch["label"].dtype == tf.int32 and batch["label"].shape == (4,)
    assert batch["identities"].dtype == tf.int32 and batch["identities"].shape == (4, 2)


def test_identities_index_the_training_identities_and_agree_with_the_label(source):
    batch = next(iter(input_pipeline.training_batches(source, batch_size=RECORDS, seed=0, shuffle_buffer=8)))
    identities, label = batch["identities"].numpy(), batch["label"].numpy()
    assert set(identities.ravel()) == set(range(6))
    np.testing.assert_array_equal(identities[:, 0] == identities[:, 1], label == record.GENUINE)


def test_people_outside_the_training_split_have_no_index(shards):
    batch = next(iter(input_pipeline.evaluation_batches(source_of(shards, "val"), batch_size=4)))
    assert np.all(batch["identities"].numpy() == -1)


def test_an_epoch_holds_every_record_once_and_the_next_has_another_order(source):
    first, second = split_epochs(stream(source, 2 * RECORDS))
    assert len(set(first)) == RECORDS
    assert set(first) == set(second) and first != second


def split_epochs(pairs: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    return pairs[:RECORDS], pairs[RECORDS:]


def test_the_same_seed_repeats_the_order_whatever_the_global_seed_and_another_changes_it(source):
    tf.random.set_seed(1)
    first = stream(source, RECORDS)
    tf.random.set_seed(2)
    assert stream(source, RECORDS) == first
    assert stream(source, RECORDS, seed=4) != first


@pytest.mark.parametrize("consumed", [1, 17, 63, 64, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_restart_goes_on_with_the_very_next_record(source, consumed, workers):
    whole = stream(source, consumed + 20, worker=0, workers=workers)
    assert stream(source, 20, worker=0, workers=workers, start_record=consumed) == whole[consumed:]


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_workers_share_an_epoch_without_overlap_or_loss(source, workers):
    counts = [sum(part.take for part in source.worker_slices(worker, workers)) for worker in range(workers)]
    parts = [stream(source, count, worker=worker, workers=workers) for worker, count in enumerate(counts)]
    assert sorted(itertools.chain(*parts)) == sorted(stream(source, RECORDS))


@pytest.mark.parametrize(
    ("batch_size", "workers", "replicas"), [(1, 1, 1), (7, 1, 1), (64, 1, 1), (4, 1, 2), (5, 3, 1), (3, 2, 2)]
)
def test_evaluation_sees_every_pair_once_in_full_batches(shards, batch_size, workers, replicas):
    source = source_of(shards, "test")
    arguments = dict(batch_size=batch_size, workers=workers, replicas=replicas)
    per_worker = [list(input_pipeline.evaluation_batches(source, worker=w, **arguments)) for w in range(workers)]
    assert len({len(batches) for batches in per_worker}) == 1 and len(per_worker[0]) % replicas == 0
    seen = []
    for batch in itertools.chain(*per_worker):
        assert len(batch["images"]) == batch_size
        seen += [
            image.tobytes() for image, valid in zip(batch["images"].numpy(), batch["valid"].numpy(), strict=True) if valid
        ]
    assert len(seen) == 30 and sorted(seen) == sorted(stream(source, 30))
