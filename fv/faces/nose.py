"""The nose: mostly relief that the light models, with nostrils and wings drawn in. Lengths are in face units."""

import math

import numpy as np

from fv.faces import shapes
from fv.faces.appearance import Light
from fv.faces.canvas import Canvas
from fv.faces.identity import Identity
from fv.faces.palette import scale
from fv.faces.view import View

ROOT_RISE = 0.06  # where the bridge begins, above the eyes
ROOT_SHARE, ROOT_END = (
    0.15,
    0.2,
)  # of the height that the bridge reaches at once, and after which share of its length
SLOPE_POWER = 1.5  # of the bridge's climb to the tip
UNDERSIDE = 0.045  # how fast the relief falls off below the tip
RIDGE_SHARE, TIP_SHARE, TIP_PLACE = 0.8, 0.35, 0.8  # of the height; of the tip's radius
WING_PLACE, WING_SIZE, WING_HEIGHT, WING_RISE, WING_RELIEF = 0.72, 0.45, 0.045, 0.03, 0.05

CAST, CAST_DROP, CAST_SHADE = (
    0.15,
    0.08,
    0.72,
)  # reach of its shadow across and down, and how dark it is at most
CAST_WIDTH, CAST_HEIGHT, FLAT_LIGHT = 0.9, 0.08, 0.6
HOLE_PLACE, HOLE_WIDTH, HOLE_HEIGHT, HOLE_LEAN, HOLE_OPACITY = 0.48, 0.26, 0.016, 0.15, 0.85
HOLE_UPTURN = 0.25  # how much higher the nostrils are where the tip turns up
RIM_WIDTH, RIM_HEIGHT, RIM_RISE, RIM_HALF, RIM_OPACITY = 0.32, 0.055, 0.02, 0.006, 0.6
RIM_FROM, RIM_TO = 0.6, 0.95  # of the half-width: the rim shows on the outside only
UNDER_WIDTH, UNDER_HEIGHT, UNDER_DROP, UNDER_SHADE = 0.7, 0.022, 0.01, 0.75
SHADE = 0.42  # of the skin's colour, for lines
BASE_RAISE, TIP_RAISE = (
    0.3,
    0.6,
)  # how far the wings and the nostrils stand off the face, of the height


def relief(view: View, who: Identity) -> np.ndarray:
    """Height of the nose over the face."""
    nose = who.nose
    x, y = view.raised(_profile(view.face_y, who))
    along = np.clip((y - who.eyes.height) / (who.nose_base - who.eyes.height), 0.0, 1.0)
    half = nose.bridge + (nose.tip - nose.bridge) * along * along
    ridge = RIDGE_SHARE * _profile(y, who) * shapes.hill(x, half)
    tip = (
        TIP_SHARE
        * nose.height
        * shapes.bump(x, y - who.nose_base + TIP_PLACE * nose.tip, nose.tip, nose.tip)
    )
    wing_x = np.abs(x) - WING_PLACE * nose.width
    wings = shapes.bump(wing_x, y - who.nose_base + WING_RISE, WING_SIZE * nose.width, WING_HEIGHT)
    return ridge + tip + WING_RELIEF * nose.wings * wings


def _profile(y: np.ndarray, who: Identity) -> np.ndarray:
    """Height of the middle line at every y."""
    top, base = who.eyes.height - ROOT_RISE, who.nose_base
    along = np.clip((y - top) / (base - top), 0.0, 1.0)
    climb = (
        ROOT_SHARE * shapes.smoothstep(0.0, ROOT_END, along)
        + (1.0 - ROOT_SHARE) * along**SLOPE_POWER
    )
    return who.nose.height * climb * shapes.smoothstep(base + UNDERSIDE, base - UNDERSIDE, y)


def paint_nose(canvas: Canvas, view: View, who: Identity, light: Light) -> None:
    """Shadow, wings and nostrils."""
    nose, shade = who.nose, scale(who.colours.skin, SHADE)
    x, y = view.raised(BASE_RAISE * nose.height)
    y = y - who.nose_base
    _cast_shadow(canvas, x, y, who, light)
    rim = np.abs(
        shapes.ellipse(
            np.abs(x) - WING_PLACE * nose.width, y + RIM_RISE, RIM_WIDTH * nose.width, RIM_HEIGHT
        )
    )
    outside = nose.wings * shapes.smoothstep(RIM_FROM, RIM_TO, np.abs(x) / nose.width)
    canvas.paint(RIM_OPACITY * outside * shapes.coverage(rim - RIM_HALF, 1.5 * view.pixel), shade)
    x, y = view.raised(TIP_RAISE * nose.height)
    y = y - who.nose_base
    hole_x = np.abs(x) - HOLE_PLACE * nose.width
    height = HOLE_HEIGHT + HOLE_UPTURN * max(nose.upturn, 0.0)
    holes = shapes.ellipse(
        hole_x, y + nose.upturn + HOLE_LEAN * hole_x, HOLE_WIDTH * nose.width, height
    )
    canvas.paint(HOLE_OPACITY * shapes.coverage(holes, 1.5 * view.pixel), shade)
    canvas.multiply(
        shapes.bump(x, y - UNDER_DROP, UNDER_WIDTH * nose.width, UNDER_HEIGHT), UNDER_SHADE
    )


def _cast_shadow(canvas: Canvas, x: np.ndarray, y: np.ndarray, who: Identity, light: Light) -> None:
    """Darkens the side that the light does not reach; the harder the light, the darker."""
    away = -math.sin(math.radians(light.azimuth))
    drop = max(math.sin(math.radians(light.elevation)), 0.0)
    shadow = shapes.bump(
        x - CAST * away, y - CAST_DROP * drop, CAST_WIDTH * who.nose.width, CAST_HEIGHT
    )
    hardness = (1.0 - light.ambient) / FLAT_LIGHT
    canvas.multiply(shadow, 1.0 - (1.0 - CAST_SHADE) * hardness)
