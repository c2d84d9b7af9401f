"""Photographs of synthetic people: a small, turned face anywhere, and where its points are."""

import math

import cv2
import numpy as np
import simplejpeg

from fv.alignment import Face
from fv.faces.canvas import look
from fv.faces.parameters import Appearance, Person, draw_appearance, draw_person
from fv.faces.renderer import render

WIDTH, HEIGHT = 640, 480  # pixels
_STREAM = 3  # of random numbers; person and appearance have 1 and 2
_SQUARE = 224  # pixels of a face, among which its points are sought
_SIZES = 80, 260  # pixels of a face's square in the photograph
_ANGLE = 25.0  # degrees to either side
_RAISED_MOUTH = 0.06  # over the face, as the renderer paints it


def find_points(who: Person, how: Appearance, size: int) -> np.ndarray:
    """The five points (`fv.alignment`) of a drawn face in an image of `size` pixels, [5, 2]."""
    view, eyes, lips = look(how, who.head, _SQUARE), who.eyes, who.mouth
    face, mouth = (view.face_x, view.face_y), view.raised(_RAISED_MOUTH)
    nose = view.raised(who.nose.height)
    half = lips.width * (1.0 + 0.22 * how.smile - 0.12 * how.mouth_open)
    corner = who.mouth_height + lips.corners - 0.045 * how.smile
    wanted = (
        (face, -eyes.spacing, eyes.height),
        (face, eyes.spacing, eyes.height),
        (nose, 0.0, who.nose_base - 0.8 * who.nose.tip),
        (mouth, -half, corner),
        (mouth, half, corner),
    )
    points = []
    for (x, y), across, down in wanted:
        row, column = np.unravel_index(np.argmin(np.hypot(x - across, y - down)), x.shape)
        points.append((column, row))
    return (np.array(points) + 0.5) * (size / _SQUARE) - 0.5


def draw_face(seed: int, person: int, image: int, size: int) -> Face:
    """The face of `renderer.render_jpeg` with the same arguments."""
    points = find_points(draw_person(seed, person), draw_appearance(seed, person, image), size)
    return Face(points, (0.0, 0.0, float(size), float(size)))


def draw_photograph(seed: int, person: int, image: int) -> tuple[bytes, Face]:
    """JPEG of a photograph of a person, and the face in it."""
    who, how = draw_person(seed, person), draw_appearance(seed, person, image)
    rng = np.random.default_rng((seed, _STREAM, person, image))
    size = round(math.exp(rng.uniform(*np.log(_SIZES))))
    matrix = cv2.getRotationMatrix2D((size / 2,) * 2, rng.uniform(-_ANGLE, _ANGLE), 1.0)
    centre = np.array([rng.uniform(size / 2, side - size / 2) for side in (WIDTH, HEIGHT)])
    matrix = np.column_stack([matrix[:, :2], matrix[:, 2] + centre - size / 2])
    colours = rng.integers(40, 216, (3, 4, 3), np.uint8)
    photograph = cv2.resize(colours, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    drawn = render(who, how, size)
    cv2.warpAffine(drawn, matrix, (WIDTH, HEIGHT), photograph, borderMode=cv2.BORDER_TRANSPARENT)
    points = find_points(who, how, size) @ matrix[:, :2].T + matrix[:, 2]
    box = (*(centre - size / 2).tolist(), float(size), float(size))
    encoded = simplejpeg.encode_jpeg(photograph, 95, "RGB", "420", fastdct=False)
    return encoded, Face(points, box)
