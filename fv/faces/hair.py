"""Hair on the head: what hangs behind it, what grows on it, the bun. Lengths are in face units, judged by eye."""

import math

import numpy as np

from fv.faces import hairline, shapes
from fv.faces import head as heads
from fv.faces.canvas import Canvas, slopes_of
from fv.faces.hairstyles import Hair
from fv.faces.identity import Identity
from fv.faces.view import View

BACK_FROM = 0.3  # hair that ends below this hangs behind the head too
BACK_SWING, FRONT_SWING = -0.14, -0.12  # how far it follows a turn
BACK_FLARE = 0.15  # of curly hair, on its way down
BACK_END, BACK_END_POWER = 0.9, 8  # how its lower end is rounded
BACK_SHADE = 0.62
ROUNDNESS = 1.2  # slope at the outline of what hangs or is tied
CURL_REACH = 0.05  # how far curls stand out of the outline
CURL_FIELD = 0.11  # the same in the outline's field
CURL_RELIEF = 0.03
CURL_PITCH, TIGHT_PITCH = 14.0, 10.0  # radians per unit, of loose curls and what tight ones add
END_SOFTNESS = 0.06
ROOT_SHADOW, ROOT_REACH = 0.75, 0.09
BUN_RADIUS, BUN_WIDTH, BUN_SHADE, BUN_LIFT, BUN_NOD = 0.20, 1.1, 0.9, 0.06, 0.2
WAVE, WAVE_PITCH = 0.10, 9.0  # of strands that are not straight
STRAND_PITCHES = (38.0, 67.0)  # radians per radian around the crown
STRAND_CONTRAST, CURL_CONTRAST = 0.09, 0.18
WHORL = 0.3  # height over the crown of the point that strands radiate from


def paint_back(canvas: Canvas, view: View, who: Identity) -> None:
    """Hair behind the neck and the head; nothing for short hair."""
    hair = who.hair
    if hair.end < BACK_FROM:
        return
    x = view.x - BACK_SWING * view.turn
    flare = 1.0 + BACK_FLARE * hair.curl * shapes.smoothstep(0.0, 1.0, view.y)
    half = (who.head.width + hair.side) * flare + CURL_REACH * hair.curl * _curls(view, hair)
    end = BACK_END * np.clip(view.y / hair.end, 0.0, 2.0) ** BACK_END_POWER
    field = (x / half) ** 2 + _rise(view, who) + end - 1.0
    slopes = (-ROUNDNESS * x / half, np.zeros_like(x))
    canvas.paint(shapes.field_coverage(field), BACK_SHADE * _colour(view, who), slopes)


def paint_front(canvas: Canvas, view: View, who: Identity) -> None:
    """Hair on the head, outside the face, with its shadow on the skin."""
    hair = who.hair
    if hair.style == "bald":
        return
    if hair.bun:
        _paint_bun(canvas, view, who)
    bare, curls = hairline.bare(view, who), hair.curl * _curls(view, hair)
    canvas.multiply(
        shapes.smoothstep(ROOT_REACH, 0.0, bare) * shapes.coverage(-bare, view.pixel) * canvas.lit,
        ROOT_SHADOW,
    )
    field = _outline(view, who) + CURL_FIELD * curls
    mask = shapes.field_coverage(field) * shapes.coverage(
        view.face_y - hair.end, END_SOFTNESS + 2 * view.pixel
    )
    surface = heads.depth(np.maximum(field + 1.0, 0.0)) + CURL_RELIEF * curls
    mask *= hair.density * shapes.coverage(bare, 1.5 * view.pixel)
    canvas.paint(mask, _colour(view, who), heads.clipped(slopes_of(surface, view.pixel)))


def _outline(view: View, who: Identity) -> np.ndarray:
    """Field that is negative inside the outline of the hair, curls aside."""
    x = view.x - FRONT_SWING * view.turn
    return (x / (who.head.width + who.hair.side)) ** 2 + _rise(view, who) - 1.0


def _rise(view: View, who: Identity) -> np.ndarray:
    return (np.maximum(-view.y, 0.0) / (who.head.crown + who.hair.top)) ** 2


def _paint_bun(canvas: Canvas, view: View, who: Identity) -> None:
    x, y = view.x + BUN_LIFT * view.turn, view.y + who.head.crown + BUN_LIFT + BUN_NOD * view.nod
    mask = shapes.coverage(shapes.ellipse(x, y, BUN_RADIUS * BUN_WIDTH, BUN_RADIUS), view.pixel)
    slopes = (-ROUNDNESS * x / BUN_RADIUS, -ROUNDNESS * y / BUN_RADIUS)
    canvas.paint(mask, BUN_SHADE * _colour(view, who), slopes)


def _curls(view: View, hair: Hair) -> np.ndarray:
    return shapes.ripples(view.x, view.y, CURL_PITCH + TIGHT_PITCH * hair.curl, hair.strands[:2])


def _colour(view: View, who: Identity) -> np.ndarray:
    """The hair's colour with its strands, (3, H, W)."""
    hair = who.hair
    around = np.arctan2(view.x, view.y + who.head.crown + WHORL)
    flow = around + WAVE * hair.curl * np.sin(WAVE_PITCH * view.y + math.pi * hair.strands[2])
    strands = sum(
        np.sin(p * flow + math.pi * phase)
        for p, phase in zip(STRAND_PITCHES, hair.strands[3:5], strict=True)
    )
    tone = (
        1.0
        + (1.0 - hair.curl) * STRAND_CONTRAST * strands
        + CURL_CONTRAST * hair.curl * _curls(view, hair)
    )
    return np.asarray(who.colours.hair, np.float32)[:, None, None] * tone
