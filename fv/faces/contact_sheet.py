"""One picture of many faces: a row for each person, for a human to judge."""

import os

import numpy as np
from PIL import Image

from fv import files
from fv.errors import UserError
from fv.faces import camera, dataset

ROWS, COLUMNS = 12, 10  # at most
GAP = 2  # pixels between images
PAPER = 255
EXTENSIONS = (".png", ".jpg", ".jpeg")


def draw_contact_sheet(options: dataset.FacesOptions) -> None:
    """Draws the first people of a finished folder into the file `options.contact_sheet`."""
    rows = min(options.identities, ROWS)
    columns = min(options.images_per_identity, COLUMNS)
    pitch = options.image_size + GAP
    sheet = np.full((rows * pitch - GAP, columns * pitch - GAP, 3), PAPER, np.uint8)
    for row in range(rows):
        for column in range(columns):
            tile = sheet[row * pitch :, column * pitch :][
                : options.image_size, : options.image_size
            ]
            tile[:] = _read(dataset.image_path(options.output, row, column))
    with files.atomic_open(options.contact_sheet, "wb") as file:
        Image.fromarray(sheet).save(
            file, Image.registered_extensions()[_extension(options.contact_sheet)]
        )


def check_path(path: str, output: str) -> None:
    """Raises:
    UserError: a contact sheet cannot be written to `path`, or it would lie among a person's images in `output`.
    """
    if os.path.dirname(os.path.dirname(os.path.realpath(path))) == os.path.realpath(output):
        raise UserError(
            f"--contact_sheet={path} is among the images of one person: give another folder"
        )
    if _extension(path) not in EXTENSIONS:
        raise UserError(f"--contact_sheet={path} must end in one of {', '.join(EXTENSIONS)}")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise UserError(f"--contact_sheet={path} is in a folder that does not exist: make it first")


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _read(path: str) -> np.ndarray:
    with open(path, "rb") as file:
        return camera.decode(file.read())
