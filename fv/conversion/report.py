"""The data report of a conversion: report.json for programs, and report.html for people.

The figures are group-bys over arrays, which take seconds for ten million images.
"""

import os
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pandas as pd
import simplejpeg
from PIL import Image

from fv import contact_sheets, manifest, ownership, page, record
from fv.conversion import datasets, image_files, shards, sources, storage
from fv.conversion.datasets import Catalog
from fv.conversion.duplicates import DisjointSets
from fv.conversion.faces import Faces
from fv.conversion.options import ConvertOptions
from fv.conversion.pairs import Selection
from fv.preprocessing import Preprocessing

LISTED = 1000  # most entries of a list of files, copies or identities; totals count all

_MOST_REASONS = _MOST_SIZES = _MOST_IDENTITIES = 20
_IMAGE_EDGES = (1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1000)  # images of an identity
_SIDE_EDGES = (1, 32, 64, 96, 128, 192, 256, 512, 1024, 2048)  # pixels

_ROWS_SHOWN = 50  # most rows of a list on the page
_PAIRS_SHOWN = 24
_SUSPECTS_SHOWN = 12
_FACES_SHOWN, _FACE_COLUMNS, _FACE_SIDE = 32, 8, 96  # images, images in a row, pixels
_EYE_EDGES = (0, 10, 15, 20, 30, 40, 60, 80, 120, 200, 400)  # pixels between the eyes
_ROLL_EDGES = (0, 5, 10, 15, 20, 30, 45, 90)  # degrees to either side
_CONFIDENCE_EDGES = (0, 80, 90, 95, 98, 99, 100)  # %
_MARK = (255, 230, 0)  # RGB
_COLUMNS = 2  # pairs in a row of a sheet, which fits the width of the page
_SUSPECT = {record.IMPOSTOR: "one picture, two identities"}


def write_reports(
    chosen: ConvertOptions,
    catalog: Catalog,
    selection: Selection,
    made: manifest.Manifest,
    scratch: str,
) -> None:
    """Writes both reports into the output folder; the same conversion writes the same bytes.

    `scratch` is the folder of the images that were written anew.
    """
    content = build(catalog, selection, made)
    ownership.save_json(content, os.path.join(chosen.output, shards.REPORT))
    suspects = _draw_suspects(chosen, catalog, content["copies"]["two_identities"]["listed"])
    pairs = _draw_pairs(chosen, selection, scratch)
    text = render(content, suspects, pairs, _draw_faces(chosen, selection, scratch))
    with ownership.atomic_open(os.path.join(chosen.output, shards.REPORT_PAGE)) as file:
        file.write(text)


def build(catalog: Catalog, selection: Selection, made: manifest.Manifest) -> dict[str, Any]:
    """Returns the content of report.json."""
    kept, left_out = selection.images, selection.left_out
    found = len(catalog.images) + len(catalog.unusable)
    passed_over = int(catalog.passed_over["files"].sum())
    return {
        "files": {
            "found": found + passed_over,
            "used": len(kept),
            "left_out": len(left_out),
            "not_listed": found - len(kept) - len(left_out),  # by a list of pairs
            "passed_over": passed_over,
        },
        "images": {
            "found": found,
            "kept": len(kept),
            "left_out": len(left_out),
            "in_pairs": sum(split.images for split in made.splits.values()),
            "bytes": int(kept["bytes"].sum()),
        },
        "left_out": _describe_left_out(left_out),
        "passed_over": _rows(catalog.passed_over.head(LISTED)),
        "copies": _describe_copies(selection.copies),
        "identities": _describe_identities(catalog, selection),
        "splits": {name: _describe_split(split) for name, split in made.splits.items()},
        "images_per_identity": _histogram(
            _images_per_identity(kept).to_numpy(), _IMAGE_EDGES, "identities"
        ),
        "sizes": _describe_sizes(kept),
        "pairs_per_identity": _count_pairs(kept, selection.tables),
        "faces": _describe_faces(selection.faces) if selection.faces else None,
    }


def render(
    content: dict[str, Any],
    suspects: bytes | None = None,
    pairs: bytes | None = None,
    faces: bytes | None = None,
) -> str:
    """Renders what `build` returns, and sheets as JPEG bytes, as HTML that needs no other file."""
    return page.render(
        "data_report.html",
        title="Data report",
        content=content,
        suspects_sheet=suspects,
        pairs_sheet=pairs,
        faces_sheet=faces,
        rows_shown=_ROWS_SHOWN,
        file=shards.REPORT,
        most_listed=LISTED,
    )


def _describe_left_out(left_out: pd.DataFrame) -> dict[str, Any]:
    """Files by kind of reason, the most frequent first, with an example; and the first files."""
    ordered = left_out.sort_values("path", kind="stable")
    # Reasons are of one kind if they differ only in quoted text, paths and numbers.
    kinds = ordered["reason"].astype(str).str.replace(r"'[^']*'|\S*/\S*", "…", regex=True)
    kinds = kinds.str.replace(r"\d[\d,.]*", "N", regex=True)
    reasons = (
        ordered.assign(kind=kinds)
        .groupby("kind", sort=True)
        .agg(files=("path", "size"), example=("path", "first"), reason=("reason", "first"))
        .sort_values("files", ascending=False, kind="stable")
    )
    return {
        "kinds": len(reasons),
        "reasons": _rows(reasons.reset_index().head(_MOST_REASONS)),
        "files": _rows(ordered[["path", "reason"]].head(LISTED)),
    }


def _describe_copies(copies: pd.DataFrame) -> dict[str, Any]:
    """Counts groups of copies, and lists copies: equal bytes first, then the nearest pictures."""
    members, places = np.unique(copies[["first", "second"]].to_numpy(), return_inverse=True)
    first, second = places.reshape(-1, 2).T
    groups = DisjointSets(len(members))
    groups.join(first, second)
    sizes = np.bincount(groups.roots(np.arange(len(members))), minlength=len(members))
    same_identity = copies["same_identity"].to_numpy(bool)
    mixed = np.unique(groups.roots(first[~same_identity]))
    described: dict[str, Any] = {
        "groups": int((sizes > 0).sum()),
        "largest_group": int(sizes.max(initial=0)),
        "images_under_two_identities": int(sizes[mixed].sum()),
    }
    for name, chosen in (("two_identities", ~same_identity), ("same_identity", same_identity)):
        rows = copies[chosen].sort_values(
            ["exact", "distance", "first_path", "second_path"], ascending=[False, True, True, True]
        )
        exact = int(rows["exact"].sum())
        listed = rows[["first_path", "second_path", "exact", "distance"]].head(LISTED)
        described[name] = {"exact": exact, "near": len(rows) - exact, "listed": _rows(listed)}
    return described


def _describe_identities(catalog: Catalog, selection: Selection) -> dict[str, Any]:
    """Identities with images, with one image (in no genuine pair), and with none; and doubts."""
    sizes = _images_per_identity(selection.images)
    paths = selection.left_out["path"].astype(str)
    if catalog.naming:
        names = {catalog.naming.identity_of(path) for path in paths} - {""}
    else:
        names = {*catalog.images["identity"][catalog.images["path"].isin(paths)]}
    lost = np.setdiff1d(np.array(sorted(names), str), sizes.index.to_numpy(str))
    single = sizes.index[sizes == 1].astype(str)
    return {
        "kept": len(sizes),
        "left_out": len(lost),
        "left_out_names": lost[:LISTED].tolist(),
        "of_one_image": len(single),
        "of_one_image_names": sorted(single[:LISTED]),
        "doubts": [
            {"seen": finding.seen, "means": finding.means, "decides": finding.decides}
            for finding in selection.findings
        ],
    }


def _images_per_identity(images: pd.DataFrame) -> pd.Series:
    """The number of images of each identity that has one, in the order of the names."""
    return images.groupby("identity", observed=True).size().sort_index()


def _describe_split(split: manifest.Split) -> dict[str, int]:
    return {
        "identities": len(split.identities),
        "images": split.images,
        "genuine": split.genuine,
        "impostor": split.impostor,
        "shards": len(split.shards),
        "bytes": sum(shard.bytes for shard in split.shards),
    }


def _describe_sizes(images: pd.DataFrame) -> dict[str, Any]:
    """The most frequent sizes, and a histogram of the shorter side."""
    sizes = images.groupby(["width", "height"]).size().rename("images").reset_index()
    common = sizes.sort_values("images", ascending=False, kind="stable").head(_MOST_SIZES)
    shorter = np.minimum(images["width"].to_numpy(), images["height"].to_numpy())
    return {
        "different": len(sizes),
        "most_frequent": _rows(common),
        "shorter_side": _histogram(shorter, _SIDE_EDGES, "images"),
    }


def _describe_faces(faces: Faces) -> dict[str, Any]:
    """Images with no face and with several; confidence, size and angle of the faces."""
    found = [face for _, face in sorted(faces.by_path.items()) if face]
    missing = sorted(path for path, face in faces.by_path.items() if not face)
    several = sorted(path for path, face in faces.by_path.items() if face and face.faces > 1)
    sure = [100 * face.confidence for face in found if face.confidence is not None]
    sizes = [face.eye_distance for face in found]
    rolls = [abs(face.roll) for face in found]
    return {
        "alignment": str(faces.alignment),
        "found": len(found),
        "missing": len(missing),
        "missing_files": missing[:LISTED],
        "several": len(several),
        "several_files": several[:LISTED],
        "confidence": _histogram(np.array(sure), _CONFIDENCE_EDGES, "faces"),
        "eye_distance": _histogram(np.array(sizes), _EYE_EDGES, "faces"),
        "median_eye_distance": round(float(np.median(sizes)), 1) if sizes else None,
        "roll": _histogram(np.array(rolls), _ROLL_EDGES, "faces"),
    }


def _count_pairs(images: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The identities in most pairs, and the number in none; a genuine pair counts once."""
    codes = pd.Series(images["identity"].cat.codes.to_numpy(), images.index)
    names = images["identity"].cat.categories
    counts = {label: np.zeros(len(names), np.int64) for label in (record.GENUINE, record.IMPOSTOR)}
    for table in tables.values():
        for label, ends_of_label in ((record.GENUINE, ["a"]), (record.IMPOSTOR, ["a", "b"])):
            of_label = table[table["label"] == label]
            for column in ends_of_label:
                ends = codes.reindex(of_label[column].to_numpy()).to_numpy()
                counts[label] += np.bincount(ends, minlength=len(names))
    total = counts[record.GENUINE] + counts[record.IMPOSTOR]
    most = np.argsort(-total, kind="stable")[: min(_MOST_IDENTITIES, int((total > 0).sum()))]
    columns = {
        "identity": names[most].astype(str),
        "genuine": counts[record.GENUINE][most],
        "impostor": counts[record.IMPOSTOR][most],
    }
    unused = int((total[np.unique(codes)] == 0).sum())
    return {"in_none": unused, "most": _rows(pd.DataFrame(columns))}


def _histogram(values: np.ndarray, edges: tuple[int, ...], counted: str) -> list[dict[str, Any]]:
    """Counts values from each edge to the next, without empty ends; the last bin has no end."""
    counts = np.histogram(values, [*edges, np.inf])[0]
    filled = np.flatnonzero(counts)
    ends = [*(edge - 1 for edge in edges[1:]), None]
    bins = [
        {"from": low, "to": high, counted: count}
        for low, high, count in zip(edges, ends, counts.tolist(), strict=True)
    ]
    return bins[filled[0] : filled[-1] + 1] if len(filled) else []


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries of Python's own types."""
    columns = {name: table[name].tolist() for name in table}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _draw_pairs(chosen: ConvertOptions, selection: Selection, scratch: str) -> bytes:
    """Draws a sheet of sampled pairs, as they are stored."""
    rows = contact_sheets.choose_pairs(selection.tables, _PAIRS_SHOWN, chosen.seed)
    used, ends = np.unique(rows[["a", "b"]].to_numpy(), return_inverse=True)
    chosen_images = selection.images.iloc[shards.find_rows(selection.images, used)]
    stored = shards.stored_images(chosen_images, selection.root, scratch)
    names = chosen_images["identity"].astype(str).to_numpy()
    pairs = [
        contact_sheets.Pair(stored.read(a), stored.read(b), label, names[a], names[b])
        for (a, b), label in zip(ends.reshape(-1, 2), rows["label"], strict=True)
    ]
    return contact_sheets.to_jpeg(contact_sheets.draw_pairs(pairs, _COLUMNS))


def _draw_faces(chosen: ConvertOptions, selection: Selection, scratch: str) -> bytes | None:
    """Draws a sheet of stored faces with the points of the template; None if not aligned."""
    if not selection.faces or not len(selection.images):
        return None
    rng = np.random.default_rng(chosen.seed)
    count = min(_FACES_SHOWN, len(selection.images))
    rows = np.sort(rng.choice(len(selection.images), count, replace=False))
    stored = shards.stored_images(selection.images.iloc[rows], selection.root, scratch)
    pictures = []
    for number in range(count):
        pixels = simplejpeg.decode_jpeg(stored.read(number), "RGB")
        picture = cv2.resize(pixels, (_FACE_SIDE,) * 2, interpolation=cv2.INTER_AREA)
        for x, y in np.round(selection.faces.alignment.target(_FACE_SIDE)).astype(int).tolist():
            cv2.circle(picture, (x, y), 2, _MARK, 1)
        pictures.append(picture)
    return contact_sheets.to_jpeg(Image.fromarray(contact_sheets.tile(pictures, _FACE_COLUMNS)))


def _draw_suspects(
    chosen: ConvertOptions, catalog: Catalog, listed: list[dict[str, Any]]
) -> bytes | None:
    """Draws a sheet of the first pictures found under two identities; None if there are none."""
    if not listed:
        return None
    rules = storage.StorageRules(chosen.max_pixels, Preprocessing(jpeg_quality=chosen.jpeg_quality))
    shown = [(row["first_path"], row["second_path"]) for row in listed[:_SUSPECTS_SHOWN]]
    used = catalog.images[catalog.images["path"].isin({path for both in shown for path in both})]
    places = {place.path: place for place in datasets.list_places(used)}
    pairs = []
    for paths in shown:
        a, b = (_read_picture(catalog.root, places[path], rules) for path in paths)
        pairs.append(contact_sheets.Pair(a, b, record.IMPOSTOR, *paths))
    return contact_sheets.to_jpeg(contact_sheets.draw_pairs(pairs, _COLUMNS, headings=_SUSPECT))


def _read_picture(root: str, place: datasets.Place, rules: storage.StorageRules) -> bytes:
    """The JPEG bytes of an image; b"", drawn as not decodable, if it changed since the check."""
    try:
        data, _ = sources.read_image(root, place, rules.max_pixels)
        return storage.prepare_image(data, rules).stored
    except (OSError, image_files.BadImage):
        return b""
