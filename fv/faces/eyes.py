"""Eyes with their lids, both at once, mirrored. Lengths are in face units, judged by eye."""

import dataclasses

import numpy as np

from fv.faces import shapes
from fv.faces.appearance import Expression
from fv.faces.canvas import Canvas
from fv.faces.identity import Brows, Eyes, Identity
from fv.faces.palette import RGB, scale
from fv.faces.view import View

WHITE: RGB = (0.93, 0.92, 0.90)
DARK: RGB = (0.08, 0.05, 0.05)
GLINT: RGB = (1.6, 1.6, 1.6)

SOCKET_WIDTH, SOCKET_HEIGHT, SOCKET_IN = 0.15, 0.09, 0.03
LEAST_SOCKET, SOCKET_RANGE = 0.02, 0.045  # its depth
RIDGE_WIDTH, RIDGE_HEIGHT, LEAST_RIDGE, RIDGE_RANGE = 0.20, 0.06, 0.01, 0.03
BALL_WIDTH, BALL_HEIGHT, BALL_RELIEF = 0.09, 0.06, 0.025

LOWER_LID = 0.75  # its opening against the upper lid's
LID_SKEW = 0.18  # how much wider the inner half opens
SMILE_SQUINT, LEAST_OPEN = 0.12, 0.2
LID_SHADOW, LID_SHADOW_REACH = 0.7, 0.04
FOLD_RISE, FOLD_HALF, FOLD_OPACITY = 0.035, 0.005, 0.7
BAG_DROP, BAG_SAG, BAG_HALF, BAG_WIDTH, BAG_OPACITY = 0.035, 0.02, 0.006, 0.8, 0.55
LOWER_LASH_HALF, LOWER_LASH_OPACITY, LASH_OPACITY, LASH_OVERHANG = 0.004, 0.45, 0.92, 1.08
SHADE_DARK, SHADE = 0.35, 0.55  # of the skin's colour, for lines

GAZE_REACH = 0.035  # how far the iris moves
IRIS_RISE = 0.01
RING, INNER, PUPIL = 0.45, 0.82, 0.45  # brightness of the iris's ring; radii of what it surrounds
INNER_BRIGHTNESS = 1.15
GLINT_X, GLINT_Y, GLINT_RADIUS = -0.3, -0.35, 0.22  # of the iris's radius


@dataclasses.dataclass(frozen=True)
class Lids:
    """Where the lids are in this image; arrays (H, W)."""

    x: np.ndarray  # from the middle of the eye, outwards
    y: np.ndarray  # from its corners' line, down
    along: np.ndarray  # [-1, 1] from the inner corner to the outer one
    upper: np.ndarray  # signed distance, positive above the upper lid's edge
    lower: np.ndarray  # positive below the lower lid's edge


def relief(view: View, eyes: Eyes, brows: Brows) -> np.ndarray:
    """Height of sockets, eyeballs and brow ridge over the plain head."""
    x = np.abs(view.face_x) - eyes.spacing
    y = view.face_y - eyes.height
    socket = shapes.bump(x + SOCKET_IN, y, SOCKET_WIDTH, SOCKET_HEIGHT)
    ridge = shapes.bump(x, y + brows.gap, RIDGE_WIDTH, RIDGE_HEIGHT)
    ball = shapes.bump(x, y, BALL_WIDTH, BALL_HEIGHT)
    hollow = LEAST_SOCKET + SOCKET_RANGE * eyes.depth
    return BALL_RELIEF * ball - hollow * socket + (LEAST_RIDGE + RIDGE_RANGE * eyes.depth) * ridge


def paint_eyes(canvas: Canvas, view: View, who: Identity, expression: Expression) -> None:
    """Lids, then eyeballs, then lashes."""
    lids = _lids(view, who.eyes, expression)
    _paint_lines(canvas, view, who, lids)
    opening = np.maximum(np.maximum(lids.upper, lids.lower), np.abs(lids.x) - who.eyes.width)
    inside = shapes.coverage(opening, view.pixel)
    canvas.paint(inside, WHITE)
    canvas.multiply(inside * shapes.smoothstep(LID_SHADOW_REACH, 0.0, -lids.upper), LID_SHADOW)
    _paint_iris(canvas, view, who, expression, inside)
    _paint_lashes(canvas, view, who, lids)


def _lids(view: View, eyes: Eyes, expression: Expression) -> Lids:
    x = np.abs(view.face_x) - eyes.spacing
    y = view.face_y - eyes.height + eyes.tilt * x
    along = np.clip(x / eyes.width, -1.0, 1.0)
    awake = max(expression.lids - SMILE_SQUINT * max(expression.smile, 0.0), LEAST_OPEN)
    opening = eyes.opening * awake * (1.0 - along * along) * (1.0 - LID_SKEW * along)
    return Lids(x, y, along, -y - opening, y - LOWER_LID * opening)


def _paint_lines(canvas: Canvas, view: View, who: Identity, lids: Lids) -> None:
    """The fold over the eye and the bag under it."""
    eyes, shade = who.eyes, scale(who.colours.skin, SHADE)
    fold = np.maximum(np.abs(lids.upper - FOLD_RISE) - FOLD_HALF, np.abs(lids.x) - eyes.width)
    canvas.paint(FOLD_OPACITY * eyes.fold * shapes.coverage(fold, 1.6 * view.pixel), shade)
    sag = lids.y - eyes.opening - BAG_DROP - BAG_SAG * (1 - lids.along * lids.along)
    bag = np.maximum(np.abs(sag) - BAG_HALF, np.abs(lids.x) - BAG_WIDTH * eyes.width)
    canvas.paint(BAG_OPACITY * eyes.bags * shapes.coverage(bag, 2.5 * view.pixel), shade)


def _paint_iris(
    canvas: Canvas, view: View, who: Identity, expression: Expression, inside: np.ndarray
) -> None:
    radius, colour = who.eyes.iris, who.colours.iris
    x = view.face_x - np.sign(view.face_x) * who.eyes.spacing - GAZE_REACH * expression.gaze_x
    y = view.face_y - who.eyes.height - GAZE_REACH * expression.gaze_y + IRIS_RISE
    away = np.hypot(x, y)
    for share, shade in (
        (1.0, scale(colour, RING)),
        (INNER, scale(colour, INNER_BRIGHTNESS)),
        (PUPIL, DARK),
    ):
        canvas.paint(inside * shapes.coverage(away - share * radius, view.pixel), shade)
    glint = np.hypot(x - GLINT_X * radius, y - GLINT_Y * radius)
    canvas.paint(inside * shapes.coverage(glint - GLINT_RADIUS * radius, view.pixel), GLINT)


def _paint_lashes(canvas: Canvas, view: View, who: Identity, lids: Lids) -> None:
    thickness = who.eyes.lashes
    line = np.abs(lids.upper + 0.3 * thickness) - thickness * (0.5 + 0.25 * lids.along)
    upper = np.maximum(line, np.abs(lids.x) - LASH_OVERHANG * who.eyes.width)
    canvas.paint(LASH_OPACITY * shapes.coverage(upper, view.pixel), DARK)
    lower = np.maximum(np.abs(lids.lower) - LOWER_LASH_HALF, np.abs(lids.x) - who.eyes.width)
    canvas.paint(
        LOWER_LASH_OPACITY * shapes.coverage(lower, 1.5 * view.pixel),
        scale(who.colours.skin, SHADE_DARK),
    )
