"""The faces of a data set's images: read from a file, or found by a detector in worker processes.

Detection costs more than everything else in a conversion, so every block of images that is done is
kept in OUTPUT/.fv/faces until the data set is finished, and `FILE` beside the shards holds all.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import itertools
import multiprocessing
import os
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from fv import alignment, detection, errors, face_files, files, ownership, progress, workers
from fv.alignment import Alignment, Face
from fv.conversion import image_files, sources, storage
from fv.conversion.datasets import Place
from fv.errors import TemporaryError, UserError
from fv.options import option

FILE = "faces.csv"
BLOCKS = "faces"  # folder in the output's .fv/
SKIP, CENTRE = "skip", "centre"
_IMAGES_PER_TASK = 64
_DECIMALS = 2  # of pixels, as in the CSV
_CONFIDENCE_DECIMALS = 4
_UNREADABLE = -1.0  # in place of the number of faces


@dataclasses.dataclass(frozen=True)
class FaceOptions:
    """Where faces come from."""

    face_points: str | None = option(
        None,
        "CSV or Parquet file of faces: path and left_eye_x, left_eye_y, right_eye_x, …, nose_x, …, "
        "left_mouth_x, …, right_mouth_y, or path,x,y,width,height; left is left in the image.",
    )
    detector: str | None = option(
        None,
        "Find and align faces: mtcnn (pip install 'fv[align]') or yunet (OpenCV).",
        choices=detection.DETECTORS,
    )
    detector_model: str | None = option(None, "ONNX file of --detector=yunet.")
    no_face: str = option(
        SKIP,
        "What becomes of an image without a face: skip leaves it out and reports it, centre takes "
        "its centre square.",
        choices=(SKIP, CENTRE),
    )

    @property
    def given(self) -> bool:
        """Whether faces are aligned at all."""
        return bool(self.face_points or self.detector)

    @property
    def source(self) -> str | None:
        """What finds the faces: the file, or the detector."""
        return self.face_points or self.detector


@dataclasses.dataclass(frozen=True)
class Faces:
    """The faces of images by path, None for an image without one, and how they are aligned.

    `source` is the file or the detector, for messages. The images that could not be read or decoded
    are in `unreadable` only.
    """

    alignment: Alignment
    by_path: dict[str, Face | None]
    no_face: str
    source: str
    unreadable: frozenset[str] = frozenset()

    def parts(self, paths: Collection[str]) -> dict[str, storage.Part]:
        """The part of each image that is stored; images without a face have none under `SKIP`.

        An unreadable image has one, so that it is prepared, and refused for its own reason.
        """
        parts: dict[str, storage.Part] = {}
        for path in paths:
            face = self.by_path.get(path)
            if face:
                parts[path] = face.points
            elif path in self.unreadable:
                parts[path] = alignment.UNREADABLE
            elif self.no_face == CENTRE:
                parts[path] = alignment.CENTRE
        return parts

    @property
    def missing(self) -> str:
        """Why an image without a face is left out."""
        return f"no face in it ({self.source}): --no_face=centre takes its centre"


def describe(chosen: FaceOptions, margin: float) -> Alignment | None:
    """How faces are aligned; None where they are not.

    Raises:
      UserError: flags contradict each other, the file of faces cannot be used, or the detector
        cannot be loaded.
    """
    require_consistent(chosen)
    if chosen.face_points:
        return Alignment(margin, face_files.read(chosen.face_points)[1])
    if chosen.detector:
        return Alignment(margin, detection.require(chosen.detector, chosen.detector_model))
    return None


def require_consistent(chosen: FaceOptions) -> None:
    """Checks the flags against each other.

    Raises:
      UserError: two flags contradict each other.
    """
    if chosen.face_points and chosen.detector:
        raise UserError("--face_points and --detector both say where faces are: give one of them")
    if chosen.detector_model and not chosen.detector:
        raise UserError(f"--detector_model={chosen.detector_model} needs --detector=yunet")


def read_faces(chosen: FaceOptions, margin: float) -> Faces:
    """Reads all faces of the file of --face_points.

    Raises:
      UserError: as `describe`.
    """
    require_consistent(chosen)
    path = str(chosen.face_points)
    by_path, found_by = face_files.read(path)
    return Faces(Alignment(margin, found_by), by_path, chosen.no_face, path)


def find_faces(
    chosen: FaceOptions,
    margin: float,
    paths: Sequence[str],
    root: str,
    max_pixels: int,
    run: workers.Map,
    blocks: str | None = None,
    places: Iterable[Place] | None = None,
) -> Faces | None:
    """Reads or finds the faces of images; None where they are not aligned.

    Args:
      chosen: where faces come from.
      margin: of the alignment.
      paths: of the images, relative to `root`.
      root: the images folder.
      max_pixels: most pixels of an image; a larger or damaged one is unreadable.
      run: maps `detect_task` over tasks, in order.
      blocks: folder that keeps finished blocks, so that a killed run continues.
      places: of the images; None where each is a file.

    Raises:
      UserError: as `describe`.
      TemporaryError: an image could not be read, and this may pass.
    """
    if chosen.face_points:
        all_faces = read_faces(chosen, margin)
        by_path = {path: all_faces.by_path.get(path) for path in paths}
        return dataclasses.replace(all_faces, by_path=by_path)
    made = describe(chosen, margin)
    if made is None:
        return None
    if blocks:
        files.make_folder(blocks)
    detect = functools.partial(detect_task, chosen, made.detector, root, max_pixels, blocks)
    rest = iter(places or map(Place, paths))
    tasks = iter(lambda: tuple(itertools.islice(rest, _IMAGES_PER_TASK)), ())
    found: list[np.ndarray] = []
    with progress.Progress(len(paths), "detect", "image") as bar:
        for rows in run(detect, tasks):
            found += list(rows)
            bar.update(len(rows))
    read = [(path, row) for path, row in zip(paths, found, strict=True) if row[0] != _UNREADABLE]
    by_path = {path: _from_row(row) for path, row in read}
    unreadable = frozenset(paths) - by_path.keys()
    return Faces(made, by_path, chosen.no_face, made.detector, unreadable)


def detect_task(
    chosen: FaceOptions,
    name: str,
    root: str,
    max_pixels: int,
    blocks: str | None,
    places: Sequence[Place],
) -> np.ndarray:
    """Finds the faces of one block of images, float64 [n, 16]: see `_to_row`."""
    _take_one_core()
    digest = hashlib.sha256(name.encode())
    encoded = []
    for place in places:
        data = b""
        try:
            data, _ = sources.read_image(root, place, max_pixels)
        except OSError as error:
            if sources.may_pass(error):
                raise TemporaryError(errors.describe(error)) from error
        except image_files.BadImage:  # the check of the images says why
            pass
        digest.update(hashlib.sha256(data).digest())
        encoded.append(data)
    block = os.path.join(blocks, f"{digest.hexdigest()}.npy") if blocks else None
    if block and files.exists(block):
        return np.load(io.BytesIO(files.read_bytes(block)))

    unreadable = []

    def decode(number: int) -> np.ndarray:
        try:
            return storage.decode_upright(encoded[number], max_pixels)
        except image_files.BadImage:  # the check of the images says why
            unreadable.append(number)
            return np.zeros((1, 1, 3), np.uint8)

    detector = detection.load(chosen.detector or "", chosen.detector_model)
    found = detection.find_faces(detector, map(decode, range(len(encoded))))
    rows = np.array([_to_row(face) for face in found])
    rows[unreadable, 0] = _UNREADABLE
    if block:
        with files.atomic_open(block, "wb") as file:
            np.save(file, rows)
    return rows


def save(faces: Faces, folder: str) -> None:
    """Writes `FILE` beside the shards, unless there is one that fv did not write."""
    with ownership.staged(folder, [FILE]) as staging:
        face_files.write(os.path.join(staging, FILE), faces.by_path, faces.alignment.detector)


def require_own_file(folder: str) -> None:
    """Checks, before faces are sought, that `FILE` may be written.

    Raises:
      UserError: there is one that fv did not write, or that was changed since.
    """
    path = os.path.join(folder, FILE)
    if ownership.find_foreign(folder, [FILE]):
        raise UserError(
            f"{path} was changed by hand: use it by --face_points={path}, or move it away"
        )


@functools.cache
def _take_one_core() -> None:
    """Keeps TensorFlow in a worker process to one thread: there is a worker for each core."""
    if multiprocessing.parent_process() is None:
        return
    from fv import quiet_tensorflow  # noqa: F401, I001  TensorFlow first
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # it has begun
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.set_visible_devices([], "GPU")


def _to_row(face: Face | None) -> list[float]:
    """The number of faces, confidence, box and points; NaN for an image without a face."""
    if face is None:
        return [0.0] + [np.nan] * 15
    assert face.box is not None
    numbers = [*face.box, *face.points.ravel()]
    confidence = round(face.confidence or 0.0, _CONFIDENCE_DECIMALS)
    return [face.faces, confidence, *np.round(np.array(numbers, np.float64), _DECIMALS)]


def _from_row(row: np.ndarray) -> Face | None:
    if not row[0]:
        return None
    left, top, width, height = row[2:6].tolist()
    return Face(row[6:].reshape(5, 2), (left, top, width, height), float(row[1]), int(row[0]))
