"""Neck, clothes and ears: what is around the face. Lengths are in face units, judged by eye."""

import math

import numpy as np

from fv.faces import shapes
from fv.faces.canvas import Canvas
from fv.faces.identity import Identity
from fv.faces.palette import RGB, mix, scale
from fv.faces.view import View

NECK_TOP, NECK_SWING = 0.35, -0.04
NECK_FLARE, FLARE_FROM, FLARE_TO = (
    0.10,
    0.75,
    1.10,
)  # how much wider it is where it meets the shoulders, and where
NECK_SHADE = 0.92
CHIN_SHADOW, CHIN_SHADOW_REACH = 0.62, 0.22
SHOULDER_WIDTH, SHOULDER_FALL = 0.55, 0.10
COLLAR_RISE, COLLAR_WIDTH = 0.10, 0.10  # beside the neck
COLLAR_DIP, DIP_WIDTH = 0.10, 0.18  # in front of it
CLOTH_ROUNDNESS, CLOTH_LEAN = 0.5, -0.4  # its slopes

EAR_ASPECT, EAR_LEAN = 0.55, 0.25
EAR_OVERLAP = 0.03  # with the head
EAR_SWING, EAR_NOD = 0.10, 0.2  # how far it follows a turn and a nod
EAR_REDNESS, EAR_RED = 0.10, (0.80, 0.35, 0.30)
EAR_SLOPE, EAR_CURVE = 0.5, 0.8
HOLLOW_WIDTH, HOLLOW_HEIGHT, HOLLOW_SOFTNESS, HOLLOW_SHADE = (
    0.28,
    0.62,
    0.05,
    0.68,
)  # the first two of the ear's size
RING_RADIUS, RING_DROP = 0.032, 1.05
GOLD: RGB = (0.95, 0.78, 0.35)


def paint_body(canvas: Canvas, view: View, who: Identity, clothes: RGB, collar: float) -> None:
    """Neck and shoulders; `collar` is the height (y) of the neckline."""
    half = who.head.neck * who.head.width
    x = view.x - NECK_SWING * view.turn
    flare = NECK_FLARE * shapes.smoothstep(FLARE_FROM, FLARE_TO, view.y)
    neck = shapes.coverage(np.maximum(np.abs(x) - half - flare, NECK_TOP - view.y), view.pixel)
    canvas.paint(neck, scale(who.colours.skin, NECK_SHADE), (-x / half, np.zeros_like(x)))
    canvas.multiply(
        neck * shapes.bump(x, view.y - who.head.chin, 1.3 * half, CHIN_SHADOW_REACH), CHIN_SHADOW
    )
    slopes = (-CLOTH_ROUNDNESS * x, np.full_like(x, CLOTH_LEAN))
    canvas.paint(shapes.coverage(collar + _neckline(x, half) - view.y, view.pixel), clothes, slopes)


def _neckline(x: np.ndarray, half: float) -> np.ndarray:
    """How far the upper edge of the clothes lies under the collar's height: up beside the neck, down towards the arms."""
    beside = COLLAR_RISE * shapes.hill(np.abs(x) - half - COLLAR_RISE / 2, COLLAR_WIDTH)
    return (
        COLLAR_DIP * shapes.hill(x, DIP_WIDTH)
        - beside
        + SHOULDER_FALL * np.maximum(np.abs(x) - SHOULDER_WIDTH, 0.0)
    )


def paint_ear(canvas: Canvas, view: View, who: Identity, side: int) -> None:
    """The ear on one side: -1 the image's left, 1 its right."""
    ears, size = who.ears, who.ears.size
    reach = who.head.width * math.sqrt(1.0 - view.turn**2) + ears.protrusion - EAR_OVERLAP
    y = view.y - who.eyes.height - ears.height - size / 2 - EAR_NOD * view.nod
    x = side * (view.x + EAR_SWING * view.turn) - reach + EAR_LEAN * y
    slopes = (np.full_like(x, side * EAR_SLOPE), EAR_CURVE * y / size)
    ear = shapes.coverage(shapes.ellipse(x, y, EAR_ASPECT * size, size), view.pixel)
    canvas.paint(ear, mix(who.colours.skin, EAR_RED, EAR_REDNESS), slopes)
    hollow = shapes.ellipse(x, y, HOLLOW_WIDTH * size, HOLLOW_HEIGHT * size)
    canvas.multiply(shapes.coverage(hollow, HOLLOW_SOFTNESS), HOLLOW_SHADE)
    if ears.ring:
        ring = shapes.ellipse(x, y - RING_DROP * size, RING_RADIUS, RING_RADIUS)
        canvas.paint(shapes.coverage(ring, view.pixel), GOLD)
