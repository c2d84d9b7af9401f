"""A handful of images as every contestant is given them."""

import pytest

from benchmarks.side_by_side import preparing, workload
from tests import samples

IMAGES, STORED_SIDE = 16, 48


def write(folder, side: int) -> workload.Workload:
    """Images of `STORED_SIDE` and a workload of 4 pairs at `side`, on one core: more may end epochs out of order."""
    faces = samples.write_images(folder / "faces", identities=4, images=IMAGES // 4, side=STORED_SIDE)
    work = workload.Workload(str(folder / "work"), side=side, batch_size=4, cores=1, shuffle_buffer=4)
    preparing.write_images(str(faces), work, IMAGES)
    preparing.convert_pairs(work)
    workload.save(work)
    return work


@pytest.fixture(scope="session")
def work(tmp_path_factory) -> workload.Workload:
    """Batches of smaller images than the stored ones."""
    return write(tmp_path_factory.mktemp("resized"), side=32)


@pytest.fixture(scope="session")
def work_as_stored(tmp_path_factory) -> workload.Workload:
    """Batches of the stored images as they are."""
    return write(tmp_path_factory.mktemp("stored"), side=STORED_SIDE)
