"""A folder of synthetic faces, one folder per person, written by processes: the same bytes however many there are."""

import concurrent.futures
import dataclasses
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator

from fv import files
from fv.errors import UserError
from fv.faces import ledger
from fv.faces.render import render_jpeg
from fv.options import option, required
from fv.progress import progress

BATCH = 64  # images that a worker renders before it reports; longer waits less, shorter stops sooner
START_METHOD = "spawn"  # forking a process that has threads may hang


@dataclasses.dataclass(frozen=True)
class FacesOptions:
    """What `python tools/make_faces.py` takes."""

    output: str = required("Folder to write; it gets one folder per person.")
    identities: int = option(100, "How many people.", lower=1, upper=1_000_000)
    images_per_identity: int = option(10, "How many images of each.", lower=1, upper=10_000)
    seed: int = option(0, "Fixes everybody and every image; another seed is another world of people.", lower=0, upper=2**31)
    image_size: int = option(112, "Width and height of the images, in pixels.", lower=32, upper=1024)
    workers: int = option(0, "Processes that render; 0 is one per core. It does not change the result.", lower=0, upper=512)
    overwrite: bool = option(False, "Remove the faces that an earlier run left in the output folder, then start afresh.")
    contact_sheet: str | None = option(None, "PNG or JPEG file to draw: one row of images for each of the first people.")


def write_dataset(options: FacesOptions) -> int:
    """Renders what the output folder does not hold yet.

    An image is there whole or not at all, so a run that was killed is finished by running it again.

    Returns:
      How many images this run rendered.

    Raises:
      UserError: the folder holds something else.
    """
    ledger.claim(options.output, ledger.settings_of(options), options.overwrite)
    missing = list(_missing(options))
    total = options.identities * options.images_per_identity
    with progress(total, "faces", "image", initial=total - len(missing)) as bar:
        for count in _render_all(options, missing):
            bar.update(count)
    return len(missing)


def image_path(output: str, identity: int, image: int) -> str:
    """Where an image lies, as in output/person_00012/0003.jpg."""
    return os.path.join(output, ledger.person_name(identity), ledger.image_name(image))


def _missing(options: FacesOptions) -> Iterator[tuple[int, int]]:
    for identity in range(options.identities):
        folder = os.path.join(options.output, ledger.person_name(identity))
        os.makedirs(folder, exist_ok=True)
        there = ledger.clear_partial(folder)
        for image in range(options.images_per_identity):
            if ledger.image_name(image) not in there:
                yield identity, image


def _render_all(options: FacesOptions, missing: list[tuple[int, int]]) -> Iterator[int]:
    """Yields the size of every batch once it is written."""
    batches = [missing[start : start + BATCH] for start in range(0, len(missing), BATCH)]
    workers = min(options.workers or _cores(), len(batches))
    write = (_write_batch, itertools.repeat(options), batches)
    if workers <= 1:
        yield from map(*write)
        return
    context = multiprocessing.get_context(START_METHOD)
    try:
        with concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_follow_parent) as pool:
            yield from pool.map(*write)
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError("a worker was killed, perhaps for memory: run again with fewer --workers to finish") from error


def _follow_parent() -> None:
    """Makes a worker finish its batch where the user interrupts the run, and end where the run is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)  # without it a killed run leaves idle workers behind for ever


def _write_batch(options: FacesOptions, batch: list[tuple[int, int]]) -> int:
    for identity, image in batch:
        encoded = render_jpeg(options.seed, identity, image, options.image_size)
        with files.atomic_open(image_path(options.output, identity, image), "wb") as file:
            file.write(encoded)
    return len(batch)


def _cores() -> int:
    """Cores that this process may use, which a container can make fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
