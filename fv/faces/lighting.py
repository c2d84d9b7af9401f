"""The light: Lambert's cosine over the surface's slopes, a gloss, a rim light, and the colour of it all."""

import math

import numpy as np

from fv.faces import appearance
from fv.faces.canvas import Canvas

GLOSS_POWER = 24
GLOSS = 0.16
RIM_SPREAD = 0.2  # how far the rim light reaches around
DIFFUSE_GAIN = 1.35  # so that what faces the light is brighter than its own colour


def shade(canvas: Canvas, light: appearance.Light, shine: float) -> np.ndarray:
    """Lights the canvas.

    Args:
      canvas: unlit colours and slopes.
      light: where the light is and what it is like.
      shine: how glossy the skin is, [0, 1].

    Returns:
      (3, H, W) float32, not clipped.
    """
    right, down = canvas.slopes
    inverse = 1.0 / np.sqrt(1.0 + right * right + down * down)
    x, y, z = _direction(light.azimuth, light.elevation)
    cosine = np.maximum((z - x * right - y * down) * inverse, 0.0)
    diffuse = light.ambient + (1.0 - light.ambient) * DIFFUSE_GAIN * cosine
    if light.rim:
        diffuse += light.rim * np.maximum((x * right + RIM_SPREAD * z) * inverse, 0.0)
    diffuse = 1.0 + canvas.lit * (diffuse - 1.0)
    lit = canvas.colour * (light.intensity * diffuse)
    half = math.sqrt(2.0 + 2.0 * z)  # length of light + viewer, Blinn's halfway vector
    gloss = np.maximum((1.0 + z - x * right - y * down) * inverse / half, 0.0) ** GLOSS_POWER
    lit += canvas.lit * (GLOSS * shine * (1.0 - light.ambient)) * gloss
    gains = (1.0 + light.warmth, 1.0 + light.tint, 1.0 - light.warmth)
    return lit * np.asarray(gains, np.float32)[:, None, None]


def _direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
    """Unit vector towards the light: right, down, towards the viewer."""
    turn, rise = math.radians(azimuth), math.radians(elevation)
    return math.sin(turn) * math.cos(rise), -math.sin(rise), math.cos(turn) * math.cos(rise)
