"""Paints a person from back to front. Lengths are in face units, and shapes are judged by eye."""

import math
from typing import NamedTuple

import numpy as np
import simplejpeg

from fv.faces.canvas import (
    DEPTH,
    Canvas,
    Slopes,
    View,
    backdrop,
    bump,
    coverage,
    ellipse,
    expose,
    field_coverage,
    light,
    look,
    ridge,
    ripples,
    smoothstep,
)
from fv.faces.parameters import RGB, Appearance, Person, draw_appearance, draw_person, mix, scale

WHITE: RGB = (0.93, 0.92, 0.90)  # of eyes and teeth
DARK: RGB = (0.08, 0.05, 0.05)  # pupils, lashes, the tint of glasses
GLINT: RGB = (1.6, 1.6, 1.6)
INSIDE: RGB = (0.22, 0.06, 0.07)  # of the mouth
ROSE: RGB = (0.85, 0.30, 0.28)
RUST: RGB = (0.50, 0.24, 0.12)  # of freckles
MOLE: RGB = (0.20, 0.10, 0.07)


def render(who: Person, how: Appearance, size: int) -> np.ndarray:
    """Draws an RGB image (size, size, 3) uint8 of a person."""
    view = look(how, who.head, size)
    canvas = Canvas(backdrop(view, how))
    far = 1 if how.yaw > 0 else -1  # the side that turns away: its ear is behind the face
    _paint_back_hair(canvas, view, who)
    _paint_body(canvas, view, who, how)
    _paint_ear(canvas, view, who, far)
    mouth = _mouth(view, who, how)
    _paint_head(canvas, view, who, how, mouth)
    _paint_skin(canvas, view, who)
    if who.hair.beard:
        _paint_beard(canvas, view, who, mouth)
    _paint_mouth(canvas, view, who, mouth)
    _paint_nostrils(canvas, view, who)
    _paint_eyes(canvas, view, who, how)
    _paint_brows(canvas, view, who, how)
    if how.glasses:
        _paint_glasses(canvas, view, who, how)
    canvas.stencil = 1.0
    _paint_ear(canvas, view, who, -far)
    _paint_hair(canvas, view, who)
    return expose(light(canvas, how, who.skin.shine), how)


def render_jpeg(seed: int, person: int, image: int, size: int) -> bytes:
    """JPEG of image number `image` of person number `person` in the world that `seed` fixes."""
    who, how = draw_person(seed, person), draw_appearance(seed, person, image)
    return simplejpeg.encode_jpeg(render(who, how, size), int(how.quality), "RGB", "420")


def _paint_body(canvas: Canvas, view: View, who: Person, how: Appearance) -> None:
    """Neck, the chin's shadow on it, and clothes."""
    half = who.head.neck * who.head.width
    x = view.x + 0.04 * view.turn
    flare = 0.10 * smoothstep(0.75, 1.10, view.y)
    neck = coverage(np.maximum(np.abs(x) - half - flare, 0.35 - view.y), view.pixel)
    canvas.paint(neck, scale(who.colours.skin, 0.92), (-x / half, np.zeros_like(x)))
    canvas.shade(neck * bump(x, view.y - who.head.chin, 1.3 * half, 0.22), 0.62)
    beside = 0.10 * ridge(np.abs(x) - half - 0.05, 0.10)
    falling = 0.10 * np.maximum(np.abs(x) - 0.55, 0.0)
    neckline = how.collar + 0.10 * ridge(x, 0.18) - beside + falling
    slopes = (-0.5 * x, np.full_like(x, -0.4))
    canvas.paint(coverage(neckline - view.y, view.pixel), how.clothes, slopes)


def _paint_ear(canvas: Canvas, view: View, who: Person, side: int) -> None:
    """The ear on one side: -1 the image's left, 1 its right."""
    head, size = who.head, who.head.ear_size
    reach = head.width * math.sqrt(1.0 - view.turn**2) + head.ear_reach - 0.03
    y = view.y - who.eyes.height - head.ear_height - size / 2 - 0.2 * view.nod
    x = side * (view.x + 0.10 * view.turn) - reach + 0.25 * y
    slopes = (np.full_like(x, 0.5 * side), 0.8 * y / size)
    skin = mix(who.colours.skin, ROSE, 0.10)
    canvas.paint(coverage(ellipse(x, y, 0.55 * size, size), view.pixel), skin, slopes)
    canvas.shade(coverage(ellipse(x, y, 0.28 * size, 0.62 * size), 0.05), 0.68)


def _outline(view: View, who: Person, how: Appearance) -> np.ndarray:
    """Field that is 1 on the head's outline and less inside."""
    head, y = who.head, view.y - 0.05 * view.nod
    x = view.x - view.turn * (0.26 * np.maximum(y, 0.0) + 0.06 * np.minimum(y, 0.0))
    up = np.minimum(y, 0.0) / head.crown
    down = np.clip(y / (head.chin * (1.0 + 0.07 * how.mouth_open)), 0.0, 1.5)
    fullness = head.cheeks * np.sin(math.pi * np.minimum(down, 1.0))
    width = head.width * (1.0 - head.taper * down * down + fullness)
    return (x / width) ** 2 + up * up + down**head.squareness


def _slopes(field: np.ndarray, relief: np.ndarray, pixel: float) -> Slopes:
    """Slopes of a head that swells from its outline field, with relief; the steepest bent back."""
    depth = DEPTH * np.sqrt(np.maximum(1.0 - field, 0.0) + 0.03) + relief
    down, right = (2.5 * np.tanh(slope / (2.5 * pixel)) for slope in np.gradient(depth))
    return right, down


class _Mouth(NamedTuple):
    """A mouth under an expression: its edges are heights, positive below the edge."""

    x: np.ndarray  # from the middle
    along: np.ndarray  # [-1, 1] from corner to corner
    half: float  # half-width
    top: np.ndarray
    upper: np.ndarray  # the upper lip's lower edge
    lower: np.ndarray  # the lower lip's upper edge
    bottom: np.ndarray

    def between(self, above: np.ndarray, below: np.ndarray) -> np.ndarray:
        """Signed distance to the region between two edges."""
        return np.maximum(np.maximum(-above, below), np.abs(self.x) - self.half)


def _mouth(view: View, who: Person, how: Appearance) -> _Mouth:
    lips, smile = who.mouth, how.smile
    x, y = view.raised(0.06)
    half = lips.width * (1.0 + 0.22 * smile - 0.12 * how.mouth_open)
    along = np.clip(x / half, -1.0, 1.0)
    arc = 1.0 - along * along
    line = y - who.mouth_height - 0.01 * smile - (lips.corners - 0.055 * smile) * along * along
    gap = arc * (0.10 * how.mouth_open + 0.07 * max(smile - 0.5, 0.0))
    upper, lower = line + 0.4 * gap, line - 1.4 * gap
    thickness = 1.0 - 0.2 * max(smile, 0.0)
    bow = 1.0 - lips.bow * ridge(along, 0.22)
    top = upper + thickness * lips.upper * np.sqrt(arc) * bow
    return _Mouth(x, along, half, top, upper, lower, lower - thickness * lips.lower * arc)


def _paint_head(canvas: Canvas, view: View, who: Person, how: Appearance, mouth: _Mouth) -> None:
    """The bare head with its relief; what is painted after it stays inside its outline."""
    head, eyes, lips = who.head, who.eyes, who.mouth
    field = _outline(view, who, how)
    side, y = np.abs(view.face_x), view.face_y
    relief = head.cheekbones * bump(side - 0.62 * head.width, y - 0.20, 0.17, 0.12)
    chin_x, chin_y = view.raised(0.05)
    relief += 0.04 * bump(chin_x, chin_y - 0.88 * head.chin, 0.16, 0.10)
    side, y = side - eyes.spacing, y - eyes.height
    relief -= (0.02 + 0.045 * eyes.depth) * bump(side + 0.03, y, 0.15, 0.09)  # sockets
    relief += (0.01 + 0.03 * eyes.depth) * bump(side, y + who.brows.gap, 0.20, 0.06)
    relief += 0.025 * bump(side, y, 0.09, 0.06)  # eyeballs
    swell = 0.35 * lips.upper * ridge((mouth.top + mouth.upper) / 2, 0.6 * lips.upper + 0.01)
    swell += 0.45 * lips.lower * ridge((mouth.bottom + mouth.lower) / 2, 0.6 * lips.lower + 0.01)
    relief += smoothstep(1.0, 0.7, np.abs(mouth.along)) * swell + _nose_relief(view, who)
    mask = field_coverage(field - 1.0)
    canvas.paint(mask, who.colours.skin, _slopes(field, relief, view.pixel))
    canvas.stencil = mask


def _nose_relief(view: View, who: Person) -> np.ndarray:
    """Height of bridge, tip and wings over the face."""
    nose, base, top = who.nose, who.nose_base, who.eyes.height - 0.06

    def profile(y: np.ndarray) -> np.ndarray:
        along = np.clip((y - top) / (base - top), 0.0, 1.0)
        climb = 0.15 * smoothstep(0.0, 0.2, along) + 0.85 * along**1.5
        return nose.height * climb * smoothstep(base + 0.045, base - 0.045, y)

    x, y = view.raised(profile(view.face_y))
    along = np.clip((y - who.eyes.height) / (base - who.eyes.height), 0.0, 1.0)
    bridge = profile(y) * ridge(x, nose.bridge + (nose.tip - nose.bridge) * along * along)
    tip = nose.height * bump(x, y - base + 0.8 * nose.tip, nose.tip, nose.tip)
    wings = bump(np.abs(x) - 0.72 * nose.width, y - base + 0.03, 0.45 * nose.width, 0.045)
    return 0.8 * bridge + 0.35 * tip + 0.035 * wings


def _paint_nostrils(canvas: Canvas, view: View, who: Person) -> None:
    nose = who.nose
    x, y = view.raised(0.6 * nose.height)
    x, y = np.abs(x) - 0.48 * nose.width, y - who.nose_base + nose.upturn
    height = 0.016 + 0.25 * max(nose.upturn, 0.0)
    holes = ellipse(x, y + 0.15 * x, 0.26 * nose.width, height)
    canvas.paint(0.85 * coverage(holes, 1.5 * view.pixel), scale(who.colours.skin, 0.42))


def _paint_skin(canvas: Canvas, view: View, who: Person) -> None:
    """Freckles and moles."""
    skin, x, y = who.skin, view.face_x, view.face_y
    if skin.freckles:
        dots = smoothstep(0.25, 0.70, ripples(x, y, 60.0, skin.moles[:2]))
        area = bump(x, y - who.nose_base + 0.12, 0.38, 0.16)
        canvas.paint(skin.freckles * area * dots, mix(who.colours.skin, RUST, 0.65))
    for place_x, place_y in np.reshape(skin.moles, (3, 2)).tolist()[: int(skin.mole_count)]:
        mole_x, mole_y = 0.72 * place_x * who.head.width, 0.10 + 0.55 * place_y * who.head.chin
        canvas.paint(0.9 * coverage(np.hypot(x - mole_x, y - mole_y) - 0.024, view.pixel), MOLE)


def _paint_beard(canvas: Canvas, view: View, who: Person, mouth: _Mouth) -> None:
    hair = who.hair
    along = np.abs(mouth.x) / (1.12 * who.mouth.width)
    top = mouth.top + hair.moustache * (1.0 - 0.6 * along * along)
    area = np.maximum(np.maximum(-top, mouth.top), (along - 1.0) * who.mouth.width)
    mask = coverage(area, 0.025)
    if hair.beard != "moustache":  # all below a line that climbs to the ears, except the lips
        across = view.around / who.head.width
        climb = hair.beard_line * across + 0.6 * np.clip(across - 0.45, 0.0, 1.0)
        lips = coverage(mouth.between(mouth.top, mouth.bottom), 0.03)
        chin = coverage(who.mouth_height - 0.02 - climb - view.face_y, 0.04)
        mask = np.maximum(mask, chin * (1.0 - lips))
    grain = 0.92 + 0.08 * np.sin(70 * view.face_x + 30 * view.face_y) * np.sin(55 * view.face_y)
    opacity = 0.38 if hair.beard == "stubble" else 0.93
    canvas.paint(opacity * grain * mask, scale(who.colours.hair, 0.8))


def _paint_mouth(canvas: Canvas, view: View, who: Person, mouth: _Mouth) -> None:
    """Lips, what they open on, and the line between them."""
    colour, soft = who.colours.lips, 1.4 * view.pixel
    canvas.paint(coverage(mouth.between(mouth.top, mouth.upper), soft), scale(colour, 0.86))
    canvas.paint(coverage(mouth.between(mouth.lower, mouth.bottom), soft), colour)
    opening = coverage(mouth.between(mouth.upper, mouth.lower), view.pixel)
    canvas.paint(opening, INSIDE)
    teeth = coverage(mouth.upper - 0.045, soft) * smoothstep(0.9, 0.6, np.abs(mouth.along))
    canvas.paint(opening * teeth, WHITE)
    seam = np.minimum(np.abs(mouth.upper), np.abs(mouth.lower)) - 0.005
    seam = np.maximum(seam, np.abs(mouth.x) - mouth.half)
    canvas.paint(0.75 * coverage(seam, 1.5 * view.pixel), scale(colour, 0.35))
    canvas.shade(bump(mouth.x, mouth.bottom - 0.03, 0.5 * mouth.half, 0.025), 0.85)


def _paint_eyes(canvas: Canvas, view: View, who: Person, how: Appearance) -> None:
    """Both eyes, mirrored: the eyeballs, then the lashes."""
    eyes, soft = who.eyes, view.pixel
    x = np.abs(view.face_x) - eyes.spacing
    y = view.face_y - eyes.height + eyes.tilt * x
    along = np.clip(x / eyes.width, -1.0, 1.0)
    outside = np.abs(x) - eyes.width
    awake = max(how.lids - 0.12 * max(how.smile, 0.0), 0.2)
    opening = eyes.opening * awake * (1.0 - along * along) * (1.0 - 0.18 * along)
    upper, lower = -y - opening, y - 0.75 * opening  # positive beyond the lids' edges
    inside = coverage(np.maximum(np.maximum(upper, lower), outside), soft)
    canvas.paint(inside, WHITE)
    canvas.shade(inside * smoothstep(0.04, 0.0, -upper), 0.7)
    ball_x = view.face_x - np.sign(view.face_x) * eyes.spacing - 0.035 * how.gaze[0]
    ball_y = view.face_y - eyes.height - 0.02 * how.gaze[1] + 0.01
    away = np.hypot(ball_x, ball_y)
    iris = who.colours.iris
    for radius, colour in ((1.0, scale(iris, 0.45)), (0.82, scale(iris, 1.15)), (0.45, DARK)):
        canvas.paint(inside * coverage(away - radius * eyes.iris, soft), colour)
    glint = np.hypot(ball_x + 0.3 * eyes.iris, ball_y + 0.35 * eyes.iris) - 0.22 * eyes.iris
    canvas.paint(inside * coverage(glint, soft), GLINT)
    line = np.abs(upper + 0.3 * eyes.lashes) - eyes.lashes * (0.5 + 0.25 * along)
    lashes = np.maximum(line, np.abs(x) - 1.08 * eyes.width)
    canvas.paint(0.92 * coverage(lashes, soft), DARK)


def _paint_brows(canvas: Canvas, view: View, who: Person, how: Appearance) -> None:
    brows = who.brows
    x = np.abs(view.face_x) - who.eyes.spacing - 0.02 + 0.03 * how.frown
    along = np.clip(x / brows.length, -1.0, 1.0)
    lift = brows.gap + 0.045 * how.brow_raise - 0.03 * how.frown
    slant = (brows.tilt - 0.25 * how.frown) * x - brows.arch * (1.0 - (along - 0.25) ** 2)
    line = view.face_y - who.eyes.height + lift - slant
    thickness = brows.thickness * (1.0 - brows.taper * (1.0 + along) / 2)
    shape = np.maximum(np.abs(line) - thickness, np.abs(x) - brows.length)
    colour = mix(who.colours.brows, who.colours.skin, (1.0 - brows.density) / 2)
    canvas.paint(brows.density * coverage(shape, 1.4 * view.pixel), colour)


def _paint_glasses(canvas: Canvas, view: View, who: Person, how: Appearance) -> None:
    x, y = view.raised(0.10)
    y = y - who.eyes.height - 0.01
    side = np.abs(x) - who.eyes.spacing
    corner_x, corner_y = np.maximum(np.abs(side) - 0.11, 0), np.maximum(np.abs(y) - 0.055, 0)
    lens = np.hypot(corner_x, corner_y) - 0.055
    canvas.paint(0.06 * coverage(lens, view.pixel), DARK)
    bridge = np.maximum(np.abs(y + 0.02) - 0.011, side + 0.12)
    temples = np.maximum(np.abs(y + 0.03) - 0.011, 0.15 - side)
    frame = np.minimum(np.minimum(np.abs(lens) - 0.014, bridge), temples)
    canvas.paint(coverage(frame, view.pixel), how.frame)


def _paint_back_hair(canvas: Canvas, view: View, who: Person) -> None:
    """Hair that hangs behind the head and the neck."""
    hair = who.hair
    if hair.end < 0.3:
        return
    x = view.x + 0.14 * view.turn
    half = (who.head.width + hair.side) * (1.0 + 0.15 * hair.curl * smoothstep(0, 1, view.y))
    half += 0.05 * hair.curl * _curls(view, who)
    end = 0.9 * np.clip(view.y / hair.end, 0.0, 2.0) ** 8
    up = np.minimum(view.y, 0.0) / (who.head.crown + hair.top)
    field = (x / half) ** 2 + up * up + end - 1.0
    slopes = (-1.2 * x / half, np.zeros_like(x))
    canvas.paint(field_coverage(field), 0.62 * _strands(view, who), slopes)


def _paint_hair(canvas: Canvas, view: View, who: Person) -> None:
    """Hair on the head, outside the face, with its shadow on the skin."""
    hair = who.hair
    if hair.style == "bald":
        return
    bare, curls = _hairline(view, who), hair.curl * _curls(view, who)
    shadow = smoothstep(0.09, 0.0, bare) * coverage(-bare, view.pixel)
    canvas.shade(shadow * canvas.lit, 0.75)
    x = (view.x + 0.12 * view.turn) / (who.head.width + hair.side)
    up = np.minimum(view.y, 0.0) / (who.head.crown + hair.top)
    field = x * x + up * up - 1.0 + 0.11 * curls
    mask = field_coverage(field) * coverage(view.face_y - hair.end, 0.06 + 2 * view.pixel)
    mask *= coverage(bare, 1.5 * view.pixel)
    slopes = _slopes(np.maximum(field + 1.0, 0.0), 0.03 * curls, view.pixel)
    canvas.paint(mask, _strands(view, who), slopes)


def _hairline(view: View, who: Person) -> np.ndarray:
    """Signed distance to the hairline, positive on the bare face."""
    hair, head = who.hair, who.head
    across = view.around / (hair.width * head.width)
    top, lowest = -hair.hairline * head.crown, who.eyes.height - 0.13
    line = top + 0.55 * across**6
    if hair.parting:
        side = view.face_x if hair.parted_right else -view.face_x
        along = (side / head.width + hair.parting_place) / (1.0 + hair.parting_place)
        longer = 1.6 * hair.sweep * np.sqrt(np.clip(along, 0.0, 1.0)) - 0.02
        shorter = 0.5 * hair.sweep * np.sqrt(np.clip(-2.0 * along, 0.0, 1.0))
        line = np.maximum(line, np.minimum(top + np.maximum(longer, shorter), lowest))
    if hair.fringe:
        locks = 0.025 * np.abs(np.sin(14 * view.face_x + math.pi * hair.phases[0]))
        ends = 4 * np.maximum(np.abs(view.face_x) - 0.8 * head.width, 0.0)
        fringe = hair.fringe_depth + hair.fringe_slant * view.face_x - locks - ends
        line = np.maximum(line, np.minimum(top + fringe, lowest))
    return (view.face_y - line) / (1.0 + 2.0 * across**4)  # the line is steep at the temples


def _curls(view: View, who: Person) -> np.ndarray:
    return ripples(view.x, view.y, 14 + 10 * who.hair.curl, who.hair.phases[:2])


def _strands(view: View, who: Person) -> np.ndarray:
    """The hair's colour with its strands, (3, height, width)."""
    hair = who.hair
    around = np.arctan2(view.x, view.y + who.head.crown + 0.3)
    flow = around + 0.10 * hair.curl * np.sin(9 * view.y + math.pi * hair.phases[2])
    strands = np.sin(38 * flow + math.pi * hair.phases[3])
    strands += np.sin(67 * flow + math.pi * hair.phases[4])
    tone = 0.09 * (1.0 - hair.curl) * strands + 0.18 * hair.curl * _curls(view, who)
    return np.asarray(who.colours.hair, np.float32)[:, None, None] * (1.0 + tone)
