"""`faces.json`: what a folder of faces was made with, so that no run mixes two worlds."""

import dataclasses
import os
from collections.abc import Callable

from fv import files, ownership
from fv.errors import UserError

FILE_NAME = "faces.json"
RENDERER = 1  # raise it when the same seed starts to draw other pixels


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the bytes of a folder of faces."""

    seed: int
    image_size: int
    identities: int
    images_per_identity: int
    renderer: int = RENDERER


def settings_of(options) -> Settings:
    """The settings in a `fv.faces.dataset.FacesOptions`."""
    return Settings(
        options.seed, options.image_size, options.identities, options.images_per_identity
    )


def person_name(identity: int) -> str:
    """Name of the folder of person number `identity`."""
    return f"person_{identity:05d}"


def image_name(image: int) -> str:
    """Name of the file of image number `image`."""
    return f"{image:04d}.jpg"


def claim(
    output: str, settings: Settings, overwrite: bool, find_changed: Callable[[Settings], list[str]]
) -> None:
    """Makes `output` the folder of these settings: new, begun by an earlier run, or smaller than asked.

    Args:
      output: folder; created where there is none.
      settings: what is asked for.
      overwrite: whether to remove the faces of other settings first.
      find_changed: names of the images of some settings that are there and are not what these draw.

    Raises:
      UserError: it holds faces made otherwise and `overwrite` is off, or files that are no faces of ours.
    """
    os.makedirs(output, exist_ok=True)
    held = read(output)
    ours = (FILE_NAME, ownership.PRIVATE)
    if held is None and any(not name.startswith(ours) for name in os.listdir(output)):
        raise UserError(
            f"{output} holds files that make_faces did not write: choose an empty folder"
        )
    if held is not None and overwrite:
        if held.renderer != RENDERER:
            raise UserError(
                f"{output} holds faces of another fv: remove them, or give another --output"
            )
        ownership.require_none(find_changed(held), output)
        _remove(output, held)
    elif held is not None:
        _check(output, held, settings)
    files.save_json(dataclasses.asdict(settings), os.path.join(output, FILE_NAME))


def read(output: str) -> Settings | None:
    """The settings that a folder records, None where it records none.

    Raises:
      UserError: its record is not one of ours.
    """
    path = os.path.join(output, FILE_NAME)
    if not os.path.exists(path):
        return None
    try:
        return Settings(**files.load_json(path))
    except (UserError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}): choose another folder, or remove this one"
        ) from error


def names(folder: str) -> set[str]:
    """Names of the files in a person's folder, which need not be there."""
    return set(os.listdir(folder)) if os.path.isdir(folder) else set()


def _check(output: str, held: Settings, asked: Settings) -> None:
    for field in ("seed", "image_size", "renderer"):
        if getattr(held, field) != getattr(asked, field):
            _refuse(output, field, held, asked)
    for field in ("identities", "images_per_identity"):
        if getattr(held, field) > getattr(asked, field):
            _refuse(output, field, held, asked)


def _refuse(output: str, field: str, held: Settings, asked: Settings) -> None:
    values = f"{field}={getattr(held, field)}, not {getattr(asked, field)}"
    raise UserError(
        f"{output} holds faces made with {values}: give --overwrite to remove them, or another --output"
    )


def _remove(output: str, held: Settings) -> None:
    """Removes the images that `held` describes, then the folders that this leaves empty."""
    for identity in range(held.identities):
        folder = os.path.join(output, person_name(identity))
        for name in {image_name(image) for image in range(held.images_per_identity)}.intersection(
            names(folder)
        ):
            os.remove(os.path.join(folder, name))
        if os.path.isdir(folder) and not os.listdir(folder):
            os.rmdir(folder)
