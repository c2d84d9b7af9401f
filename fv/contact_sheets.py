"""Contact sheets: many images in one picture, for a person to judge."""

from collections.abc import Sequence

import numpy as np


def tile(images: Sequence[np.ndarray], columns: int, gap: int = 2) -> np.ndarray:
    """Arranges images of one size in rows, from left to right and top to bottom.

    Args:
      images: at least one, each (height, width, 3) uint8.
      columns: images in a row.
      gap: white pixels between two images.

    Returns:
      The sheet, (height, width, 3) uint8.
    """
    height, width, channels = images[0].shape
    columns, rows = min(columns, len(images)), -(-len(images) // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    sheet = np.full(shape, 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet
