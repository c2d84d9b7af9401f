"""Every image is decoded whole once, in worker processes, before any pair is made of it."""

import dataclasses
import os
from concurrent import futures

import numpy as np
import pandas as pd

from fv import progress, workers
from fv.conversion import images
from fv.errors import UserError

_IMAGES_PER_TASK = 64
_MOST_BYTES_PER_PIXEL = 9  # four channels of 16 bits, and a little for headers


@dataclasses.dataclass(frozen=True)
class Task:
    """A run of images for one worker; image `first + i` is at `paths[i]` below `root`."""

    root: str
    paths: tuple[str, ...]
    first: int
    scratch: str
    rules: images.Rules


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was found of one image: size of its JPEG bytes, whether these lie in the scratch folder, or why it is bad."""

    bytes: int = 0
    normalised: bool = False
    reason: str = ""


def check_images(
    catalog: pd.DataFrame, root: str, scratch: str, rules: images.Rules, executor: futures.Executor, count: int, strict: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Checks every image of the catalog; JPEG bytes that had to be made go to `scratch`.

    Args:
      catalog: table with columns `path` and `identity`.
      root: the images folder.
      scratch: an empty folder.
      rules: what an image may be.
      executor: pool of `count` processes.
      count: number of processes.
      strict: stop at the first bad image.

    Returns:
      The sound images, as in `catalog` with the columns `bytes` (size of the JPEG) and `normalised` (its bytes lie at
      `scratch_path` of its index, not at its own path); and the bad ones, with columns `path` and `reason`.

    Raises:
      UserError: `strict` and an image is bad.
    """
    verdicts = []
    with progress.progress(len(catalog), "check", "image") as bar:
        for found in workers.map_ordered(executor, check, _tasks(catalog, root, scratch, rules), count):
            if strict:
                _require_sound(found, catalog["path"].iloc[len(verdicts) :])
            verdicts += found
            bar.update(len(found))
    sound = np.array([not verdict.reason for verdict in verdicts], bool)
    checked = catalog.assign(
        bytes=np.array([verdict.bytes for verdict in verdicts], np.int64),
        normalised=np.array([verdict.normalised for verdict in verdicts], bool),
    )
    reasons = [verdict.reason for verdict in verdicts if verdict.reason]
    return checked[sound], pd.DataFrame({"path": catalog["path"][~sound], "reason": reasons}, dtype=object)


def check(task: Task) -> list[Verdict]:
    """Checks the images of one task, in their order."""
    return [_check_one(task, offset) for offset in range(len(task.paths))]


def scratch_path(scratch: str, index: int) -> str:
    """Where the JPEG bytes of image `index` of the catalog lie if it had to be normalised."""
    return os.path.join(scratch, f"{index:09d}.jpg")


def _check_one(task: Task, offset: int) -> Verdict:
    try:
        data = _read(os.path.join(task.root, task.paths[offset]), task.rules)
        encoded = images.to_jpeg(data, task.rules)
    except images.BadImage as error:
        return Verdict(reason=str(error))
    except OSError as error:
        return Verdict(reason=f"cannot be read: {error.strerror}")
    if encoded is not data:
        with open(scratch_path(task.scratch, task.first + offset), "wb") as file:
            file.write(encoded)
    return Verdict(bytes=len(encoded), normalised=encoded is not data)


def _read(path: str, rules: images.Rules) -> bytes:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > rules.max_pixels * _MOST_BYTES_PER_PIXEL:
            raise images.BadImage("a file larger than any image within --max_megapixels")
        return file.read()


def _tasks(catalog: pd.DataFrame, root: str, scratch: str, rules: images.Rules):
    for first in range(0, len(catalog), _IMAGES_PER_TASK):
        yield Task(root, tuple(catalog["path"].iloc[first : first + _IMAGES_PER_TASK]), first, scratch, rules)


def _require_sound(verdicts: list[Verdict], paths: pd.Series) -> None:
    for verdict, path in zip(verdicts, paths, strict=False):
        if verdict.reason:
            raise UserError(f"{path}: {verdict.reason} (--strict stops here; without it the image is left out)")
