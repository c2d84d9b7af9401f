"""The images that callers give: their bytes for the exported graph, and the faces in them."""

import dataclasses
import io
import os
from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
from PIL import Image

from fv import detection, errors, face_files, files
from fv.alignment import Alignment, Face
from fv.conversion import image_files, storage
from fv.errors import UserError
from fv.options import option
from fv.serving import contract

ImageSource = str | os.PathLike | bytes | np.ndarray | Image.Image
Batch = Sequence[ImageSource] | np.ndarray
_TAKEN = "a path, bytes, a uint8 array [height, width, 3 or 4] or [height, width], or a PIL image"
_DECODED_BY_GRAPH = (contract.JPEG, contract.PNG, contract.GIF)
CROPS = "none"  # value of --detector
REFUSE, CROP = "refuse", "crop"  # values of --no_face
_GREY = 128
_ADVICE = "give its points, or --no_face=crop if it is cut to the face"


def encode(image: ImageSource, max_pixels: int) -> bytes:
    """Returns the bytes of a JPEG, PNG or GIF as they are, and any other image as a PNG.

    The converter's code decodes PIL images and what the graph does not (BMP, WebP, TIFF, PPM, PGM).

    Args:
      image: path of an image file; its bytes; uint8 array [height, width, 3] in RGB, [height,
        width, 4] with opacity, or [height, width] in grey; or a PIL image, whose EXIF orientation
        is applied.
      max_pixels: the most pixels that an image decoded here may have.

    Raises:
      UserError: none of these, a path that is no file, or an image that does not decode.
      TemporaryError: a file could not be read, and this may pass.
    """
    try:
        if isinstance(image, np.ndarray):
            return _encode_pixels(_check_array(image))
        if isinstance(image, bytes):
            return _encode_file(image, max_pixels)
        if isinstance(image, str | os.PathLike):
            return _encode_file(_read(os.fspath(image)), max_pixels)
        if isinstance(image, Image.Image):
            # Checked before a lazy image takes memory.
            image_files.check_size(image.width, image.height, max_pixels)
            return _encode_pixels(image_files.to_rgb(image))
    except image_files.BadImage as error:
        raise UserError(f"{name_image(image)} cannot be used: {error}") from error
    raise UserError(f"{type(image).__name__} is no image: give {_TAKEN}")


def name_image(image: ImageSource) -> str:
    """What an image is called in a message."""
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    if isinstance(image, bytes):
        return f"an image of {len(image):,} bytes"
    return "an array" if isinstance(image, np.ndarray) else "a PIL image"


def count_pixels(image: bytes | np.ndarray) -> int:
    """Pixels of an encoded image according to its header, or of an array; 0 for what is none."""
    if isinstance(image, np.ndarray):
        return image.shape[0] * image.shape[1] if image.ndim == 3 else 0
    try:
        with Image.open(io.BytesIO(image), formats=("JPEG", "PNG", "BMP", "GIF")) as opened:
            return opened.width * opened.height
    except Exception:  # Pillow's plugins raise what they like on damaged files
        return 0


def as_batch(images: ImageSource | Batch) -> list[ImageSource]:
    """The images of a batch, or a single image as a batch of one."""
    return list(images) if is_batch(images) else [images]  # type: ignore[list-item]


def is_batch(images: ImageSource | Batch) -> TypeGuard[Batch]:
    """Whether this is a list or tuple of images, or an array [batch, height, width, 3 or 4]."""
    return isinstance(images, list | tuple) or (isinstance(images, np.ndarray) and images.ndim == 4)


def _read(path: str) -> bytes:
    try:
        if files.is_file(path):
            with open(path, "rb") as file:
                return file.read()
    except OSError as error:
        errors.raise_if_temporary(error)
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    raise UserError(f"{path} is no file")


def _encode_file(data: bytes, max_pixels: int) -> bytes:
    # The graph itself refuses an empty file.
    if not data or (
        data.startswith(_DECODED_BY_GRAPH) and not image_files.is_cmyk_without_adobe(data)
    ):
        return data
    return _encode_pixels(image_files.decode(data, max_pixels))


def _check_array(image: np.ndarray) -> np.ndarray:
    is_image = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
    if image.dtype != np.uint8 or not is_image or 0 in image.shape:
        raise UserError(f"an array {image.dtype} {list(image.shape)} is no image: give {_TAKEN}")
    return image


def _encode_pixels(pixels: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    # A higher level takes longer than the network.
    Image.fromarray(np.ascontiguousarray(pixels)).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()


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
        """Reads the file of faces; the detector is loaded when it is needed. See `make_finder`."""
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
            except image_files.BadImage as error:
                name = name_image(batch[place])
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
            name, detector = name_image(image), self._detector[0]
            raise UserError(f"{name} shows no face that {detector} finds: {self._advice}")
        return Face(self._alignment.centre_points(*size))

    def _known_face(self, image: ImageSource) -> Face | None:
        if not self._known or not isinstance(image, str | os.PathLike):
            return None
        return self._known.get(os.path.abspath(os.fspath(image)))


def make_finder(
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
