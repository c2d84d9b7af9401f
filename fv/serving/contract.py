"""Names that an export, its server and their clients share. Imports no TensorFlow."""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from fv.conversion import jpeg
from fv.errors import UserError

MODEL_NAME = "fv"
IMAGE_A, IMAGE_B, IMAGE = "image_a", "image_b", "image"
POINTS_A, POINTS_B, POINTS = "points_a", "points_b", "points"
EMBEDDING_A, EMBEDDING_B, EMBEDDING = "embedding_a", "embedding_b", "embedding"
# By the signature of crops, that of whole images and points.
ALIGNED = {"serving_default": "serve_aligned", "embed": "embed_aligned"}
JPEG, PNG, BMP, GIF = jpeg.START, b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8"  # first bytes

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


def points_of(image: str) -> str:
    """The name of the points of an image, as in points_a of image_a."""
    return image.replace(IMAGE, POINTS)


def name_image(reason: str, names: Mapping[str, Sequence[str]]) -> str:
    """The message of an InputError, with the caller's name for an image in place of image_a[0]."""
    found = _NAMED.match(reason)
    if not found or found[1] not in names:
        return reason
    return names[found[1]][int(found[2])] + reason[found.end() :]


def count_images(inputs: Inputs) -> int:
    """Images or embeddings among the arguments of a signature; points belong to their images."""
    return sum(len(value) for name, value in inputs.items() if not name.startswith(POINTS))
