"""Soft shapes: signed distances, negative inside, and what turns them into opacity. Arrays are float32 of one shape."""

import math

import numpy as np

FLATTEST = 1e-4  # least slope of a field across a pixel, so that flat places do not divide by zero


def coverage(distance: np.ndarray, softness: float) -> np.ndarray:
    """Opacity in [0, 1] of the inside of a signed distance, with an edge `softness` wide (in the distance's unit)."""
    return np.clip(0.5 - distance / softness, 0.0, 1.0)


def field_coverage(field: np.ndarray, softness: float = 1.0) -> np.ndarray:
    """Opacity in [0, 1] of where any smooth field (H, W) is negative, with an edge `softness` pixels wide.

    Dividing by the slope gives the distance to first order: Quilez, "distance to implicits",
    https://iquilezles.org/articles/distance/
    """
    down, right = np.gradient(field)
    slope = np.sqrt(down * down + right * right) + FLATTEST
    return np.clip(0.5 - field / (slope * softness), 0.0, 1.0)


def ellipse(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    """Signed distance to an ellipse with these half-axes, exact on its edge only."""
    return (np.sqrt((x / width) ** 2 + (y / height) ** 2) - 1.0) * min(width, height)


def segment(
    x: np.ndarray, y: np.ndarray, start: tuple[float, float], end: tuple[float, float]
) -> np.ndarray:
    """Distance to the straight line between two points."""
    across, down = end[0] - start[0], end[1] - start[1]
    squared = max(across * across + down * down, FLATTEST)
    along = np.clip(((x - start[0]) * across + (y - start[1]) * down) / squared, 0.0, 1.0)
    return np.hypot(x - start[0] - along * across, y - start[1] - along * down)


def bump(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    """A Gaussian hill of height 1 whose standard deviations are width / √2 and height / √2."""
    return np.exp(-((x / width) ** 2) - (y / height) ** 2)


def hill(x: np.ndarray, width: float) -> np.ndarray:
    """`bump` along one axis."""
    return np.exp(-((x / width) ** 2))


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, a cubic in between; `low` may be the larger one."""
    share = np.clip((value - low) / (high - low), 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def ripples(
    x: np.ndarray, y: np.ndarray, frequency: float, phases: tuple[float, ...]
) -> np.ndarray:
    """A smooth texture in [-1, 1]: a product of two waves that bend each other.

    Args:
      x, y: coordinates.
      frequency: radians per unit.
      phases: two numbers in [-1, 1).
    """
    bent = frequency * x + math.pi * phases[0] + np.sin(0.7 * frequency * y)
    return np.sin(bent) * np.sin(frequency * y + math.pi * phases[1] + np.sin(0.6 * frequency * x))


def rotate(x: np.ndarray, y: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates of the same points in a frame turned clockwise (y points down) by `degrees`."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return cosine * x + sine * y, cosine * y - sine * x
