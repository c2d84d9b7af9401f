"""Writes synthetic faces: a folder for each person, and `faces.json` with the settings."""

import contextlib
import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from fv import contact_sheets, face_files, files, ownership, workers
from fv.alignment import Face
from fv.errors import UserError
from fv.faces.canvas import look
from fv.faces.parameters import Appearance, Person, draw_appearance, draw_person
from fv.faces.renderer import render, render_jpeg
from fv.options import option, required
from fv.progress import Progress

RECORD = "faces.json"
POINTS, DRAWN = "faces.csv", "drawn"  # the file of points, and what it names as the detector
RENDERER = 2  # raise it when the same seed starts to draw other pixels
BATCH = 64  # images that a worker renders before it reports
SHEET_ROWS, SHEET_COLUMNS = 12, 10  # at most
SHEET_EXTENSIONS = (".png", ".jpg", ".jpeg")

# Photographs: a small, turned face anywhere.
WIDTH, HEIGHT = 640, 480  # pixels
_STREAM = 3  # of random numbers; person and appearance have 1 and 2
_SQUARE = 224  # pixels of a face, among which its points are sought
_SIZES = 80, 260  # pixels of a face's square in the photograph
_ANGLE = 25.0  # degrees to either side
_RAISED_MOUTH = 0.06  # over the face, as the renderer paints it


@dataclasses.dataclass(frozen=True)
class FacesOptions:
    """Options of `python tools/make_faces.py`."""

    output: str = required("Folder to write; it gets one folder per person.")
    identities: int = option(100, "Number of people.", lower=1, upper=1_000_000)
    images_per_identity: int = option(10, "Images of each person.", lower=1, upper=10_000)
    seed: int = option(0, "Fixes every person and image.", lower=0, upper=2**31)
    image_size: int = option(112, "Width and height in pixels.", lower=32, upper=1024)
    workers: int = option(0, "Processes that render; 0 is one per core.", lower=0, upper=512)
    points: bool = option(
        False, "Also write faces.csv, which has eyes, nose and mouth of every face."
    )
    photographs: bool = option(
        False,
        "Draw photographs of 640 × 480 pixels with a small, turned face anywhere, and faces.csv.",
    )
    contact_sheet: str | None = option(
        None, "PNG or JPEG file to draw: a row of images for each of the first people."
    )


def write_dataset(options: FacesOptions) -> int:
    """Renders the images that the output folder does not hold yet.

    The images do not depend on the number of workers. Each is there whole or not at all, so running
    the command again finishes a run that was killed. No file is ever removed or replaced.

    Returns:
      Number of images that this run rendered.

    Raises:
      UserError: the folder holds other files, or faces drawn from other settings.
    """
    _claim(options)
    missing = list(_missing(options))
    batches = [missing[start : start + BATCH] for start in range(0, len(missing), BATCH)]
    write = functools.partial(_write_batch, options)
    processes = min(options.workers or workers.available_cores(), len(batches))
    pool = workers.pool(processes, ["fv.faces.renderer"])
    total = options.identities * options.images_per_identity
    with (
        ownership.temporary_folder(options.output),  # keeps .fv/ while a worker may write into it
        Progress(total, "faces", "image", initial=total - len(missing)) as bar,
        pool if processes > 1 else contextlib.nullcontext(map) as run,
    ):
        for count in run(write, batches):
            bar.update(count)
        if options.points or options.photographs:
            _write_points(options, run)
    return len(missing)


def _write_points(options: FacesOptions, run: Callable) -> None:
    """Writes where the points of all faces are."""
    images = range(options.images_per_identity)
    batches = [[(person, image) for image in images] for person in range(options.identities)]
    faces = itertools.chain.from_iterable(run(functools.partial(_find_faces, options), batches))
    paths = (image_path("", *each) for each in itertools.chain.from_iterable(batches))
    found: dict[str, Face | None] = dict(zip(paths, faces, strict=True))
    with ownership.staged(options.output, [POINTS]) as staging:
        face_files.write(os.path.join(staging, POINTS), found, DRAWN)


def _find_faces(options: FacesOptions, batch: list[tuple[int, int]]) -> list[Face]:
    if options.photographs:
        return [draw_photograph(options.seed, *each)[1] for each in batch]
    return [draw_face(options.seed, *each, options.image_size) for each in batch]


def image_path(output: str, person: int, image: int) -> str:
    """Path of an image, as in output/person_00012/0003.jpg."""
    return os.path.join(output, f"person_{person:05d}", f"{image:04d}.jpg")


def read_images(options: FacesOptions, people: int, images: int) -> Iterator[np.ndarray]:
    """Yields the first images of the first people, person by person, each RGB uint8."""
    for person in range(people):
        for image in range(images):
            encoded = files.read_bytes(image_path(options.output, person, image))
            yield simplejpeg.decode_jpeg(encoded, "RGB")


def write_contact_sheet(options: FacesOptions) -> None:
    """Draws the first people of a finished folder into the file `options.contact_sheet`."""
    path = options.contact_sheet or ""
    people = min(options.identities, SHEET_ROWS)
    columns = min(options.images_per_identity, SHEET_COLUMNS)
    sheet = contact_sheets.tile(list(read_images(options, people, columns)), columns)
    with files.atomic_open(path, "wb") as file:
        Image.fromarray(sheet).save(file, "PNG" if path.lower().endswith(".png") else "JPEG")


def check_contact_sheet(path: str, output: str) -> None:
    """Checks that a contact sheet can be written to `path`.

    Raises:
      UserError: it cannot, or it would lie among the images of a person in `output`.
    """
    if os.path.dirname(os.path.dirname(os.path.realpath(path))) == os.path.realpath(output):
        raise UserError(
            f"--contact_sheet={path} is among the images of one person: give another folder"
        )
    if not path.lower().endswith(SHEET_EXTENSIONS):
        raise UserError(f"--contact_sheet={path} must end in {', '.join(SHEET_EXTENSIONS)}")
    if not files.is_folder(os.path.dirname(path) or "."):
        raise UserError(f"--contact_sheet={path} is in a folder that does not exist: make it first")


def _claim(options: FacesOptions) -> None:
    """Records the settings in a folder that is empty, or holds no other faces than asked for."""
    output, path = options.output, os.path.join(options.output, RECORD)
    names = ("seed", "image_size", "identities", "images_per_identity")
    asked = {name: getattr(options, name) for name in names} | {"renderer": RENDERER}
    if options.photographs:
        asked["image_size"] = WIDTH
    os.makedirs(output, exist_ok=True)
    if files.exists(path):
        _require_same(path, asked)
    elif any(not name.startswith((RECORD, ownership.PRIVATE)) for name in os.listdir(output)):
        raise UserError(f"{output} holds files that make_faces did not write: use an empty folder")
    files.save_json(asked, path)


def _require_same(path: str, asked: dict[str, int]) -> None:
    """Refuses a record of other faces; more people and images of the same seed are no others."""
    try:
        record = files.load_json(path)
        held = {name: int(record[name]) for name in asked}
    except (UserError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): give another --output") from error
    for name, value in asked.items():
        grows = name in ("identities", "images_per_identity") and held[name] < value
        if held[name] != value and not grows:
            raise UserError(
                f"{path} says {name}={held[name]}, not {value}: "
                "give another --output, or remove that folder first"
            )


def _missing(options: FacesOptions) -> Iterator[tuple[int, int]]:
    for person in range(options.identities):
        os.makedirs(os.path.dirname(image_path(options.output, person, 0)), exist_ok=True)
        for image in range(options.images_per_identity):
            if not files.is_taken(image_path(options.output, person, image)):
                yield person, image


def _write_batch(options: FacesOptions, batch: list[tuple[int, int]]) -> int:
    with ownership.temporary_folder(options.output) as folder:
        for person, image in batch:
            if options.photographs:
                encoded, _ = draw_photograph(options.seed, person, image)
            else:
                encoded = render_jpeg(options.seed, person, image, options.image_size)
            path = image_path(options.output, person, image)
            temporary = os.path.join(folder, os.path.basename(path))
            with files.atomic_open(path, "wb", temporary=temporary) as file:
                file.write(encoded)
    return len(batch)


def find_points(who: Person, how: Appearance, size: int) -> np.ndarray:
    """The five points (`fv.alignment`) of a drawn face in an image of `size` pixels, [5, 2]."""
    view, eyes, lips = look(how, who.head, _SQUARE), who.eyes, who.mouth
    face, mouth = (view.face_x, view.face_y), view.raised(_RAISED_MOUTH)
    nose = view.raised(who.nose.height)
    half = lips.width * (1.0 + 0.22 * how.smile - 0.12 * how.mouth_open)
    corner = who.mouth_height + lips.corners - 0.045 * how.smile
    wanted = (
        (face, -eyes.spacing, eyes.height),
        (face, eyes.spacing, eyes.height),
        (nose, 0.0, who.nose_base - 0.8 * who.nose.tip),
        (mouth, -half, corner),
        (mouth, half, corner),
    )
    points = []
    for (x, y), across, down in wanted:
        row, column = np.unravel_index(np.argmin(np.hypot(x - across, y - down)), x.shape)
        points.append((column, row))
    return (np.array(points) + 0.5) * (size / _SQUARE) - 0.5


def draw_face(seed: int, person: int, image: int, size: int) -> Face:
    """The face of `renderer.render_jpeg` with the same arguments."""
    points = find_points(draw_person(seed, person), draw_appearance(seed, person, image), size)
    return Face(points, (0.0, 0.0, float(size), float(size)))


def draw_photograph(seed: int, person: int, image: int) -> tuple[bytes, Face]:
    """JPEG of a photograph of a person, and the face in it."""
    who, how = draw_person(seed, person), draw_appearance(seed, person, image)
    rng = np.random.default_rng((seed, _STREAM, person, image))
    size = round(math.exp(rng.uniform(*np.log(_SIZES))))
    matrix = cv2.getRotationMatrix2D((size / 2,) * 2, rng.uniform(-_ANGLE, _ANGLE), 1.0)
    centre = np.array([rng.uniform(size / 2, side - size / 2) for side in (WIDTH, HEIGHT)])
    matrix = np.column_stack([matrix[:, :2], matrix[:, 2] + centre - size / 2])
    colours = rng.integers(40, 216, (3, 4, 3), np.uint8)
    photograph = cv2.resize(colours, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    drawn = render(who, how, size)
    cv2.warpAffine(drawn, matrix, (WIDTH, HEIGHT), photograph, borderMode=cv2.BORDER_TRANSPARENT)
    points = find_points(who, how, size) @ matrix[:, :2].T + matrix[:, 2]
    box = (*(centre - size / 2).tolist(), float(size), float(size))
    encoded = simplejpeg.encode_jpeg(photograph, 95, "RGB", "420", fastdct=False)
    return encoded, Face(points, box)
