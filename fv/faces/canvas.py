"""The canvas: where its pixels look, what is painted on it, and how it is lit and photographed.

Arrays are float32 (height, width), or (3, height, width) with the colour channels first.
"""

import dataclasses
import math

import cv2
import numpy as np

from fv.faces.parameters import RGB, Appearance, Head

DEPTH = 0.62  # of the head, from its axis to the face, in face units
FRAME_HEIGHT = 1.74  # of the bare head in the frame, whose height is 2
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
KNEE = 0.72  # brightness from which highlights are compressed
PIVOT = 0.45  # brightness that a change of contrast leaves alone
GLOSS, GLOSS_POWER = 0.16, 24
DIFFUSE_GAIN = 1.35  # so that what faces the light is brighter than its own colour

Slopes = tuple[np.ndarray, np.ndarray]  # change of depth towards the viewer, to the right and down


@dataclasses.dataclass(frozen=True)
class View:
    """Where each pixel looks."""

    frame: Slopes  # x and y in the frame, [-1, 1]
    x: np.ndarray  # in the plane of the head: roll, scale and shift undone
    y: np.ndarray
    face_x: np.ndarray  # on the face's surface, seen from the front: yaw and pitch undone too
    face_y: np.ndarray
    around: np.ndarray  # distance from the middle of the face, around the side of the head
    pixel: float  # width of one pixel, in face units
    turn: float  # sine of the yaw
    nod: float  # sine of the pitch

    def raised(self, height: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Face coordinates of what stands `height` off the face and shifts as the head turns."""
        return self.face_x - height * self.turn, self.face_y - height * self.nod


def look(how: Appearance, head: Head, size: int) -> View:
    """The view of a head in an image of `size` × `size` pixels.

    The face is a picture on an ellipsoid that turns under an orthographic camera, so features
    shorten and shift with depth.
    """
    centres = (np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0
    frame_x, frame_y = np.meshgrid(centres, centres)
    zoom = FRAME_HEIGHT / (head.crown + head.chin) * how.scale
    x, y = rotate((frame_x - how.shift_x) / zoom, (frame_y - how.shift_y) / zoom, how.roll)
    y += (head.chin - head.crown) / 2.0
    # The ellipsoid is a little larger than the head, so that its surface never turns edge-on.
    radius = (x / (1.06 * head.width)) ** 2 + (y / (1.06 * max(head.crown, head.chin))) ** 2
    z = DEPTH * np.sqrt(np.maximum(1.0 - radius, 0.02))
    backward, face_x = rotate(z, x, how.yaw)
    forward, face_y = rotate(backward, y, how.pitch)
    around = np.abs(face_x) + np.maximum(-forward, 0.0)
    turn, nod = math.sin(math.radians(how.yaw)), math.sin(math.radians(how.pitch))
    return View((frame_x, frame_y), x, y, face_x, face_y, around, 2.0 / size / zoom, turn, nod)


def backdrop(view: View, how: Appearance) -> np.ndarray:
    """A gradient of two muted colours, soft blobs and stripes, (3, height, width) in [0, 1]."""
    frame_x, frame_y = view.frame
    across, along = rotate(frame_x, frame_y, how.backdrop_angle)
    colours = np.asarray(how.backdrop, np.float32).reshape(2, 3, 1, 1)
    first, second = 0.55 * colours + 0.45 * colours.mean(axis=1, keepdims=True)
    picture = first + (second - first) * smoothstep(-1.0, 1.0, along)
    for x, y, size, brightness, hue in np.reshape(how.blobs, (-1, 5)).tolist():
        radius = 0.45 + 0.35 * size
        soft = smoothstep(radius, radius / 2, np.hypot(frame_x - 1.2 * x, frame_y - 1.2 * y))
        for plane, share in zip(picture, (1.0 + hue, 1.0, 1.0 - hue), strict=True):
            plane += 0.35 * brightness * share * soft
    if how.stripes:
        picture *= 1.0 + how.stripes * np.sin(how.stripe_pitch * across)
    return np.clip(picture, 0.0, 1.0)


class Canvas:
    """Layers of unlit colour, and how the surface slopes for the light that comes later.

    `lit` in [0, 1] is how much the light models a pixel; the backdrop is 0. `stencil` multiplies
    every mask.
    """

    def __init__(self, backdrop: np.ndarray):
        self.colour = backdrop
        self.slopes = np.zeros((2, *backdrop.shape[1:]), np.float32)
        self.lit = np.zeros(backdrop.shape[1:], np.float32)
        self.stencil: np.ndarray | float = 1.0

    def paint(
        self, mask: np.ndarray, colour: RGB | np.ndarray, slopes: Slopes | None = None
    ) -> None:
        """Lays one colour, or colours (3, height, width), over the picture.

        `mask` is the opacity in [0, 1]. Without `slopes`, the surface stays as it was.
        """
        if isinstance(colour, tuple):
            colour = np.asarray(colour, np.float32)[:, None, None]
        mask = self.stencil * mask
        self.colour += mask * (colour - self.colour)
        if slopes is not None:
            for plane, slope in zip(self.slopes, slopes, strict=True):
                plane += mask * (slope - plane)
            self.lit += mask * (1.0 - self.lit)

    def shade(self, mask: np.ndarray, factor: float) -> None:
        """Darkens (factor under 1) or brightens what is under the mask."""
        self.colour *= 1.0 + self.stencil * mask * (factor - 1.0)


def light(canvas: Canvas, how: Appearance, shine: float) -> np.ndarray:
    """Lights a canvas: Lambert's cosine over the slopes, and Blinn's gloss times `shine` in [0, 1].

    Returns (3, height, width) float32, not clipped.
    """
    right, down = canvas.slopes
    inverse = 1.0 / np.sqrt(1.0 + right * right + down * down)
    turn, rise = math.radians(how.azimuth), math.radians(how.elevation)
    x, y, z = math.sin(turn) * math.cos(rise), -math.sin(rise), math.cos(turn) * math.cos(rise)
    facing = z - x * right - y * down
    diffuse = how.ambient + (1 - how.ambient) * DIFFUSE_GAIN * np.maximum(facing * inverse, 0.0)
    lit = canvas.colour * (how.intensity * (1.0 + canvas.lit * (diffuse - 1.0)))
    half = math.sqrt(2.0 + 2.0 * z)  # length of light + viewer, Blinn's halfway vector
    gloss = np.maximum((1.0 + facing) * inverse / half, 0.0) ** GLOSS_POWER
    lit += canvas.lit * (GLOSS * shine * (1.0 - how.ambient)) * gloss
    gains = (1.0 + how.warmth, 1.0 + how.tint, 1.0 - how.warmth)
    return lit * np.asarray(gains, np.float32)[:, None, None]


def expose(picture: np.ndarray, how: Appearance) -> np.ndarray:
    """Turns a lit picture (3, height, width) into an RGB image (height, width, 3) uint8."""
    picture = np.maximum(picture, 0.0)
    # Bends what is brighter than KNEE towards 1 and keeps its hue, so that light skin stays skin.
    peak = np.maximum(picture.max(axis=0), KNEE)
    picture *= (1.0 - (1.0 - KNEE) * np.exp((KNEE - peak) / (1.0 - KNEE))) / peak
    picture **= how.gamma
    luma = np.tensordot(np.asarray(LUMA, np.float32), picture, 1)
    picture = PIVOT + how.contrast * (luma + how.saturation * (picture - luma) - PIVOT)
    pixels = np.ascontiguousarray(picture.transpose(1, 2, 0))
    image = cv2.GaussianBlur(pixels, (0, 0), max(how.blur * len(pixels), 0.1))
    noise = np.random.default_rng(int(how.noise_seed)).standard_normal(image.shape, np.float32)
    return np.clip((image + how.noise * noise) * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)


# Soft shapes: a signed distance is negative inside its shape, and y points down.


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
