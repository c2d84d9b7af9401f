"""Where each pixel looks: the frame, the head's plane, and the surface of the face under a pose."""

import dataclasses
import math

import numpy as np

from fv.faces import appearance, identity, shapes

DEPTH = 0.62  # of the head, from its axis to the face
RIM = 0.02  # keeps the surface from turning edge-on at the silhouette
OVERSIZE = 1.06  # of the ellipsoid that carries the features against the head
HEIGHT = 1.74  # of the bare head in the frame, whose height is 2


@dataclasses.dataclass(frozen=True)
class View:
    """Coordinates of every pixel; all arrays are (H, W) float32, y points down, half of the frame's width is about 1."""

    frame_x: np.ndarray  # in the frame, [-1, 1]
    frame_y: np.ndarray
    x: np.ndarray  # in the plane of the head: roll, scale and shift undone
    y: np.ndarray
    face_x: np.ndarray  # on the face's surface, as seen from the front: yaw and pitch undone too
    face_y: np.ndarray
    around: np.ndarray  # distance from the middle of the face, going on around the side of the head
    pixel: float  # width of one pixel, in the unit of x
    turn: float  # sine of the yaw
    nod: float  # sine of the pitch

    def raised(self, height: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Face coordinates of what stands `height` off the face: it shifts against the face as the head turns."""
        return self.face_x - height * self.turn, self.face_y - height * self.nod


def look(pose: appearance.Pose, head: identity.Head, size: int) -> View:
    """The view of a head in a pose, in a frame of `size` × `size` pixels.

    The face is a picture on an ellipsoid that turns under an orthographic camera, so features shorten and shift with depth.
    """
    centres = (np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0
    frame_x, frame_y = np.meshgrid(centres, centres)
    scale = HEIGHT / (head.crown + head.chin) * pose.scale
    x, y = shapes.rotate(
        (frame_x - pose.shift_x) / scale, (frame_y - pose.shift_y) / scale, pose.roll
    )
    y += (head.chin - head.crown) / 2.0
    face_x, face_y, behind = _surface(x, y, pose, head)
    around = np.abs(face_x) + np.maximum(behind, 0.0)
    turn, nod = math.sin(math.radians(pose.yaw)), math.sin(math.radians(pose.pitch))
    return View(frame_x, frame_y, x, y, face_x, face_y, around, 2.0 / size / scale, turn, nod)


def _surface(
    x: np.ndarray, y: np.ndarray, pose: appearance.Pose, head: identity.Head
) -> tuple[np.ndarray, ...]:
    radius = (x / (OVERSIZE * head.width)) ** 2 + (y / (OVERSIZE * max(head.crown, head.chin))) ** 2
    z = DEPTH * np.sqrt(np.maximum(1.0 - radius, RIM))
    backward, face_x = shapes.rotate(z, x, pose.yaw)
    forward, face_y = shapes.rotate(backward, y, pose.pitch)
    return face_x, face_y, -forward
