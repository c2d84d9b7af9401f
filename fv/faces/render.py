"""One image of one person: the order in which everything is painted."""

import numpy as np

from fv.faces import (
    backdrop,
    beard,
    body,
    brows,
    camera,
    extras,
    eyes,
    hair,
    head,
    lighting,
    marks,
    mouth,
    nose,
    shapes,
)
from fv.faces.appearance import Appearance, draw_appearance
from fv.faces.canvas import Canvas
from fv.faces.identity import Identity, draw_identity
from fv.faces.view import View, look


def render(who: Identity, how: Appearance, size: int) -> np.ndarray:
    """Draws a person under some circumstances.

    Args:
      who: the person.
      how: the image's circumstances.
      size: width and height in pixels.

    Returns:
      RGB image (size, size, 3) uint8.
    """
    view = look(how.pose, who.head, size)
    canvas = Canvas(backdrop.paint_backdrop(view, how.backdrop))
    _paint_behind(canvas, view, who, how)
    _paint_face(canvas, view, who, how)
    _paint_over(canvas, view, who, how)
    return camera.expose(lighting.shade(canvas, how.light, who.marks.shine), how.camera)


def render_jpeg(seed: int, identity: int, image: int, size: int) -> bytes:
    """JPEG of image number `image` of person number `identity` in the world that `seed` fixes."""
    how = draw_appearance(seed, identity, image)
    return camera.encode(render(draw_identity(seed, identity), how, size), how.camera.quality)


def _paint_behind(canvas: Canvas, view: View, who: Identity, how: Appearance) -> None:
    hair.paint_back(canvas, view, who)
    body.paint_body(canvas, view, who, how.backdrop.clothes, how.backdrop.collar)
    body.paint_ear(canvas, view, who, _far_side(how))
    beard.paint_behind(canvas, view, who, how.expression.open)


def _paint_face(canvas: Canvas, view: View, who: Identity, how: Appearance) -> None:
    lips = mouth.shape(view, who, how.expression)
    field = head.outline(view, who.head, how.expression.open)
    surface = (
        head.depth(field) + head.relief(view, who.head) + eyes.relief(view, who.eyes, who.brows)
    )
    surface += nose.relief(view, who) + mouth.relief(lips, who)
    mask = shapes.field_coverage(field - 1.0)
    head.paint_skin(canvas, view, who, mask, surface)
    canvas.stencil = mask
    marks.paint_marks(canvas, view, who)
    beard.paint_beard(canvas, view, who, lips)
    mouth.paint_mouth(canvas, view, who, lips)
    nose.paint_nose(canvas, view, who, how.light)
    eyes.paint_eyes(canvas, view, who, how.expression)
    brows.paint_brows(canvas, view, who, how.expression)
    if how.extras.glasses:
        extras.paint_glasses(canvas, view, who, how.extras)
    canvas.stencil = 1.0


def _paint_over(canvas: Canvas, view: View, who: Identity, how: Appearance) -> None:
    body.paint_ear(canvas, view, who, -_far_side(how))
    hair.paint_front(canvas, view, who)
    if how.extras.hat:
        extras.paint_hat(canvas, view, who, how.extras)


def _far_side(how: Appearance) -> int:
    """The side of the head that turns away: its ear is behind the face."""
    return 1 if how.pose.yaw > 0 else -1
