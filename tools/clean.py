"""Lists doubtful labels of a folder of faces, from the embeddings that fv.embed wrote.

python -m fv.embed --workdir=runs/lfw --images=lfw --output=lfw.parquet
python tools/clean.py --embeddings=lfw.parquet --images=lfw --output=doubts
python tools/make_tfrecords.py --images=lfw --exclude=doubts/doubts.csv --output=tfrecords/lfw

It finds images far from their person (far), folders of two people (two_people), and people with two
folders (same_person). Look at the contact sheets, and remove the rows of doubts.csv that you
disagree with. The converter leaves out the images of the other rows. A better model finds more.
"""

import dataclasses
import os

import numpy as np
import pandas as pd

from fv import (
    cleaning,
    cli,
    contact_sheets,
    embedding_files,
    errors,
    files,
    ownership,
    record,
    tables,
)
from fv.cleaning import Finding
from fv.contact_sheets import Pair
from fv.conversion import storage
from fv.conversion.image_files import BadImage
from fv.embedding_files import Embeddings
from fv.errors import UserError
from fv.options import option, required

TABLE = "doubts.csv"
_REASONS = {
    cleaning.FAR: "far from the other images of {identity}, nearest to {other}",
    cleaning.TWO_PEOPLE: "{identity} is two people, this is the one with fewer images",
    cleaning.SAME_PERSON: "{identity} is the same person as {other}",
}
_HEADINGS = {
    cleaning.FAR: "left: far from its person; right: a typical image of the person",
    cleaning.TWO_PEOPLE: "two people in one folder: a typical image of each",
    cleaning.SAME_PERSON: "one person in two folders: a typical image of each",
}
_MAX_PIXELS = 10**9


@dataclasses.dataclass(frozen=True)
class Options:
    """What to look at, and where to write."""

    embeddings: str = required("file that fv.embed wrote")
    output: str = required(f"folder for {TABLE} and the contact sheets")
    images: str | None = option(None, "Folder of the images, for contact sheets.")
    pairs: int = option(
        60,
        "Most pairs of images on a contact sheet, the surest first; a sheet has room for "
        f"{contact_sheets.MAX_PAIRS:,}. {TABLE} lists all findings.",
        lower=1,
    )


def main(options: Options) -> None:
    """Writes the table and the contact sheets, and prints the numbers of findings."""
    if options.images and not files.is_folder(options.images):
        raise UserError(
            f"--images={options.images} is not a folder: give the folder of the images, such as "
            f"that of an unpacked archive, or leave out --images, which writes {TABLE} alone"
        )
    held, unnamed = _read_named(options.embeddings)
    found = cleaning.find_doubts(held)
    sheets = [f"{kind}.jpg" for kind in _REASONS]
    written = [TABLE, *sheets] if options.images else [TABLE]
    ownership.claim(options.output, written)
    unread: dict[str, str] = {}
    with ownership.staged(options.output, written) as folder:
        table = list_images(found, held)
        tables.write(os.path.join(folder, TABLE), table)
        if options.images:
            unread = _draw_sheets(found, held, options.images, options.pairs, folder)
        made = files.names(folder)
    # Sheets of an earlier run, which do not belong to this table.
    old = [each for each in sheets if each not in made and ownership.owns(options.output, each)]
    ownership.remove(options.output, old)
    if unnamed:
        print(f"{unnamed:,} images without an identity are passed over")
    for kind in _REASONS:
        rows = table[table["kind"] == kind]
        number = sum(finding.kind == kind for finding in found)
        print(f"{kind:<12}{number:>7,} findings, {len(rows):,} images")
    if unread:
        path, reason = next(iter(unread.items()))
        what = f"{len(unread):,} images of the contact sheets cannot be read"
        print(f"{what} below --images={options.images}, the first: {path}: {reason}")
    print(f"wrote {options.output}")


def list_images(found: list[Finding], held: Embeddings) -> pd.DataFrame:
    """The table: one row for each image that the converter would leave out, none twice."""
    rows = []
    for finding in found:
        names = {"identity": finding.identity, "other": finding.other}
        reason = _REASONS[finding.kind].format(**names)
        shared = {"reason": reason, "kind": finding.kind, "score": round(finding.score, 4), **names}
        rows += [{"path": held.paths[image], **shared} for image in finding.images]
    columns = ["path", "reason", "kind", "score", "identity", "other"]
    return pd.DataFrame(rows, columns=columns).drop_duplicates("path")


def _read_named(path: str) -> tuple[Embeddings, int]:
    """The embeddings of images with an identity, and the number of the others."""
    held = embedding_files.read(path)
    named = np.char.strip(held.identities) != ""
    kept = Embeddings(*(column[named] for column in held))
    if len(np.unique(kept.identities)) < 2:
        raise UserError(f"{path} names fewer than two people: embed a whole data set")
    return kept, len(named) - len(kept.paths)


def _draw_sheets(
    found: list[Finding], held: Embeddings, images: str, pairs: int, folder: str
) -> dict[str, str]:
    """Writes a sheet for each kind that was found; returns why images cannot be read, by path."""
    unread: dict[str, str] = {}
    for kind in _REASONS:
        chosen = [finding for finding in found if finding.kind == kind]
        chosen = chosen[: min(pairs, contact_sheets.MAX_PAIRS)]
        if chosen:
            drawn = [_to_pair(finding, held, images, unread) for finding in chosen]
            headings = {drawn[0].label: _HEADINGS[kind]}
            with open(os.path.join(folder, f"{kind}.jpg"), "wb") as file:
                sheet = contact_sheets.draw_pairs(drawn, headings=headings)
                file.write(contact_sheets.to_jpeg(sheet))
    return unread


def _to_pair(finding: Finding, held: Embeddings, folder: str, unread: dict[str, str]) -> Pair:
    label = record.GENUINE if finding.kind == cleaning.SAME_PERSON else record.IMPOSTOR
    pictures: list[bytes] = []
    for image in finding.shown:
        try:
            data = files.read_bytes(os.path.join(folder, held.paths[image]))
            pictures.append(storage.prepare_image(data, storage.StorageRules(_MAX_PIXELS)).stored)
        except (OSError, BadImage) as error:
            errors.raise_if_temporary(error)
            unread[held.paths[image]] = errors.describe(error)
            pictures.append(b"")  # the sheet says that it cannot be decoded
    first, second = (held.paths[image] for image in finding.shown)
    return Pair(pictures[0], pictures[1], label, first, second)


if __name__ == "__main__":
    cli.run(main, Options, description=__doc__)
