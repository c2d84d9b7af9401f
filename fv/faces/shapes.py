"""Soft shapes. Arrays are float32 (height, width), y points down.

A signed distance is negative inside its shape.
"""

import math

import numpy as np


def coverage(distance: np.ndarray, softness: float) -> np.ndarray:
    """Opacity in [0, 1] of the inside of a shape whose edge is `softness` wide."""
    return np.clip(0.5 - distance / softness, 0.0, 1.0)


def field_coverage(field: np.ndarray) -> np.ndarray:
    """Opacity in [0, 1] of where a smooth field is negative, with an edge one pixel wide."""
    # Divided by its slope, a field is the distance: https://iquilezles.org/articles/distance/
    down, right = np.gradient(field)
    return np.clip(0.5 - field / (np.sqrt(down * down + right * right) + 1e-4), 0.0, 1.0)


def ellipse(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    """Signed distance to an ellipse with these half-axes, exact on its edge only."""
    return (np.sqrt((x / width) ** 2 + (y / height) ** 2) - 1.0) * min(width, height)


def bump(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    """A Gaussian hill of height 1 that falls to 1/e at these half-axes."""
    return np.exp(-((x / width) ** 2) - (y / height) ** 2)


def ridge(x: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """`bump` along one axis."""
    return np.exp(-((x / width) ** 2))


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, a cubic in between; `low` may be the larger one."""
    share = np.clip((value - low) / (high - low), 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def ripples(x: np.ndarray, y: np.ndarray, pitch: float, phases: tuple[float, ...]) -> np.ndarray:
    """A smooth texture in [-1, 1]: two waves of `pitch` radians per unit that bend each other."""
    across = np.sin(pitch * x + math.pi * phases[0] + np.sin(0.7 * pitch * y))
    return across * np.sin(pitch * y + math.pi * phases[1] + np.sin(0.6 * pitch * x))


def rotate(x: np.ndarray, y: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the same points in a frame that is turned clockwise."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return cosine * x + sine * y, cosine * y - sine * x
