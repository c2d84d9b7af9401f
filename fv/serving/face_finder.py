"""Finds the face in each image that a verifier gets: the caller's, a file's or a detector's."""

import dataclasses
import os

import numpy as np

from fv import detection, face_files
from fv.alignment import Alignment, Face
from fv.conversion import formats, storage
from fv.errors import UserError
from fv.options import option
from fv.serving import contract, encoding
from fv.serving.encoding import ImageSource

CROPS = "none"  # value of --detector
REFUSE, CROP = "refuse", "crop"  # values of --no_face
_GREY = 128
_ADVICE = "give its points, or --no_face=crop if it is cut to the face"


@dataclasses.dataclass(frozen=True)
class FinderOptions:
    """How the face in an image is found."""

    detector: str = option(
        detection.MTCNN,
        "Detector of the face in each image, for a model of aligned faces: mtcnn (pip install "
        "'fv[align]'), yunet, or none if images are aligned crops.",
        choices=(*detection.DETECTORS, CROPS),
    )
    detector_model: str | None = option(None, "ONNX file of --detector=yunet.")
    no_face: str = option(
        REFUSE,
        "What to do with an image without a face: refuse it, or crop its centre square.",
        choices=(REFUSE, CROP),
    )


class FaceFinder:
    """Finds faces for a model of aligned faces. Threads may share it."""

    def __init__(
        self,
        alignment: Alignment,
        max_pixels: int,
        options: FinderOptions,
        face_points: str | None = None,
        advice: str = _ADVICE,
    ):
        """Reads the file of faces; the detector is loaded when it is needed. See `make`."""
        self._alignment, self._max_pixels = alignment, max_pixels
        self._detector, self._no_face = (options.detector, options.detector_model), options.no_face
        self._advice = advice
        self._known: dict[str, Face | None] = {}
        if face_points:
            folder = os.path.dirname(os.path.abspath(face_points))
            read, _ = face_files.read(face_points)
            self._known = {os.path.join(folder, name): face for name, face in read.items()}

    def find(self, batch: list, encoded: list[bytes], points: np.ndarray | None) -> list[Face]:
        """Finds the face in each image of a batch.

        Args:
          batch: the images as the caller gave them.
          encoded: their bytes.
          points: the caller's, [batch, 5, 2], or [5, 2] for one image; None to find them.

        Raises:
          UserError: the points do not fit, or an image has no face or cannot be decoded.
        """
        if points is not None:
            return take_points(points, len(batch))
        faces = [self._known_face(image) for image in batch]
        unknown = [place for place, face in enumerate(faces) if face is None]
        sizes: list[tuple[int, int]] = []

        def decode(place: int) -> np.ndarray:
            try:
                pixels = storage.decode_upright(encoded[place], self._max_pixels)
            except formats.BadImage as error:
                name = encoding.name(batch[place])
                raise UserError(f"{name} cannot be used: {error}") from error
            sizes.append((pixels.shape[1], pixels.shape[0]))
            return pixels

        if unknown:
            detector = detection.load(*self._detector)
            found = detection.find_faces(detector, map(decode, unknown))
            for place, face, size in zip(unknown, found, sizes, strict=True):
                faces[place] = face or self._centre(batch[place], size)
        return [face for face in faces if face]

    def warm_up(self) -> None:
        """Loads the detector and calls it once, since a first call is slow.

        Raises:
          UserError: the package of MTCNN or the file of YuNet is missing.
        """
        grey = np.full((detection.LONGEST_SIDE, detection.LONGEST_SIDE, 3), _GREY, np.uint8)
        try:
            detection.find_faces(detection.load(*self._detector), [grey])
        except UserError as error:
            raise UserError(f"{error}; --detector={CROPS} takes aligned crops") from error

    def _centre(self, image: ImageSource, size: tuple[int, int]) -> Face:
        """The centre of an image without a face; raises UserError if that is not wanted."""
        if self._no_face == REFUSE:
            name, detector = encoding.name(image), self._detector[0]
            raise UserError(f"{name} shows no face that {detector} finds: {self._advice}")
        return Face(self._alignment.centre_points(*size))

    def _known_face(self, image: ImageSource) -> Face | None:
        if not self._known or not isinstance(image, str | os.PathLike):
            return None
        return self._known.get(os.path.abspath(os.fspath(image)))


def make(
    card: dict,
    path: str,
    options: FinderOptions,
    face_points: str | None = None,
    advice: str = _ADVICE,
) -> FaceFinder | None:
    """Makes the finder of an export; None if it takes crops.

    Args:
      card: the export's model card.
      path: of the export, for messages.
      options: how faces are found.
      face_points: a file of faces, with paths from its own folder on.
      advice: what to do about an image without a face, for its message.

    Raises:
      UserError: the file of faces cannot be used.
    """
    alignment = contract.preprocessing(card, path).alignment
    if alignment is None or options.detector == CROPS:
        return None
    return FaceFinder(alignment, contract.max_pixels(card), options, face_points, advice)


def take_points(points: np.ndarray, count: int) -> list[Face]:
    """Takes a caller's points, [count, 5, 2], or [5, 2] for one image, for faces.

    Raises:
      UserError: they have another shape.
    """
    given = np.asarray(points, np.float64)
    if given.size != 10 * count or given.shape[-2:] != (5, 2):
        shape = f"[{count}, 5, 2]" if count > 1 else "[5, 2]"
        raise UserError(f"points {list(given.shape)} do not fit: give {shape}")
    return [Face(each) for each in given.reshape(-1, 5, 2)]
