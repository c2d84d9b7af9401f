"""Finds faces: MTCNN with the weights of the package mtcnn, or OpenCV's YuNet with the user's file.

Faces are sought in images of at most `LONGEST_SIDE` pixels a side, so time and memory do not grow
with the photograph.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from typing import Protocol

import cv2
import numpy as np

from fv import alignment, errors, mtcnn
from fv.alignment import Face
from fv.errors import UserError

MTCNN, YUNET = "mtcnn", "yunet"
DETECTORS = (MTCNN, YUNET)
LONGEST_SIDE = 640  # pixels of an image in which faces are sought

_DIGEST_SHOWN = 12  # hexadecimal digits
_YUNET_CONFIDENCE, _YUNET_OVERLAP, _YUNET_MOST = 0.7, 0.3, 5000
_YUNET_POINTS = slice(4, 14)


class Detector(Protocol):
    """Finds faces in images."""

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """The faces of each image, uint8 [height, width, 3] of at most `LONGEST_SIDE` pixels."""


@functools.cache
def load(kind: str, model: str | None = None) -> Detector:
    """Loads a detector, once in a process.

    Args:
      kind: one of `DETECTORS`.
      model: the ONNX file of YuNet.

    Raises:
      UserError: the package of MTCNN or the file of YuNet is missing.
    """
    return mtcnn.Mtcnn() if kind == MTCNN else Yunet(model or "")


def require(kind: str, model: str | None = None) -> str:
    """Checks that a detector can be loaded, without loading it; returns its name.

    Raises:
      UserError: the package of MTCNN or the file of YuNet is missing.
    """
    if kind == MTCNN:
        if model:
            raise UserError(f"--detector_model={model} is for --detector={YUNET}: remove it")
        mtcnn.weights_folder()
        return f"{MTCNN} {importlib.metadata.version(MTCNN)}"
    if not model:
        raise UserError(
            f"--detector={YUNET} needs --detector_model=FILE: OpenCV's face_detection_yunet ONNX "
            "file"
        )
    try:
        with open(model, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        errors.raise_if_temporary(error)
        raise UserError(f"--detector_model={model} cannot be read: {error.strerror}") from error
    return f"{YUNET} {digest[:_DIGEST_SHOWN]}"


def find_all(detector: Detector, images: Iterable[np.ndarray]) -> list[list[Face]]:
    """All faces of each image, uint8 [height, width, 3]; holds one whole image at a time."""
    small = [_shrink(image) for image in images]
    found = detector.detect([image for image, _ in small])
    return [
        [_enlarge(face, scale) for face in faces]
        for faces, (_, scale) in zip(found, small, strict=True)
    ]


def find_faces(detector: Detector, images: Iterable[np.ndarray]) -> list[Face | None]:
    """The face of each image that `alignment.choose_face` chooses."""
    sizes: list[tuple[int, int]] = []

    def measure(image: np.ndarray) -> np.ndarray:
        sizes.append((image.shape[1], image.shape[0]))
        return image

    found = find_all(detector, map(measure, images))
    return [alignment.choose_face(faces, *size) for faces, size in zip(found, sizes, strict=True)]


class Yunet:
    """OpenCV's FaceDetectorYN with an ONNX file of the user's."""

    def __init__(self, model: str):
        require(YUNET, model)
        size = (LONGEST_SIDE, LONGEST_SIDE)
        limits = (_YUNET_CONFIDENCE, _YUNET_OVERLAP, _YUNET_MOST)
        try:
            self._network = cv2.FaceDetectorYN.create(model, "", size, *limits)
        except cv2.error as error:
            raise UserError(
                f"--detector_model={model} is no model of YuNet: {error.err}"
            ) from error

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> list[Face]:
        self._network.setInputSize(image.shape[1::-1])
        _, rows = self._network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        found = [] if rows is None else sorted(rows.tolist(), key=lambda row: -row[-1])
        return [
            Face(np.reshape(row[_YUNET_POINTS], (5, 2)), tuple(row[:4]), row[-1]) for row in found
        ]


def _shrink(image: np.ndarray) -> tuple[np.ndarray, float]:
    """An image of at most `LONGEST_SIDE` pixels a side, and its size over the original's."""
    height, width, _ = image.shape
    scale = LONGEST_SIDE / max(height, width)
    if scale >= 1.0:
        return image, 1.0
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale


def _enlarge(face: Face, scale: float) -> Face:
    """A face in the pixels of the whole image, by its place in the small one."""
    assert face.box is not None
    left, top, width, height = (float(each) / scale for each in face.box)
    # The centre of the first pixel is (0, 0) in both images.
    points = (np.asarray(face.points, np.float64) + 0.5) / scale - 0.5
    return dataclasses.replace(face, points=points, box=(left, top, width, height))
