"""A few validation pairs with their scores, in one picture."""

import numpy as np
from PIL import Image, ImageDraw

_COLUMNS = 4  # pairs beside each other
_GAP, _CAPTION = 6, 16  # pixels: around a pair, below it
_LEAST_SIDE = 64  # pixels; smaller images are shown larger, for the caption to fit below
_PAPER, _RIGHT, _WRONG = "white", "#1a7f37", "#cf222e"
_NAMES = ("impostor", "genuine")


def choose(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of the pairs to show: the first genuine and the first impostor ones, as many of each as there are up to half.

    Args:
      labels: int [pairs], 1 for a genuine pair.
      count: how many to show at most.
    """
    halves = [np.flatnonzero(labels == label)[: count // 2] for label in (1, 0)]
    return np.concatenate(halves)


def draw(
    images: np.ndarray, labels: np.ndarray, similarities: np.ndarray, threshold: float
) -> np.ndarray:
    """Draws pairs, each with its label and similarity below it, green where similarity >= threshold decides rightly.

    Args:
      images: uint8 [pairs, 2, side, side, 3].
      labels: int [pairs], 1 for a genuine pair.
      similarities: float [pairs].
      threshold: of the decision.

    Returns:
      uint8 [height, width, 3], RGB.
    """
    zoom = -(-_LEAST_SIDE // images.shape[2])
    images = images.repeat(zoom, axis=2).repeat(zoom, axis=3)
    side = images.shape[2]
    pitch_x, pitch_y = 2 * side + _GAP, side + _CAPTION + _GAP
    columns = min(_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * pitch_x + _GAP, rows * pitch_y + _GAP), _PAPER)
    for index, (pair, label, similarity) in enumerate(
        zip(images, labels, similarities, strict=True)
    ):
        corner = (_GAP + index % columns * pitch_x, _GAP + index // columns * pitch_y)
        sheet.paste(Image.fromarray(np.hstack(pair)), corner)
        colour = _RIGHT if (similarity >= threshold) == bool(label) else _WRONG
        caption = f"{_NAMES[label]} {similarity:.3f}"
        ImageDraw.Draw(sheet).text((corner[0], corner[1] + side + 2), caption, fill=colour)
    return np.asarray(sheet)
