"""The bare head: its outline, its depth, and the relief of its bones. Lengths are in face units, judged by eye."""

import math

import numpy as np

from fv.faces import shapes
from fv.faces.canvas import Canvas, Slopes, slopes_of
from fv.faces.identity import Head, Identity
from fv.faces.view import DEPTH, View

CHIN_SWING, SKULL_SWING = (
    0.26,
    0.06,
)  # how far the outline's ends follow a turn, in units of its sine
NOD_SHIFT = 0.05
JAW_DROP = 0.07  # of the chin's depth, mouth wide open
LOWEST = 1.5  # chin depths after which the outline stops growing
EDGE = 0.03  # keeps depth from falling upright at the outline
STEEPEST = 2.5  # slope that shading knows

BONE_PLACE, BONE_HEIGHT = 0.62, 0.20  # of the head's width; below its centre
BONE_WIDTH, BONE_DEPTH = 0.17, 0.12
LEAST_BONE, MOST_BONE = 0.015, 0.065
CHIN_FORWARD, CHIN_PLACE, CHIN_WIDTH, CHIN_HEIGHT, CHIN_RELIEF = 0.05, 0.88, 0.16, 0.10, 0.04
CLEFT_PLACE, CLEFT_WIDTH, CLEFT_HEIGHT, CLEFT_DEPTH = 0.90, 0.025, 0.06, 0.03


def outline(
    view: View,
    head: Head,
    jaw_open: float = 0.0,
    *,
    above: float = 0.0,
    beside: float = 0.0,
    below: float = 0.0,
) -> np.ndarray:
    """Field (H, W) that is 1 on the head's outline and less inside.

    Args:
      view: where the pixels look.
      head: the head's shape.
      jaw_open: 0 mouth closed to 1 wide open.
      above, beside, below: how far to grow the outline at the crown, the sides and the chin.
    """
    y = view.y - NOD_SHIFT * view.nod
    x = view.x - view.turn * (CHIN_SWING * np.maximum(y, 0.0) + SKULL_SWING * np.minimum(y, 0.0))
    down = np.clip(y / (head.chin * (1.0 + JAW_DROP * jaw_open) + below), 0.0, LOWEST)
    up = np.maximum(-y, 0.0) / (head.crown + above)
    fullness = head.cheeks * np.sin(math.pi * np.minimum(down, 1.0))
    width = (head.width + beside) * (1.0 - head.taper * down * down + fullness)
    return (x / width) ** 2 + up * up + down**head.squareness


def depth(field: np.ndarray) -> np.ndarray:
    """Depth towards the viewer of a head that swells from its outline field."""
    return DEPTH * np.sqrt(np.maximum(1.0 - field, 0.0) + EDGE)


def relief(view: View, head: Head) -> np.ndarray:
    """Height of cheekbones and chin over the plain head."""
    bones = shapes.bump(
        np.abs(view.face_x) - BONE_PLACE * head.width,
        view.face_y - BONE_HEIGHT,
        BONE_WIDTH,
        BONE_DEPTH,
    )
    x, y = view.raised(CHIN_FORWARD)
    chin = shapes.bump(x, y - CHIN_PLACE * head.chin, CHIN_WIDTH, CHIN_HEIGHT)
    cleft = shapes.bump(x, y - CLEFT_PLACE * head.chin, CLEFT_WIDTH, CLEFT_HEIGHT)
    height = LEAST_BONE + (MOST_BONE - LEAST_BONE) * head.cheekbones
    return height * bones + CHIN_RELIEF * chin - CLEFT_DEPTH * head.cleft * cleft


def paint_skin(
    canvas: Canvas, view: View, who: Identity, mask: np.ndarray, surface: np.ndarray
) -> None:
    """The bare head: `mask` is its opacity, `surface` its depth with every relief."""
    canvas.paint(mask, who.colours.skin, clipped(slopes_of(surface, view.pixel)))


def clipped(slopes: Slopes) -> Slopes:
    """Slopes with their steepest parts bent back."""
    return tuple(STEEPEST * np.tanh(slope / STEEPEST) for slope in slopes)
