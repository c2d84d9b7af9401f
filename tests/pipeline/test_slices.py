import pytest

from fv.errors import UserError
from fv.manifest import Manifest, Shard, Split
from fv.pipeline import slices
from fv.pipeline.slices import PairSource


def source_of(*records: int) -> PairSource:
    shards = [Shard(f"s{index}", count, 0, "") for index, count in enumerate(records)]
    return PairSource("d", Split(0, sum(records), 0, (), tuple(shards)), 32, 1.0)


@pytest.mark.parametrize("records", [(10,), (3, 7), (1, 1, 1, 7), (40, 2, 5, 9, 100, 3)])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_every_record_is_read_once_and_counts_differ_by_at_most_one(records, workers):
    source = source_of(*records)
    per_worker = [source.worker_slices(worker, workers) for worker in range(workers)]
    read = sorted(
        (each.path, each.skip + i) for own in per_worker for each in own for i in range(each.take)
    )
    assert read == sorted((f"d/s{n}", i) for n, count in enumerate(records) for i in range(count))
    counts = [slices.count_records(own) for own in per_worker]
    assert max(counts) - min(counts) <= 1


def test_fewer_records_than_workers_is_refused():
    with pytest.raises(UserError, match="2 pairs for 3 input workers"):
        source_of(2).worker_slices(0, 3)


@pytest.mark.parametrize(
    ("requested", "stored", "crop_fraction", "expected"),
    [
        (None, None, 1.0, 100),  # images of many sizes
        (None, 150, 1.0, 150),
        (None, 151, 1.0, 100),
        (None, 200, 0.6, 120),  # the centre square alone leaves the host
        (None, 64, 1.0, 64),
        (120, 64, 1.0, 120),
        (120, None, 1.0, 120),
    ],
)
def test_images_leave_the_host_as_stored_unless_much_larger(
    requested, stored, crop_fraction, expected
):
    assert (
        slices.choose_load_size(
            requested, Manifest(0, "", {}, image_side=stored), 100, crop_fraction
        )
        == expected
    )
