"""Files of faces: a CSV or Parquet file with five points or a box for each image."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fv import alignment, files, tables
from fv.alignment import Face
from fv.errors import UserError

POINT_NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
POINT_COLUMNS = tuple(f"{name}_{axis}" for name in POINT_NAMES for axis in "xy")
BOX_COLUMNS = ("x", "y", "width", "height")
_COLUMNS = ("path", "detector", "faces", "confidence", *BOX_COLUMNS, *POINT_COLUMNS)


def read(path: str) -> tuple[dict[str, Face | None], str]:
    """Reads the faces of images from a CSV or Parquet file.

    Its columns are `path` and either `POINT_COLUMNS` or `BOX_COLUMNS`; a row whose numbers are
    blank is an image without a face. `detector`, `confidence` and `faces` are read if they are
    there, other columns are not.

    Returns:
      The face of each image by its path, and what found them.

    Raises:
      UserError: the file is no such table, or names an image twice.
      OSError: no such file.
    """
    rows = _read_table(path)
    columns = POINT_COLUMNS if POINT_COLUMNS[0] in rows else BOX_COLUMNS
    tables.require_columns(path, rows.names, columns)
    faces: dict[str, Face | None] = {}
    for row, name in enumerate(rows["path"]):
        image = tables.normal_path(name, rows.place(row))
        if image in faces:
            raise UserError(
                f"{rows.place(row)}: a second face for {image}: give one for each image"
            )
        faces[image] = _read_face(rows, row, columns)
    named = {text.strip() for text in rows["detector"]} - {""} if "detector" in rows else set()
    detector = ", ".join(sorted(named)) or alignment.GIVEN
    return {tables.without_blanks(image): face for image, face in faces.items()} | faces, detector


def write(path: str, faces: Mapping[str, Face | None], detector: str) -> None:
    """Writes a CSV that `read` reads, and a person can edit."""
    rows = []
    for image, face in sorted(faces.items()):
        row: dict[str, object] = {"path": image, "detector": detector}
        if face:
            row["faces"] = face.faces
            if face.confidence is not None:
                row["confidence"] = f"{face.confidence:.4f}"
            row |= {name: f"{x:.2f}" for name, x in zip(BOX_COLUMNS, face.box or (), strict=False)}
            numbers = zip(POINT_COLUMNS, face.points.ravel(), strict=True)
            row |= {name: f"{x:.2f}" for name, x in numbers}
        rows.append(row)
    tables.write(path, pd.DataFrame(rows, columns=_COLUMNS, dtype=object).fillna(""))


def _read_table(path: str) -> tables.Rows:
    """Reads a CSV, or a Parquet file as if it were one."""
    if not path.endswith(".parquet"):
        return tables.read(path, ("path",))
    try:
        with files.open_bytes(path) as file:
            table = pd.read_parquet(file)
    except ImportError as error:
        raise UserError(f"{path}: Parquet files need pyarrow: pip install 'fv[parquet]'") from error
    except (ValueError, NotImplementedError, OSError) as error:  # of pyarrow
        if getattr(error, "errno", None):  # of the disk
            raise
        raise UserError(f"{path} is no Parquet file ({error}): give one, or a CSV") from error
    tables.require_columns(path, list(table), ("path",))
    # Other columns may hold lists, such as embeddings.
    names = [name for name in table if name in _COLUMNS]
    texts = [["" if np.all(pd.isna(each)) else str(each) for each in table[name]] for name in names]
    return tables.Rows(path, names, texts, range(1, len(table) + 1))


def _read_face(rows: tables.Rows, row: int, columns: Sequence[str]) -> Face | None:
    texts = [rows[name][row].strip() for name in columns]
    if not any(texts):
        return None
    numbers = [tables.parse_number(text) for text in texts]
    if None in numbers:
        wrong = columns[numbers.index(None)], texts[numbers.index(None)]
        raise UserError(
            f"{rows.place(row)}: {wrong[0]} '{wrong[1]}' is no number of pixels: give one, or "
            f"leave all of {columns[0]} to {columns[-1]} blank for an image without a face"
        )
    values = np.array(numbers, np.float64)
    if columns is BOX_COLUMNS and min(values[2:]) <= 0:
        size = f"{texts[2]} × {texts[3]}"
        raise UserError(f"{rows.place(row)}: a box of {size} pixels is empty")

    def optional(names: Sequence[str]) -> list[float]:
        """The numbers of columns that need not be there; [] if one is missing or blank."""
        found = [tables.parse_number(rows[name][row]) for name in names if name in rows]
        whole = [number for number in found if number is not None]
        return whole if len(whole) == len(names) else []

    left, top, width, height = optional(BOX_COLUMNS) or [math.nan] * 4
    points = values.reshape(5, 2) if columns is POINT_COLUMNS else alignment.points_of_box(values)
    face = Face(
        points,
        None if math.isnan(left) else (left, top, width, height),
        next(iter(optional(["confidence"])), None),
        int(next(iter(optional(["faces"])), 1)),
    )
    try:
        alignment.estimate_similarity(face.points, alignment.TEMPLATE)
    except UserError as error:
        raise UserError(f"{rows.place(row)}: {error}") from error
    return face
