"""The side of the images that leave the host; the device brings them to the network's."""

from fv import manifest as manifests
from fv import preprocess_on_host

_LARGEST_RATIO = (
    1.5  # to image_size: from there on the bytes to the device cost more than the host's resize
)


def choose(
    asked: int | None, manifest: manifests.Manifest, image_size: int, crop_fraction: float
) -> int:
    """The side, in pixels, that training images are loaded at.

    Args:
      asked: what the user wants, None for the default: the centre square as it is stored, where all stored images are
        squares of one size and it is at most 1.5 × `image_size`; else `image_size`.
      manifest: of the shards.
      image_size: side of the network's input.
      crop_fraction: side of the centre square that is kept, over the stored side.
    """
    if asked or manifest.image_side is None:
        return asked or image_size
    _, _, window = preprocess_on_host.centre_window(
        manifest.image_side, manifest.image_side, crop_fraction
    )
    return window if window <= _LARGEST_RATIO * image_size else image_size
