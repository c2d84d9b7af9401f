"""Glasses and hats: what somebody wears in one image and not in the next. Lengths are in face units, judged by eye."""

import numpy as np

from fv.faces import head as heads
from fv.faces import shapes
from fv.faces.appearance import Extras
from fv.faces.canvas import Canvas
from fv.faces.identity import Identity
from fv.faces.palette import RGB, scale
from fv.faces.view import View

STAND_OFF, DROP = 0.10, 0.01  # of the glasses, from the face and below the eyes
RIM, BAR = 0.014, 0.011  # half-thickness of rims, and of bridge and temples
ROUND_RADIUS = 0.155
LENS_WIDTH, LENS_HEIGHT, LENS_CORNER = 0.13, 0.075, 0.035
BRIDGE_RISE, TEMPLE_RISE, BRIDGE_END, TEMPLE_START = (
    0.02,
    0.03,
    0.12,
    0.15,
)  # the last two from a lens's middle
CLEAR, DARK_OPACITY = 0.06, 0.9
DARK: RGB = (0.07, 0.07, 0.09)

HAT_ABOVE, HAT_BESIDE = 0.14, 0.05  # at least
OVER_TOP, OVER_SIDE = 0.6, 0.5  # of the hair's volume, which a hat presses down
BRIM_FALL, BAND, BAND_SHADE = 0.25, 0.11, 0.8
KNIT_PITCH, KNIT_WHORL, KNIT_CONTRAST = 190.0, 2.0, 0.10
HAT_ROUND, HAT_DOME = 1.1, 0.8  # its slopes
SHADOW, SHADOW_REACH = 0.72, 0.09


def paint_glasses(canvas: Canvas, view: View, who: Identity, extras: Extras) -> None:
    """Two lenses with their rims, a bridge and the temples."""
    x, y = view.raised(STAND_OFF)
    y = y - who.eyes.height - DROP
    side = np.abs(x) - who.eyes.spacing
    lens = _round_lens(side, y) if extras.round_glasses else _square_lens(side, y)
    canvas.paint(
        (DARK_OPACITY if extras.dark_glasses else CLEAR) * shapes.coverage(lens, view.pixel), DARK
    )
    bridge = np.maximum(np.abs(y + BRIDGE_RISE) - BAR, side + BRIDGE_END)
    temples = np.maximum(np.abs(y + TEMPLE_RISE) - BAR, TEMPLE_START - side)
    frame = np.minimum(np.minimum(np.abs(lens) - RIM, bridge), temples)
    canvas.paint(shapes.coverage(frame, view.pixel), extras.frame)


def _round_lens(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - ROUND_RADIUS


def _square_lens(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    outside = np.hypot(
        np.maximum(np.abs(x) - LENS_WIDTH, 0.0), np.maximum(np.abs(y) - LENS_HEIGHT, 0.0)
    )
    return outside - LENS_CORNER


def paint_hat(canvas: Canvas, view: View, who: Identity, extras: Extras) -> None:
    """A knitted hat with a turned-up band, and its shadow on the forehead."""
    above, beside = (
        max(HAT_ABOVE, OVER_TOP * who.hair.top),
        max(HAT_BESIDE, OVER_SIDE * who.hair.side),
    )
    crown = heads.outline(view, who.head, above=above, beside=beside) - 1.0
    edge = view.face_y + extras.hat_line * who.head.crown - BRIM_FALL * view.around**2
    mask = shapes.field_coverage(crown) * shapes.coverage(edge, view.pixel)
    knit = 1.0 + KNIT_CONTRAST * np.sin(KNIT_PITCH * np.arctan2(view.x, view.y + KNIT_WHORL))
    slopes = (-HAT_ROUND * view.x / who.head.width, HAT_DOME * np.clip(-view.y, 0.0, 1.0))
    canvas.multiply(shapes.smoothstep(SHADOW_REACH, 0.0, edge) * canvas.lit, SHADOW)
    canvas.paint(mask, np.asarray(extras.hat_colour, np.float32)[:, None, None] * knit, slopes)
    canvas.paint(
        mask * shapes.coverage(-edge - BAND, view.pixel), scale(extras.hat_colour, BAND_SHADE)
    )
