"""Face points, and the template that they are moved to: the same in every stage.

A face is five points in this order: the eye on the left of the image, the eye on the right, the tip
of the nose, and the corners of the mouth on the left and on the right. A point is x and y in pixels
of the upright image; the centre of the first pixel is (0, 0).
"""

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from fv.errors import UserError

ARCFACE = "arcface"  # the only template so far
GIVEN = "given points"  # a detector's name where no detector is named

# Source: InsightFace, python-package/insightface/utils/face_align.py, for 112 × 112 pixels.
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
TEMPLATE_SIDE = 112
# In place of the points of an image without a face, whose centre square is taken.
CENTRE = np.full((5, 2), np.nan)
# In place of the points of an image that could not be read when its face was sought.
UNREADABLE = np.full((5, 2), np.inf)
# Where MTCNN finds the points in its box, as shares of width and height: means over the 9,525
# images of LFW's View 1 training half.
_POINTS_IN_BOX = np.array(
    [[0.281, 0.386], [0.733, 0.379], [0.509, 0.580], [0.315, 0.755], [0.717, 0.749]]
)
_SMALLEST_SPREAD = 1e-6  # pixels; points nearer to each other than this have no direction
BLOCKS_FROM = 4  # times smaller, from which on blocks of pixels are averaged before the warp


@dataclasses.dataclass(frozen=True)
class Alignment:
    """How faces were aligned, in manifest, model.json, model card and export.

    Attributes:
      margin: room around the template on each side, over the template's side.
      detector: what found the points.
      template: where the points are moved to.
    """

    margin: float = 0.0
    detector: str = GIVEN
    template: str = ARCFACE

    def __str__(self) -> str:
        """The converter's flags."""
        return f"--align_margin={self.margin:g}, points of {self.detector}"

    @classmethod
    def from_json(cls, fields: dict, source: str) -> "Alignment":
        """Reads the fields of a record in the file `source`.

        Raises:
          UserError: a newer fv wrote it.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if not known.issuperset(fields) or fields.get("template") != ARCFACE:
            raise UserError(
                f"{source} describes an alignment that this fv does not know ({fields}): use the "
                "fv that wrote it"
            )
        return cls(**fields)

    def same_place(self, other: "Alignment | None") -> bool:
        """Whether both move faces to the same place."""
        return other is not None and (self.template, self.margin) == (other.template, other.margin)

    def target(self, side: int) -> np.ndarray:
        """Where the five points come to lie in a square of `side` pixels, float64 [5, 2]."""
        room = TEMPLATE_SIDE * self.margin
        return (TEMPLATE + room) * (side / (TEMPLATE_SIDE + 2 * room))

    def matrix(self, points: np.ndarray, side: int) -> np.ndarray:
        """The similarity that moves points, [5, 2], to the template: float64 [2, 3]."""
        return estimate_similarity(points, self.target(side))

    def align(self, rgb: np.ndarray, points: np.ndarray, side: int) -> np.ndarray:
        """Cuts the aligned face from an image; what lies outside the image is black.

        Args:
          rgb: uint8 [height, width, 3], upright.
          points: [5, 2], or `CENTRE`.
          side: of the result in pixels.

        Returns:
          uint8 [side, side, 3].
        """
        if np.isnan(points).any():
            points = self.centre_points(rgb.shape[1], rgb.shape[0])
        return warp(rgb, self.matrix(points, side), side)

    def centre_points(self, width: int, height: int) -> np.ndarray:
        """Points by which the centre square of an image becomes the aligned face, [5, 2]."""
        side = min(width, height)
        return self.target(side) + np.array([width - side, height - side]) / 2


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """A face in an upright image.

    Attributes:
      points: float64 [5, 2].
      box: left, top, width and height in pixels; None where only points are known.
      confidence: the detector's, in [0, 1]; None where it is not known.
      faces: how many faces the detector found in the image.
    """

    points: np.ndarray
    box: tuple[float, float, float, float] | None = None
    confidence: float | None = None
    faces: int = 1

    @property
    def eye_distance(self) -> float:
        """Distance between the eyes in pixels."""
        return float(np.hypot(*(self.points[1] - self.points[0])))

    @property
    def roll(self) -> float:
        """Angle of the line through the eyes in degrees, positive where the right eye is lower."""
        across, down = self.points[1] - self.points[0]
        return math.degrees(math.atan2(down, across))

    def __str__(self) -> str:
        """The face in words."""
        words = []
        if self.box:
            left, top, width, height = (round(number) for number in self.box)
            words.append(f"{width} × {height} pixels at ({left}, {top})")
        if self.confidence is not None:
            words.append(f"confidence {self.confidence:.3f}")
        if self.faces > 1:
            words.append(f"one of {self.faces} faces")
        rounded = np.round(np.asarray(self.points)).astype(int).tolist()
        points = " ".join(f"({x}, {y})" for x, y in rounded)
        return ", ".join([*words, f"points {points}"])

    def to_json(self) -> dict:
        """The face for a report."""
        return {
            "box": self.box and [round(float(number), 1) for number in self.box],
            "points": np.round(np.asarray(self.points, float), 1).tolist(),
            "confidence": self.confidence and round(float(self.confidence), 4),
        }


def estimate_similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity (rotation, scale, shift) that moves points nearest to a target.

    Least squares. In the plane the solution of S. Umeyama, Least-squares estimation of
    transformation parameters between two point patterns (PAMI 1991), needs no singular values.

    Args:
      points: [n, 2].
      target: [n, 2].

    Returns:
      float64 [2, 3]: a point p moves to M[:, :2] @ p + M[:, 2].

    Raises:
      UserError: the points are not finite, or coincide.
    """
    points, target = np.asarray(points, np.float64), np.asarray(target, np.float64)
    (x, y), (u, v) = (points - points.mean(axis=0)).T, (target - target.mean(axis=0)).T
    spread = (x * x + y * y).sum()
    if not spread > _SMALLEST_SPREAD**2 or not np.isfinite(points).all():
        raise UserError(f"{points.tolist()} are no points of a face: give five different points")
    cosine, sine = (x * u + y * v).sum() / spread, (x * v - y * u).sum() / spread
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([turn, target.mean(axis=0) - turn @ points.mean(axis=0)])


def warp(rgb: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """Moves an image by a similarity and samples the square from (0, 0) on.

    Each pixel of the result is the average of bilinear samples that lie at most a pixel apart, so
    nothing is skipped where the image is made smaller. Where it is made more than four times
    smaller, blocks of pixels are averaged before. `fv.image_ops.warp` does the same in a graph,
    to within one level of 255.

    Args:
      rgb: uint8 [height, width, 3].
      matrix: [2, 3], of pixels of the image to pixels of the result.
      side: of the result in pixels.

    Returns:
      uint8 [side, side, 3].
    """
    block, samples = sampling(matrix)
    if block > 1:
        left, top, width, height = blocks_in_reach(matrix, side, rgb.shape[1], rgb.shape[0], block)
        part = rgb[top : top + height * block, left : left + width * block]
        if not part.size:
            return np.zeros((side, side, 3), np.uint8)
        rgb = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
        matrix = of_blocks(matrix, left, top, block)
    fine = cv2.warpAffine(rgb, of_samples(matrix, samples), (side * samples,) * 2)
    return cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA) if samples > 1 else fine


def sampling(matrix: np.ndarray) -> tuple[int, int]:
    """How an image is made smaller: side of the averaged blocks, and samples along a pixel."""
    shrink = 1.0 / math.hypot(matrix[0, 0], matrix[1, 0])
    block = max(1, int(shrink * 2 / BLOCKS_FROM))
    return block, max(1, math.ceil(shrink / block - 1e-3))


def blocks_in_reach(
    matrix: np.ndarray, side: int, width: int, height: int, block: int
) -> tuple[int, int, int, int]:
    """The blocks of an image that the result needs: left and top in pixels, width and height in
    blocks. Blocks begin at the image's corner; one cut by its edge is left out."""
    corners = np.array([[-1, -1], [side, -1], [-1, side], [side, side]], np.float64)
    found = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    counts = np.array([width // block, height // block])
    first = np.clip(np.floor(found.min(axis=0) / block) - 1, 0, counts).astype(int)
    last = np.clip(np.ceil(found.max(axis=0) / block) + 1, 0, counts).astype(int)
    return (*(first * block).tolist(), *np.maximum(last - first, 0).tolist())


def of_blocks(matrix: np.ndarray, left: int, top: int, block: int) -> np.ndarray:
    """The matrix for an image of averaged blocks whose first begins at (left, top)."""
    start = np.array([left, top]) + (block - 1) / 2
    return np.column_stack([matrix[:, :2] * block, matrix[:, 2] + matrix[:, :2] @ start])


def of_samples(matrix: np.ndarray, samples: int) -> np.ndarray:
    """The matrix for a result of `samples` × `samples` pixels in place of each pixel."""
    return np.column_stack([matrix[:, :2] * samples, matrix[:, 2] * samples + (samples - 1) / 2])


def points_of_box(box: np.ndarray) -> np.ndarray:
    """The points of an upright face in a box (left, top, width, height) as MTCNN draws it."""
    return box[:2] + _POINTS_IN_BOX * box[2:]


def choose_face(faces: Sequence[Face], width: int, height: int) -> Face | None:
    """Chooses the largest face near the centre of an image.

    It is the one with the largest area of its box × √(1 − d) × c². d is the distance of the box's
    centre from the image's, over that of the image's corner. c is the detector's confidence: what
    is found by mistake has a lower one (benchmarks/results/alignment.md).
    """

    def weight(face: Face) -> float:
        assert face.box is not None
        left, top, across, down = face.box
        x, y = left + across / 2 - width / 2, top + down / 2 - height / 2
        away = min(1.0, 2 * math.hypot(x, y) / math.hypot(width, height))
        confidence = 1.0 if face.confidence is None else face.confidence
        return across * down * math.sqrt(1.0 - away) * confidence**2

    best = max(faces, key=weight, default=None)
    return best and dataclasses.replace(best, faces=len(faces))
