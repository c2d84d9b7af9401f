"""The mouth: lips, the gap between them, teeth. Lengths are in face units, judged by eye."""

import dataclasses

import numpy as np

from fv.faces import shapes
from fv.faces.appearance import Expression
from fv.faces.canvas import Canvas
from fv.faces.identity import Identity
from fv.faces.palette import RGB, scale
from fv.faces.view import View

INSIDE: RGB = (0.22, 0.06, 0.07)
TEETH: RGB = (0.94, 0.93, 0.89)
UPPER_SHADE, SEAM_SHADE = 0.86, 0.35  # of the lips' colour
FORWARD = 0.06  # how far the lips stand off the face
SMILE_WIDTH, SMILE_CURVE, SMILE_DROP, SMILE_THINNING = (
    0.22,
    0.055,
    0.01,
    0.2,
)  # what a full smile does
SMILE_TEETH, SMILE_GAP = 0.5, 0.035  # the smile beyond which teeth show, and the gap of a full one
GAPE, GAPE_NARROWING = 0.10, 0.12  # half-height and loss of width of a mouth wide open
UPPER_SHARE, LOWER_SHARE = 0.4, 1.4  # of the gap, by which either lip gives way
NOTCH_WIDTH = 0.22
UPPER_RELIEF, LOWER_RELIEF, RELIEF_SPREAD, LEAST_SPREAD = 0.35, 0.45, 0.6, 0.01
GROOVE_WIDTH, GROOVE_HEIGHT, GROOVE_DEPTH = 0.03, 0.04, 0.012  # between nose and lip
TOOTH_HEIGHT, TEETH_FROM, TEETH_TO = 0.045, 0.9, 0.6
SEAM_HALF, SEAM_OPACITY = 0.005, 0.75
CORNER_WIDTH, CORNER_HEIGHT, CORNER_SHADE = 0.025, 0.02, 0.7
UNDER_WIDTH, UNDER_DROP, UNDER_HEIGHT, UNDER_SHADE = 0.5, 0.03, 0.025, 0.85


@dataclasses.dataclass(frozen=True)
class Lips:
    """A mouth under an expression; the four edges are signed heights (H, W) below which a pixel lies."""

    along: np.ndarray  # [-1, 1] from corner to corner
    x: np.ndarray  # from the middle
    top: np.ndarray
    upper: np.ndarray  # the upper lip's lower edge
    lower: np.ndarray  # the lower lip's upper edge
    bottom: np.ndarray
    half: float  # half-width


def shape(view: View, who: Identity, expression: Expression) -> Lips:
    """The lips as they are in this image."""
    mouth, smile = who.mouth, expression.smile
    half = mouth.width * (1.0 + SMILE_WIDTH * smile - GAPE_NARROWING * expression.open)
    x, y = view.raised(FORWARD)
    along = np.clip(x / half, -1.0, 1.0)
    arc = 1.0 - along * along
    line = (
        y
        - who.mouth_height
        - SMILE_DROP * smile
        - (mouth.corners - SMILE_CURVE * smile) * along * along
    )
    gap = arc * _gap(expression)
    upper, lower = line + UPPER_SHARE * gap, line - LOWER_SHARE * gap
    full = 1.0 - SMILE_THINNING * max(smile, 0.0)
    notch = 1.0 - mouth.bow * shapes.hill(along, NOTCH_WIDTH)
    top = upper + full * mouth.upper * np.sqrt(arc) * notch
    return Lips(along, x, top, upper, lower, lower - full * mouth.lower * arc, half)


def _gap(expression: Expression) -> float:
    teeth = max(expression.smile - SMILE_TEETH, 0.0) / (1.0 - SMILE_TEETH)
    return GAPE * expression.open + SMILE_GAP * teeth


def relief(lips: Lips, who: Identity) -> np.ndarray:
    """Swell of the lips, and the groove above them."""
    mouth = who.mouth
    upper = shapes.hill((lips.top + lips.upper) / 2, RELIEF_SPREAD * mouth.upper + LEAST_SPREAD)
    lower = shapes.hill((lips.bottom + lips.lower) / 2, RELIEF_SPREAD * mouth.lower + LEAST_SPREAD)
    groove = shapes.bump(lips.x, lips.top + GROOVE_HEIGHT, GROOVE_WIDTH, GROOVE_HEIGHT)
    swell = UPPER_RELIEF * mouth.upper * upper + LOWER_RELIEF * mouth.lower * lower
    return shapes.smoothstep(1.0, 0.7, np.abs(lips.along)) * swell - GROOVE_DEPTH * groove


def paint_mouth(canvas: Canvas, view: View, who: Identity, lips: Lips) -> None:
    """Lips, then what they open on, then the line between them."""
    colour, soft = who.colours.lips, 1.4 * view.pixel
    canvas.paint(
        shapes.coverage(_between(lips, lips.top, lips.upper), soft), scale(colour, UPPER_SHADE)
    )
    canvas.paint(shapes.coverage(_between(lips, lips.lower, lips.bottom), soft), colour)
    opening = shapes.coverage(_between(lips, lips.upper, lips.lower), view.pixel)
    canvas.paint(opening, INSIDE)
    teeth = shapes.coverage(lips.upper - TOOTH_HEIGHT, soft) * shapes.smoothstep(
        TEETH_FROM, TEETH_TO, np.abs(lips.along)
    )
    canvas.paint(opening * teeth, TEETH)
    seam = np.minimum(np.abs(lips.upper), np.abs(lips.lower)) - SEAM_HALF
    seam = shapes.coverage(np.maximum(seam, np.abs(lips.x) - lips.half), 1.5 * view.pixel)
    canvas.paint(SEAM_OPACITY * seam, scale(colour, SEAM_SHADE))
    canvas.multiply(
        shapes.bump(np.abs(lips.x) - lips.half, lips.upper, CORNER_WIDTH, CORNER_HEIGHT),
        CORNER_SHADE,
    )
    canvas.multiply(
        shapes.bump(lips.x, lips.bottom - UNDER_DROP, UNDER_WIDTH * lips.half, UNDER_HEIGHT),
        UNDER_SHADE,
    )


def _between(lips: Lips, above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Signed distance to the region between two edges."""
    return np.maximum(np.maximum(-above, below), np.abs(lips.x) - lips.half)
