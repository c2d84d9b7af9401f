"""Brows, both at once, mirrored. Lengths are in face units, judged by eye."""

import numpy as np

from fv.faces import shapes
from fv.faces.appearance import Expression
from fv.faces.canvas import Canvas
from fv.faces.identity import Identity
from fv.faces.palette import mix
from fv.faces.view import View

OUTWARD = 0.02  # of their middle against the eyes'
RAISE = 0.045
FROWN_IN, FROWN_DOWN, FROWN_TILT = 0.03, 0.03, 0.25
ARCH_PLACE = 0.25  # of the half-length, outwards
HAIR_PITCH, HAIR_LEAN, HAIR_CONTRAST = 90.0, 0.8, 0.06
SOFTNESS = 1.4  # pixels


def paint_brows(canvas: Canvas, view: View, who: Identity, expression: Expression) -> None:
    """Paints them over the skin."""
    brows = who.brows
    x = np.abs(view.face_x) - who.eyes.spacing - OUTWARD + FROWN_IN * expression.frown
    along = np.clip(x / brows.length, -1.0, 1.0)
    line = _line(view, who, expression, x, along)
    thickness = brows.thickness * (1.0 - brows.taper * (1.0 + along) / 2)
    distance = np.maximum(np.abs(line) - thickness, np.abs(x) - brows.length)
    hairs = 1.0 - HAIR_CONTRAST + HAIR_CONTRAST * np.sin(HAIR_PITCH * (x + HAIR_LEAN * line))
    colour = mix(who.colours.brows, who.colours.skin, (1.0 - brows.density) / 2)
    canvas.paint(brows.density * hairs * shapes.coverage(distance, SOFTNESS * view.pixel), colour)


def _line(
    view: View, who: Identity, expression: Expression, x: np.ndarray, along: np.ndarray
) -> np.ndarray:
    """Height of every pixel below the brow's middle line."""
    brows = who.brows
    lift = brows.gap + RAISE * expression.brow_raise - FROWN_DOWN * expression.frown
    tilt = brows.tilt - FROWN_TILT * expression.frown
    return (
        view.face_y
        - who.eyes.height
        + lift
        - tilt * x
        + brows.arch * (1.0 - (along - ARCH_PLACE) ** 2)
    )
