"""A handful of images as every contestant is given them."""

import pytest

from benchmarks.side_by_side import preparing, workload
from tests import samples

IMAGES, STORED_SIDE = 16, 48


@pytest.fixture(scope="session")
def work(tmp_path_factory) -> workload.Workload:
    """Images of `STORED_SIDE` and batches of 4 pairs of smaller ones, on one core: more may end epochs out of order."""
    folder = tmp_path_factory.mktemp("work")
    faces = samples.write_images(
        folder / "faces", identities=4, images=IMAGES // 4, side=STORED_SIDE
    )
    work = workload.Workload(str(folder / "work"), side=32, batch_size=4, cores=1, shuffle_buffer=4)
    preparing.write_images(str(faces), work, IMAGES)
    preparing.convert_pairs(work)
    workload.save(work)
    return work
