"""A record of what the converter did to images, and a JPEG loader without TensorFlow.

The record is in a manifest, in a model (model.json) and in an export, which applies it and states
it in its card. Whatever takes an image file for a model repeats these steps (`fv.preprocess.store`)
before the model's own crop and resize.
"""

import dataclasses
import threading

import cv2
import numpy as np
import simplejpeg

from fv.alignment import Alignment
from fv.errors import UserError

WHOLE = "none"  # value of --crop: nothing is cut off
AREA = "area"  # exact area averages
# In place of a digest: an older manifest names the CSV of boxes, but not its content.
UNKNOWN = "unknown"
CHANNELS = 3
AVERAGED_FROM = 2  # ratio of sides from which on area averages make a square smaller
_FIRST_BYTES = (
    1 << 20
)  # of a loader's memory for pixels, 590 × 590 of them; it grows with the images
_DIGEST_SHOWN = 12  # hexadecimal digits
_JPEG_QUALITY = 95  # the converter's default, for a manifest whose flags do not say

# One image is no work to share, and OpenCV's threads would compete with whatever else decodes.
cv2.setNumThreads(0)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What was done to images before they were stored.

    A field that is None stands for a step that was not done. Only the other fields are saved, so a
    new field with the default None changes no record without it.

    Attributes:
      crop_fraction: side of the stored centre square over the shorter side, in (0, 1]; None for the
        whole image or a box.
      boxes: SHA-256 of the CSV whose boxes were stored, or `UNKNOWN`; None without boxes.
      store_size: most pixels of a stored image's shorter side; larger images were made smaller.
      resampling: how they were made smaller.
      jpeg_quality: of every image where there is a `store_size`, else of those that could not be
        stored as they were.
      alignment: how faces were aligned to squares of `store_size`; None where they were not.
    """

    crop_fraction: float | None = None
    boxes: str | None = None
    store_size: int | None = None
    resampling: str = AREA
    jpeg_quality: int = _JPEG_QUALITY
    alignment: Alignment | None = None

    def __str__(self) -> str:
        """The converter's flags."""
        crop = f"--crop={WHOLE if self.crop_fraction is None else self.crop_fraction}"
        if self.boxes:
            crop = f"--crop=CSV of boxes (SHA-256 {self.boxes[:_DIGEST_SHOWN]})"
        if self.alignment:
            crop = str(self.alignment)
        return crop if self.store_size is None else f"{crop} --store_size={self.store_size}"

    @property
    def cuts(self) -> bool:
        """Whether a part of an image was cut off that the model's own centre square would keep."""
        return bool(self.boxes or self.alignment) or self.centre < 1.0

    @property
    def centre(self) -> float:
        """Side of the centre square that was kept, over the shorter side.

        The model cuts the same square from a whole image as from one of 1.0.
        """
        return 1.0 if self.crop_fraction is None else self.crop_fraction

    def same_crop(self, other: "Preprocessing") -> bool:
        """Whether both keep the same part of an image.

        Boxes of any two CSVs count as the same, and so do the faces of any two detectors.
        """
        if self.alignment or other.alignment:
            return self.alignment is not None and self.alignment.same_place(other.alignment)
        if self.boxes is None or other.boxes is None:
            return self.boxes == other.boxes and self.centre == other.centre
        return True

    def same_boxes(self, other: "Preprocessing") -> bool:
        """Whether both have the boxes of one CSV, or none; those of an unknown CSV may be any."""
        return self.boxes == other.boxes or UNKNOWN in (self.boxes, other.boxes)

    def to_json(self) -> dict:
        """The fields that are not None."""
        return {
            name: value for name, value in dataclasses.asdict(self).items() if value is not None
        }

    @classmethod
    def from_flags(cls, crop: str, store_size: int | None, jpeg_quality: int) -> "Preprocessing":
        """The record of a conversion by its flags; the digest of boxes is left `UNKNOWN`."""
        if crop == WHOLE:
            return cls(None, None, store_size, AREA, jpeg_quality)
        try:
            return cls(float(crop), None, store_size, AREA, jpeg_quality)
        except ValueError:  # the path of a CSV
            return cls(None, UNKNOWN, store_size, AREA, jpeg_quality)

    @classmethod
    def from_flagfile(cls, flags: str) -> "Preprocessing | None":
        """The record of a conversion by the flagfile in a manifest; None if it is not there."""
        given = dict(
            line.removeprefix("--").split("=", 1) for line in flags.splitlines() if "=" in line
        )
        if "images" not in given:
            return None
        size = given.get("store_size")
        quality = int(given.get("jpeg_quality", _JPEG_QUALITY))
        return cls.from_flags(
            given.get("crop", WHOLE), None if size is None else int(size), quality
        )

    @classmethod
    def from_json(cls, fields: dict | None, source: str) -> "Preprocessing | None":
        """Reads what `to_json` gave; None for None, which stands for a record that is not known.

        Args:
          fields: the record.
          source: the file that holds it, for messages.

        Raises:
          UserError: a newer fv wrote it, with a step that this one does not know.
        """
        if fields is None:
            return None
        unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(cls)})
        if fields.get("resampling", AREA) != AREA:
            unknown.append(f"resampling={fields['resampling']}")
        if unknown:
            raise UserError(
                f"{source} describes preprocessing that this fv does not know "
                f"({', '.join(unknown)}): use the fv that wrote it"
            )
        if fields.get("alignment"):
            fields = fields | {"alignment": Alignment.from_json(fields["alignment"], source)}
        return cls(**fields)

    def fits(self, trained_on: "Preprocessing", image_size: int, crop_fraction: float) -> bool:
        """Whether a model trained on images of one record may be given images of this one.

        Both must keep the same part of an image. Stored sizes may differ where both hold at least
        the pixels that the network takes: then no image is enlarged, and only resampling differs.

        Args:
          trained_on: of the images that the model was trained on.
          image_size: side of the network's input in pixels.
          crop_fraction: side of the centre square that the model takes of a stored image.
        """
        sizes = {self.store_size, trained_on.store_size}
        enough = all(size is None or round(size * crop_fraction) >= image_size for size in sizes)
        return self.same_crop(trained_on) and (len(sizes) == 1 or enough)


class Loader:
    """Loads images one after the other.

    It reuses its memory for pixels: new memory for each image would cost page faults.
    """

    def __init__(self):
        self._pixels = bytearray(_FIRST_BYTES)
        # Of the image before: the next one is most likely like it.
        self._shape: tuple[int, ...] | None = None
        self._crop_fraction: float | None = None
        self._window: tuple[slice, slice] | None = None

    def load(self, encoded: bytes, crop_fraction: float, result: np.ndarray) -> None:
        """As `load_jpeg`; not for several threads at once."""
        in_place = self._shape == result.shape and crop_fraction == 1.0
        image = _decode_over(encoded, result) if in_place else self._decode(encoded)
        if image is result:
            return
        if image is None:
            image = self._decode(encoded)
        if image.shape != self._shape or crop_fraction != self._crop_fraction:
            self._shape, self._crop_fraction = image.shape, crop_fraction
            height, width = image.shape[:2]
            top, left, side = centre_window(height, width, crop_fraction)
            self._window = slice(top, top + side), slice(left, left + side)
        window = image[self._window]
        if window.shape == result.shape:
            result[:] = window
        else:
            averaged = window.shape[0] >= AVERAGED_FROM * result.shape[0]
            cv2.resize(
                window,
                result.shape[:2],
                result,
                interpolation=cv2.INTER_AREA if averaged else cv2.INTER_LINEAR,
            )

    def _decode(self, encoded: bytes) -> np.ndarray:
        try:
            return simplejpeg.decode_jpeg(encoded, "RGB", buffer=self._pixels)
        except ValueError:  # too little memory; or no JPEG, which is then refused again
            height, width, _, _ = simplejpeg.decode_jpeg_header(encoded)
            self._pixels = bytearray(max(height * width * CHANNELS, _FIRST_BYTES))
            return simplejpeg.decode_jpeg(encoded, "RGB", buffer=self._pixels)


class _ThreadLoader(threading.local):
    def __init__(self):
        self.loader = Loader()


_thread = _ThreadLoader()


def load_jpeg(encoded: bytes, crop_fraction: float, result: np.ndarray) -> None:
    """`fv.preprocess.load_jpeg` in simplejpeg and OpenCV: faster, and without TensorFlow.

    Decoded pixels are equal bit for bit, resized ones to within one level of 255. The interpreter's
    lock is free meanwhile.

    Args:
      encoded: the bytes of a JPEG.
      crop_fraction: side of the centre square over the image's shorter side, in (0, 1].
      result: uint8 [image_size, image_size, 3], RGB, which is written.

    Raises:
      ValueError: simplejpeg refuses it; TensorFlow's decoder may yet take it.
    """
    _thread.loader.load(encoded, crop_fraction, result)


def centre_window(height: int, width: int, crop_fraction: float) -> tuple[int, int, int]:
    """(top, left, side) of the centre square of an image, in float32 as in the graph."""
    side = max(1, int(np.rint(np.float32(min(height, width)) * np.float32(crop_fraction))))
    return (height - side) // 2, (width - side) // 2, side


def _decode_over(encoded: bytes, result: np.ndarray) -> np.ndarray | None:
    """Decodes into `result` and returns it.

    Returns a copy of a smaller image, and None for a larger or a damaged one.
    """
    try:
        image = simplejpeg.decode_jpeg(encoded, "RGB", buffer=result)
    except ValueError:
        return None
    return result if image.shape == result.shape else image.copy()
