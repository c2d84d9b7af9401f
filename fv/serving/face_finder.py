"""Finds the face in each image that a verifier gets: the caller's, a file's or a detector's."""

import os

import numpy as np

from fv import detection, face_files
from fv.alignment import Alignment, Face
from fv.conversion import formats
from fv.conversion import images as conversion
from fv.errors import UserError
from fv.serving import sources
from fv.serving.sources import ImageSource

REFUSE, CROP = "refuse", "crop"  # values of --no_face


class FaceFinder:
    """Finds faces for a model of aligned faces. Threads may share it."""

    def __init__(
        self,
        alignment: Alignment,
        max_pixels: int,
        detector: str = detection.MTCNN,
        detector_model: str | None = None,
        no_face: str = REFUSE,
        face_points: str | None = None,
    ):
        """Reads the file of faces; the detector is loaded when it is needed.

        Args:
          alignment: of the model's training images.
          max_pixels: most pixels of an image.
          detector, detector_model, no_face, face_points: as of `fv.serving.verifier.Verifier`.

        Raises:
          UserError: the file of faces cannot be used.
        """
        self._alignment, self._max_pixels = alignment, max_pixels
        self._detector, self._no_face = (detector, detector_model), no_face
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
            given = np.asarray(points, np.float64)
            if given.size != 10 * len(batch) or given.shape[-2:] != (5, 2):
                shape = f"[{len(batch)}, 5, 2]" if len(batch) > 1 else "[5, 2]"
                raise UserError(f"points {list(given.shape)} do not fit: give {shape}")
            return [Face(each) for each in given.reshape(-1, 5, 2)]
        faces = [self._known_face(image) for image in batch]
        unknown = [place for place, face in enumerate(faces) if face is None]
        sizes: list[tuple[int, int]] = []

        def decode(place: int) -> np.ndarray:
            try:
                pixels = conversion.decode_upright(encoded[place], self._max_pixels)
            except formats.BadImage as error:
                name = sources.name(batch[place])
                raise UserError(f"{name} cannot be used: {error}") from error
            sizes.append((pixels.shape[1], pixels.shape[0]))
            return pixels

        if unknown:
            detector = detection.load(*self._detector)
            found = detection.find_faces(detector, map(decode, unknown))
            for place, face, size in zip(unknown, found, sizes, strict=True):
                faces[place] = face or self._centre(batch[place], size)
        return [face for face in faces if face]

    def _centre(self, image: ImageSource, size: tuple[int, int]) -> Face:
        """The centre of an image without a face; raises UserError if that is not wanted."""
        if self._no_face == REFUSE:
            raise UserError(
                f"{sources.name(image)} shows no face that {self._detector[0]} finds: give its "
                "points, or --no_face=crop if it is cut to the face"
            )
        return Face(self._alignment.centre_points(*size))

    def _known_face(self, image: ImageSource) -> Face | None:
        if not self._known or not isinstance(image, str | os.PathLike):
            return None
        return self._known.get(os.path.abspath(os.fspath(image)))
