"""What is behind the person: a gradient, soft blobs, stripes."""

import numpy as np

from fv.faces import appearance, shapes
from fv.faces.view import View

BLOB_FIELDS = 5  # numbers that describe one blob
BLOB_RADIUS, BLOB_RADIUS_RANGE, BLOB_REACH, BLOB_CONTRAST = 0.45, 0.35, 1.2, 0.35
SATURATION = 0.55  # of the drawn colours


def paint_backdrop(view: View, backdrop: appearance.Backdrop) -> np.ndarray:
    """Returns (3, H, W) float32 in [0, 1]."""
    across, along = shapes.rotate(view.frame_x, view.frame_y, backdrop.angle)
    first, second = (_muted(colour) for colour in (backdrop.first, backdrop.second))
    picture = first + (second - first) * shapes.smoothstep(-1.0, 1.0, along)
    for start in range(0, len(backdrop.blobs), BLOB_FIELDS):
        _add_blob(picture, view, backdrop.blobs[start : start + BLOB_FIELDS])
    if backdrop.stripes:
        picture *= 1.0 + backdrop.stripes * np.sin(backdrop.stripe_pitch * across)
    return np.clip(picture, 0.0, 1.0)


def _muted(colour: tuple[float, ...]) -> np.ndarray:
    """The colour (3, 1, 1) drawn towards its grey, as walls and gardens are."""
    grey = sum(colour) / len(colour)
    return np.asarray([grey + SATURATION * (part - grey) for part in colour], np.float32)[
        :, None, None
    ]


def _add_blob(picture: np.ndarray, view: View, blob: tuple[float, ...]) -> None:
    x, y, size, brightness, hue = blob
    radius = BLOB_RADIUS + BLOB_RADIUS_RANGE * size
    away = np.hypot(view.frame_x - BLOB_REACH * x, view.frame_y - BLOB_REACH * y)
    soft = shapes.smoothstep(radius, radius / 2, away)
    for plane, share in zip(picture, (1.0 + hue, 1.0, 1.0 - hue), strict=True):
        plane += BLOB_CONTRAST * brightness * share * soft
