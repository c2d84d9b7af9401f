"""A record of what the converter did to images before it stored them.

The record is in a manifest, in a model (model.json) and in an export, which applies it and states
it in its card. Whatever takes an image file for a model repeats these steps (`fv.image_ops.store`)
before the model's own crop and resize.
"""

import dataclasses

from fv.alignment import Alignment
from fv.errors import UserError

WHOLE = "none"  # value of --crop: nothing is cut off
AREA = "area"  # exact area averages
# In place of the digest of a CSV that was not read.
UNKNOWN = "unknown"
_DIGEST_SHOWN = 12  # hexadecimal digits


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
    jpeg_quality: int = 95
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
    def from_json(cls, fields: dict, source: str) -> "Preprocessing":
        """Reads what `to_json` gave.

        Args:
          fields: the record.
          source: the file that holds it, for messages.

        Raises:
          UserError: a newer fv wrote it, with a step that this one does not know.
        """
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
