"""The data report as a page (`fv/templates/data_report.html`)."""

import os

import numpy as np
import pandas as pd

from fv import contact_sheets, files, manifest, ownership, page, record
from fv.conversion import formats, images, report, shards
from fv.conversion.datasets import Catalog
from fv.conversion.options import ConvertOptions
from fv.conversion.selection import Selection

_ROWS_SHOWN = 50  # of a list; report.json has up to `report.LISTED`


def render_report(content: dict, suspects: bytes | None = None, pairs: bytes | None = None) -> str:
    """Renders the whole page, which needs no other file.

    Args:
      content: from `report.build`.
      suspects: JPEG bytes of a sheet of pictures found under two identities, in the order of the
        report; None without such pictures.
      pairs: JPEG bytes of a sheet of sampled pairs.

    Returns:
      HTML, the same for the same arguments.
    """
    return page.render(
        "data_report.html",
        title="Data report",
        content=content,
        suspects_sheet=suspects,
        pairs_sheet=pairs,
        rows_shown=_ROWS_SHOWN,
        file=report.FILE_NAME,
        most_listed=report.LISTED,
    )


# The data report beside the manifest: report.json for machines, report.html for people.

_PAIRS_SHOWN = 24
_SUSPECTS_SHOWN = 12
_COLUMNS = 2  # of pairs, that fit the width of a page
_SUSPECT = {record.IMPOSTOR: "one picture, two identities"}


def write_reports(
    chosen: ConvertOptions,
    found: Catalog,
    selected: Selection,
    made: manifest.Manifest,
    scratch: str,
) -> None:
    """Writes both reports; the same conversion writes the same bytes.

    Args:
      chosen: the options.
      found: what there was.
      selected: what was chosen of them.
      made: the manifest.
      scratch: folder of the images that were written anew.
    """
    facts = report.Facts(
        len(found.images) + len(found.unusable),
        selected.images,
        selected.left_out,
        selected.copies,
        selected.tables,
        made,
        found.passed_over,
        selected.findings,
        found.naming,
    )
    content = report.build(facts)
    ownership.save_json(content, os.path.join(chosen.output, report.FILE_NAME))
    page = render_report(
        content, _draw_suspects(chosen, content), _draw_pairs(chosen, selected, scratch)
    )
    with ownership.atomic_open(os.path.join(chosen.output, report.PAGE_NAME)) as file:
        file.write(page)


def _draw_pairs(chosen: ConvertOptions, selected: Selection, scratch: str) -> bytes:
    """A sheet of sampled pairs, as they are stored."""
    rows = contact_sheets.choose_pairs(selected.tables, _PAIRS_SHOWN, chosen.seed)
    used, ends = np.unique(rows[["a", "b"]].to_numpy(), return_inverse=True)
    stored = shards.stored_images(selected.images.loc[used], chosen.images, scratch)
    names = selected.images["identity"].loc[used].astype(str).to_numpy()
    pairs = [
        contact_sheets.Pair(stored.read(a), stored.read(b), label, names[a], names[b])
        for (a, b), label in zip(ends.reshape(-1, 2), rows["label"], strict=True)
    ]
    return contact_sheets.to_jpeg(contact_sheets.draw_pairs(pairs, _COLUMNS))


def _draw_suspects(chosen: ConvertOptions, content: dict) -> bytes | None:
    """A sheet of the pictures found under two identities that the report lists first; None where there is none."""
    listed = pd.DataFrame(content["copies"]["two_identities"]["listed"]).head(_SUSPECTS_SHOWN)
    if listed.empty:
        return None
    rules = images.Rules(chosen.max_pixels, chosen.jpeg_quality)
    pairs = [
        contact_sheets.Pair(
            *(_picture(chosen.images, path, rules) for path in paths), record.IMPOSTOR, *paths
        )
        for paths in listed[["first_path", "second_path"]].itertuples(index=False)
    ]
    return contact_sheets.to_jpeg(contact_sheets.draw_pairs(pairs, _COLUMNS, headings=_SUSPECT))


def _picture(root: str, path: str, rules: images.Rules) -> bytes:
    try:
        return images.load_sound_jpeg(files.read_bytes(os.path.join(root, path)), rules).stored
    except (
        OSError,
        formats.BadImage,
    ):  # sound when it was checked: the sheet says that it is not decodable now
        return b""
