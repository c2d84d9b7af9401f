"""A folder of synthetic faces, one folder per person, written by processes: the same bytes however many there are."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator

from fv import files, ownership, workers
from fv.faces import ledger
from fv.faces.render import render_jpeg
from fv.options import option, required
from fv.progress import progress

BATCH = (
    64  # images that a worker renders before it reports; longer waits less, shorter stops sooner
)


@dataclasses.dataclass(frozen=True)
class FacesOptions:
    """What `python tools/make_faces.py` takes."""

    output: str = required("Folder to write; it gets one folder per person.")
    identities: int = option(100, "How many people.", lower=1, upper=1_000_000)
    images_per_identity: int = option(10, "How many images of each.", lower=1, upper=10_000)
    seed: int = option(
        0,
        "Fixes everybody and every image; another seed is another world of people.",
        lower=0,
        upper=2**31,
    )
    image_size: int = option(
        112, "Width and height of the images, in pixels.", lower=32, upper=1024
    )
    workers: int = option(
        0,
        "Processes that render; 0 is one per core. It does not change the result.",
        lower=0,
        upper=512,
    )
    overwrite: bool = option(
        False, "Remove the faces that an earlier run left in the output folder, then start afresh."
    )
    contact_sheet: str | None = option(
        None, "PNG or JPEG file to draw: one row of images for each of the first people."
    )


def write_dataset(options: FacesOptions) -> int:
    """Renders what the output folder does not hold yet.

    An image is there whole or not at all, so a run that was killed is finished by running it again.

    Returns:
      How many images this run rendered.

    Raises:
      UserError: the folder holds something else.
    """
    ledger.claim(
        options.output,
        ledger.settings_of(options),
        options.overwrite,
        functools.partial(_find_changed, options),
    )
    missing = list(_missing(options))
    total = options.identities * options.images_per_identity
    with (
        ownership.writing(options.output),  # keeps .fv/ there as long as a worker may write into it
        progress(total, "faces", "image", initial=total - len(missing)) as bar,
    ):
        for count in _in_batches(options, _write_batch, missing):
            bar.update(count)
    return len(missing)


def image_path(output: str, identity: int, image: int) -> str:
    """Where an image lies, as in output/person_00012/0003.jpg."""
    return os.path.join(output, ledger.person_name(identity), ledger.image_name(image))


def _missing(options: FacesOptions) -> Iterator[tuple[int, int]]:
    for identity in range(options.identities):
        folder = os.path.join(options.output, ledger.person_name(identity))
        os.makedirs(folder, exist_ok=True)
        there = ledger.names(folder)
        for image in range(options.images_per_identity):
            if ledger.image_name(image) not in there:
                yield identity, image


def _find_changed(options: FacesOptions, held: ledger.Settings) -> list[str]:
    """Names of the images that bear a name of `held` and are not what it draws; the renderer itself is the record."""
    there = []
    for identity in range(held.identities):
        names = ledger.names(os.path.join(options.output, ledger.person_name(identity)))
        there += [
            (identity, image)
            for image in range(held.images_per_identity)
            if ledger.image_name(image) in names
        ]
    options = dataclasses.replace(options, seed=held.seed, image_size=held.image_size)
    with progress(len(there), "compare", "image") as bar:
        changed = []
        for found in _in_batches(options, _compare_batch, there):
            changed += found
            bar.update(BATCH)
    return changed


def _in_batches(options: FacesOptions, work: Callable, images: list[tuple[int, int]]) -> Iterator:
    """Yields what `work` makes of each batch of images, in processes."""
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    call = functools.partial(work, options)
    processes = min(options.workers or workers.cores(), len(batches))
    if processes <= 1:
        yield from map(call, batches)
        return
    with workers.pool(processes, preload=["fv.faces.render"]) as run:
        yield from run(call, batches)


def _write_batch(options: FacesOptions, batch: list[tuple[int, int]]) -> int:
    with ownership.writing(options.output) as folder:
        for identity, image in batch:
            encoded = render_jpeg(options.seed, identity, image, options.image_size)
            path = image_path(options.output, identity, image)
            with files.atomic_open(
                path, "wb", temporary=os.path.join(folder, os.path.basename(path))
            ) as file:
                file.write(encoded)
    return len(batch)


def _compare_batch(options: FacesOptions, batch: list[tuple[int, int]]) -> list[str]:
    """Names, from the output folder on, of the images that are not what the options draw."""
    changed = []
    for identity, image in batch:
        path = image_path(options.output, identity, image)
        drawn = render_jpeg(options.seed, identity, image, options.image_size)
        if not os.path.isfile(path) or files.read_bytes(path) != drawn:
            changed.append(os.path.relpath(path, options.output))
    return changed
