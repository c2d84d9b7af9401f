"""Facial hair: stubble, moustache, goatee, full beard. Lengths are in face units, judged by eye."""

import numpy as np

from fv.faces import head as heads
from fv.faces import shapes
from fv.faces.canvas import Canvas
from fv.faces.identity import Identity
from fv.faces.mouth import Lips
from fv.faces.palette import RGB, scale
from fv.faces.view import View

OPACITY = dict(stubble=0.38, moustache=0.93, goatee=0.93, full=0.93)
ON_CHIN = ("stubble", "goatee", "full")
SHADE = 0.8  # of the hair's colour
BEHIND_FROM, BEHIND_TO = 0.15, 0.30  # where a full beard begins outside the outline
SIDE_SHARE = 0.3  # of its length that it adds at the sides
SLOPE_DOWN = 0.3
GOATEE_HALF = 0.17
MOUSTACHE_WIDTH, MOUSTACHE_FALL = 1.12, 0.6  # of the mouth's width; loss of thickness at the ends
MOUTH_RISE, CLIMB, CLIMB_FROM = (
    0.02,
    0.6,
    0.45,
)  # of its upper edge: at the mouth, and towards the ears
MOUSTACHE_SOFTNESS, LIP_SOFTNESS, EDGE_SOFTNESS = 0.025, 0.03, 0.04
GRAIN, GRAIN_X, GRAIN_LEAN, GRAIN_Y = 0.08, 70.0, 30.0, 55.0  # contrast, and radians per unit


def paint_behind(canvas: Canvas, view: View, who: Identity, jaw_open: float) -> None:
    """What a full beard adds outside the head's outline; painted before the head."""
    beard = who.beard
    if not beard.worn or beard.kind != "full":
        return
    field = heads.outline(
        view, who.head, jaw_open, beside=SIDE_SHARE * beard.length, below=beard.length
    )
    mask = shapes.field_coverage(field - 1.0) * shapes.smoothstep(BEHIND_FROM, BEHIND_TO, view.y)
    canvas.paint(OPACITY["full"] * mask, _colour(who), (-view.x, np.full_like(view.x, SLOPE_DOWN)))


def paint_beard(canvas: Canvas, view: View, who: Identity, lips: Lips) -> None:
    """What grows on the face, around the lips."""
    beard = who.beard
    if not beard.worn:
        return
    mask = _moustache(who, lips)
    if beard.kind in ON_CHIN:
        mask = np.maximum(mask, _chin(view, who, lips))
    grain = np.sin(GRAIN_X * view.face_x + GRAIN_LEAN * view.face_y) * np.sin(GRAIN_Y * view.face_y)
    canvas.paint(OPACITY[beard.kind] * (1.0 - GRAIN + GRAIN * grain) * mask, _colour(who))


def _colour(who: Identity) -> RGB:
    return scale(who.colours.hair, SHADE)


def _moustache(who: Identity, lips: Lips) -> np.ndarray:
    along = np.abs(lips.x) / (MOUSTACHE_WIDTH * who.mouth.width)
    top = lips.top + who.beard.moustache * (1.0 - MOUSTACHE_FALL * along * along)
    area = np.maximum(np.maximum(-top, lips.top), (along - 1.0) * who.mouth.width)
    return shapes.coverage(area, MOUSTACHE_SOFTNESS)


def _chin(view: View, who: Identity, lips: Lips) -> np.ndarray:
    """The chin alone, or everything below a line that climbs to the ears; the lips stay free."""
    mouth = np.maximum(np.maximum(-lips.top, lips.bottom), np.abs(lips.x) - lips.half)
    if who.beard.kind == "goatee":
        area = np.maximum(np.abs(view.face_x) - GOATEE_HALF, who.mouth_height - view.face_y)
    else:
        across = view.around / who.head.width
        climb = who.beard.line * across + CLIMB * np.clip(across - CLIMB_FROM, 0.0, 1.0)
        area = who.mouth_height - MOUTH_RISE - climb - view.face_y
    return shapes.coverage(area, EDGE_SOFTNESS) * (1.0 - shapes.coverage(mouth, LIP_SOFTNESS))
