import pytest

from fv.manifest import Manifest
from fv.pipeline import load_size


@pytest.mark.parametrize(
    ("asked", "stored", "crop_fraction", "expected"),
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
def test_images_leave_the_host_as_they_are_stored_where_that_is_not_much_larger(
    asked, stored, crop_fraction, expected
):
    assert (
        load_size.choose(asked, Manifest(0, "", {}, image_side=stored), 100, crop_fraction)
        == expected
    )
