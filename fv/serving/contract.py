"""Names, limits and errors of an export, its server and their clients. Imports no TensorFlow."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from fv.conversion import jpeg
from fv.errors import UserError
from fv.preprocessing import Preprocessing

MODEL_NAME = "fv"
CARD = "model_card.json"  # in the folder of a version
IMAGE_A, IMAGE_B, IMAGE = "image_a", "image_b", "image"
POINTS_A, POINTS_B, POINTS = "points_a", "points_b", "points"
EMBEDDING_A, EMBEDDING_B, EMBEDDING = "embedding_a", "embedding_b", "embedding"
# By the signature of crops, that of whole images and points.
ALIGNED = {"serving_default": "serve_aligned", "embed": "embed_aligned"}
FORMATS = JPEG, PNG, BMP, GIF = jpeg.START, b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8"  # first bytes
UNKNOWN = "is no JPEG, PNG, BMP or GIF: its first bytes are those of none"
SCAN = b"\xff\xda"  # marker before a scan of a JPEG
MOST_SCANS = 100  # decoding takes time in proportion; encoders write ten
TOO_MANY_SCANS = f"has more than {MOST_SCANS} scans"
LENGTH_TOLERANCE = 0.01  # of an embedding, whose length should be 1; float16 keeps 0.001

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
