"""What the skin carries: blush, freckles, moles, a scar, lines of age. Lengths are in face units, judged by eye."""

import math

import numpy as np

from fv.faces import shapes
from fv.faces.canvas import Canvas
from fv.faces.identity import Identity
from fv.faces.palette import RGB, mix, scale
from fv.faces.view import View

ROSE: RGB = (0.85, 0.30, 0.28)
RUST: RGB = (0.50, 0.24, 0.12)
MOLE: RGB = (0.20, 0.10, 0.07)
REACH_X, REACH_Y, REACH_MIDDLE = (
    0.72,
    0.55,
    0.10,
)  # where marks may be: of head's width and chin's depth, about this y
BLUSH, BLUSH_PLACE, BLUSH_RISE, BLUSH_WIDTH, BLUSH_HEIGHT, BLUSH_TINT = (
    0.30,
    0.6,
    0.05,
    0.16,
    0.12,
    0.6,
)
FRECKLES_RISE, FRECKLES_WIDTH, FRECKLES_HEIGHT, FRECKLES_TINT = 0.12, 0.38, 0.16, 0.65
FRECKLE_PITCH, FRECKLE_FROM, FRECKLE_TO = (
    60.0,
    0.25,
    0.70,
)  # radians per unit; where the texture becomes a dot
MOLE_RADIUS, MOLE_OPACITY = 0.024, 0.9
SCAR_LENGTH, SCAR_HALF, SCAR_SHADE, SCAR_TINT, SCAR_OPACITY = 0.14, 0.012, 0.75, 0.4, 0.8
LINE_SHADE = 0.55  # of the skin's colour
FOLD_HALF, FOLD_OPACITY, FOLD_START, FOLD_RISE, FOLD_DROP = 0.008, 0.65, 1.05, 0.03, 0.02
FOLD_AT_MOUTH, FOLD_AT_NOSE = 1.2, 1.3  # its end passes both by these factors
FURROW_RISES = (0.12, 0.20)  # over the brows
FURROW_HALF, FURROW_WIDTH, FURROW_BEND, FURROW_OPACITY = 0.004, 0.26, 0.15, 0.55


def paint_marks(canvas: Canvas, view: View, who: Identity) -> None:
    """Everything that lies under the features."""
    marks, skin = who.marks, who.colours.skin
    cheek_x = np.abs(view.face_x) - BLUSH_PLACE * who.head.width
    cheeks = shapes.bump(
        cheek_x, view.face_y - who.nose_base + BLUSH_RISE, BLUSH_WIDTH, BLUSH_HEIGHT
    )
    canvas.paint(BLUSH * marks.blush * cheeks, mix(skin, ROSE, BLUSH_TINT))
    if marks.freckles:
        _paint_freckles(canvas, view, who)
    _paint_moles(canvas, view, who)
    if marks.scar:
        _paint_scar(canvas, view, who)
    if marks.age:
        _paint_age(canvas, view, who)


def _place(who: Identity, x: float, y: float) -> tuple[float, float]:
    return REACH_X * x * who.head.width, REACH_MIDDLE + REACH_Y * y * who.head.chin


def _paint_freckles(canvas: Canvas, view: View, who: Identity) -> None:
    y = view.face_y - who.nose_base + FRECKLES_RISE
    area = shapes.bump(view.face_x, y, FRECKLES_WIDTH, FRECKLES_HEIGHT)
    dots = shapes.smoothstep(FRECKLE_FROM, FRECKLE_TO, _texture(view, who))
    canvas.paint(who.marks.freckles * area * dots, mix(who.colours.skin, RUST, FRECKLES_TINT))


def _texture(view: View, who: Identity) -> np.ndarray:
    return shapes.ripples(view.face_x, view.face_y, FRECKLE_PITCH, who.marks.moles[:2])


def _paint_moles(canvas: Canvas, view: View, who: Identity) -> None:
    for mole in range(who.marks.mole_count):
        x, y = _place(who, *who.marks.moles[2 * mole : 2 * mole + 2])
        distance = np.hypot(view.face_x - x, view.face_y - y) - MOLE_RADIUS
        canvas.paint(MOLE_OPACITY * shapes.coverage(distance, view.pixel), MOLE)


def _paint_scar(canvas: Canvas, view: View, who: Identity) -> None:
    x, y = _place(who, *who.marks.scar_place[:2])
    angle = math.pi * who.marks.scar_place[2]
    end = x + SCAR_LENGTH * math.cos(angle), y + SCAR_LENGTH * math.sin(angle)
    line = shapes.segment(view.face_x, view.face_y, (x, y), end) - SCAR_HALF
    colour = mix(scale(who.colours.skin, SCAR_SHADE), ROSE, SCAR_TINT)
    canvas.paint(SCAR_OPACITY * shapes.coverage(line, 1.5 * view.pixel), colour)


def _paint_age(canvas: Canvas, view: View, who: Identity) -> None:
    """Folds from the nose to the mouth, furrows across the forehead."""
    age, shade, x = who.marks.age, scale(who.colours.skin, LINE_SHADE), np.abs(view.face_x)
    start = (FOLD_START * who.nose.width, who.nose_base - FOLD_RISE)
    end = (
        max(FOLD_AT_MOUTH * who.mouth.width, FOLD_AT_NOSE * who.nose.width),
        who.mouth_height + FOLD_DROP,
    )
    fold = shapes.segment(x, view.face_y, start, end) - FOLD_HALF
    canvas.paint(FOLD_OPACITY * age * shapes.coverage(fold, 2.0 * view.pixel), shade)
    y = view.face_y - who.eyes.height + who.brows.gap - FURROW_BEND * x * x
    for rise in FURROW_RISES:
        furrow = np.maximum(np.abs(y + rise) - FURROW_HALF, x - FURROW_WIDTH)
        canvas.paint(FURROW_OPACITY * age * shapes.coverage(furrow, 2.0 * view.pixel), shade)
