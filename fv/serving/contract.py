"""Names, limits, errors and model card of an export, shared with servers and clients.

Imports no TensorFlow.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from fv import files
from fv.conversion.image_files import JPEG_START
from fv.errors import UserError
from fv.preprocessing import Preprocessing

MODEL_NAME = "fv"
CARD = "model_card.json"  # in the folder of a version
IMAGE_A, IMAGE_B, IMAGE = "image_a", "image_b", "image"
POINTS_A, POINTS_B, POINTS = "points_a", "points_b", "points"
EMBEDDING_A, EMBEDDING_B, EMBEDDING = "embedding_a", "embedding_b", "embedding"
# By the signature of crops, that of whole images and points.
ALIGNED = {"serving_default": "serve_aligned", "embed": "embed_aligned"}
# The first bytes of each format.
FORMATS = JPEG, PNG, BMP, GIF = JPEG_START, b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8"
UNKNOWN = "is no JPEG, PNG, BMP or GIF: its first bytes are those of none"
SCAN = b"\xff\xda"  # marker before a scan of a JPEG
MOST_SCANS = 100  # decoding takes time in proportion; encoders write ten
TOO_MANY_SCANS = f"has more than {MOST_SCANS} scans"
LENGTH_TOLERANCE = 0.01  # of an embedding, whose length should be 1; float16 keeps 0.001

CARD_KEYS = {"fv", "model", "operating_point", "calibration"}  # by which a card of fv is recognised
INTENDED_USE = (
    "Saying whether two cropped face images are likely to show the same person, as one part of a "
    "decision that a person can review and reverse, on images like those the figures below were "
    "measured on."
)
BOXES_NOTE = (
    "the model was trained on images cut to boxes from a CSV, and cannot find the box in a new "
    "image: give images that are already cut to the face's box"
)
ALIGNED_NOTE = (
    "`serving_default` expects images that are already cut to one face and aligned, as the "
    "converter does it"
)
NO_DETECTOR = (
    "It does not detect faces: it compares the centre of what it is given, be that a face or not, "
    "and answers all the same."
)
LIMITS = (
    "Do not decide about anybody's liberty, work, credit, benefits or asylum by a score alone: at "
    "any threshold some strangers are accepted and some people rejected, at the rates below and at "
    "others on other images.",
    "Do not search a crowd or a gallery with it: false accepts grow with the number of "
    "comparisons, one for every 1 / FAR strangers on average.",
    NO_DETECTOR,
    "It does not detect photographs of photographs, masks or generated faces.",
    "The probability holds where as large a share of pairs is genuine as among the validation "
    "pairs. With prior odds o in place of theirs, multiply p / (1 - p) by o over theirs.",
    "Rates differ between groups of people. Nobody measured that here: measure it on your own "
    "pairs before use.",
    "Threshold and probability hold for images like the validation pairs. For another camera, crop "
    "or age gap, measure again: python -m fv.verify --pairs_csv.",
)

_MARKDOWN = "model_card.md"  # also the name of its template
_MAX_MEGAPIXELS = 50.0  # of an export whose card does not say; the default of --max_megapixels
_NAMED = re.compile(r"(\w+)\[(\d+)\]")

Inputs = Mapping[str, np.ndarray | Sequence[bytes]]  # arguments of a signature, [batch, …] each
Outputs = dict[str, np.ndarray]  # [batch, …] each


class InputError(UserError):
    """An input was refused. The message names argument and place, as in `image_b[3] is empty`."""


class Engine(Protocol):
    """What runs the signatures of an export: this process, others, or a server.

    Attributes:
      path: the version folder.
      card: content of the model card, {} if there is none.
      threshold: similarity from which on two images show the same person.
      embedding_size: numbers in an embedding.
    """

    path: str
    card: dict
    threshold: float
    embedding_size: int

    def run(self, signature: str, inputs: Inputs) -> Outputs: ...


def max_pixels(card: dict) -> int:
    """The most pixels of an image that the export of a model card takes."""
    return round(card.get("images", {}).get("max_megapixels", _MAX_MEGAPIXELS) * 1e6)


def preprocessing(card: dict, path: str) -> Preprocessing:
    """What was done to the training images of an export, whose folder is `path`."""
    return Preprocessing.from_json(card.get("preprocessing", {}), path)


def write_card(card: dict, folder: str) -> None:
    """Writes both files of a model card: what an export is, was measured on, and is not for.

    After Mitchell et al., Model Cards for Model Reporting (FAT* 2019). Nothing in a card depends on
    when or where it was written.
    """
    from fv import page  # only here: fv.verify does without templates

    card = card | {"intended_use": INTENDED_USE, "limits": list(LIMITS)}
    files.save_json(card, os.path.join(folder, CARD))
    text = page.render(
        _MARKDOWN,
        expected=describe_input(card["model"], card["preprocessing"]),
        point=card["operating_point"],
        **({"formats": None} | card),
    )
    with files.atomic_open(os.path.join(folder, _MARKDOWN)) as file:
        file.write(text)


def describe_input(model: dict, preprocessing: dict) -> str:
    """What images `serving_default` expects, and what the graph does to them.

    Args:
      model: the model's options.
      preprocessing: what the converter did to the training images (`fv.preprocessing`).
    """
    own = (
        f"the centre square of {model['crop_fraction']:g} of the shorter side, resized to "
        f"{model['image_size']} pixels"
    )
    wanted = "Give whole images, not cut in any way."
    if preprocessing.get("boxes"):
        wanted = f"{BOXES_NOTE[0].upper()}{BOXES_NOTE[1:]}."
    if preprocessing.get("alignment"):
        made = preprocessing["alignment"]
        wanted = (
            f"{ALIGNED_NOTE}. For photographs, `fv.verify` finds and aligns the face, and "
            "`serve_aligned` and `embed_aligned` align it by five points. The template is "
            f"InsightFace's, with a margin of {made['margin']:g}. The training faces were found by "
            f"{made['detector']}."
        )
    if "store_size" not in preprocessing:
        return f"{wanted} The graph takes {own}."
    part = "the image"
    if "crop_fraction" in preprocessing:
        part = f"the centre square of {preprocessing['crop_fraction']:g} of the shorter side"
    return (
        f"{wanted} As the converter did, the graph makes {part} smaller by area averages, to a "
        f"shorter side of {preprocessing['store_size']} pixels, and writes and reads it as JPEG of "
        f"quality {preprocessing['jpeg_quality']}. Of that it takes {own}."
    )


def points_of(image: str) -> str:
    """The name of the points of an image, as in points_a of image_a."""
    return image.replace(IMAGE, POINTS)


@contextlib.contextmanager
def use_names(names: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Names images in the block's InputError as its caller does, in place of image_a[0]."""
    try:
        yield
    except InputError as error:
        reason = str(error)
        found = _NAMED.match(reason)
        if not found or found[1] not in names:
            raise
        name = names[found[1]][int(found[2])]
        raise InputError(name + reason[found.end() :]) from error


def count_images(inputs: Inputs) -> int:
    """Images or embeddings among the arguments of a signature; points belong to their images."""
    return sum(len(value) for name, value in inputs.items() if not name.startswith(POINTS))
