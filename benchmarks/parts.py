"""What benchmarks of several parts share: the choice of parts, and the images of a folder."""

import pathlib
from collections.abc import Callable, Sequence

from fv import files
from fv.errors import UserError


def run(
    chosen: str, known: Sequence[str], measure: Callable[[str], dict], json: str | None
) -> None:
    """Measures parts one after the other, and prints their figures.

    Args:
      chosen: the value of --parts, names with commas.
      known: all names.
      measure: name → figures.
      json: file to write the figures to, if any.

    Raises:
      UserError: there is no such part.
    """
    found = {}
    for part in chosen.split(","):
        if part not in known:
            raise UserError(f"--parts={chosen}: '{part}' is none of {', '.join(known)}")
        found[part] = measure(part)
    print(files.to_json(found, indent=2))
    if json:
        files.save_json(found, json)


def read_images(folder: str, count: int) -> list[bytes]:
    """Returns the first images of a folder that holds one folder of JPEG images per person.

    Raises:
      UserError: there are fewer.
    """
    paths = sorted(pathlib.Path(folder).glob("*/*.jpg"))[:count]
    if len(paths) < count:
        found = f"{folder} holds {len(paths)} JPEG images in folders of people"
        raise UserError(f"{found}: give one with {count}")
    return [path.read_bytes() for path in paths]
