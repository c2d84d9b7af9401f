"""The data report: what a conversion found in a folder of images, as figures that JSON can hold.

All of it is group-bys over arrays: ten million images take seconds.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from fv import manifest, record
from fv.conversion import identities, passed_over
from fv.conversion.duplicates import DisjointSets

FILE_NAME = "report.json"
PAGE_NAME = "report.html"
LISTED = 1000  # files, copies or identities at most in any list; the total stands beside it

_MOST_REASONS = _MOST_SIZES = _MOST_IDENTITIES = 20
_IMAGE_EDGES = (1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1000)  # images per identity
_SIDE_EDGES = (1, 32, 64, 96, 128, 192, 256, 512, 1024, 2048)  # pixels


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the report is made of.

    Attributes:
      found: number of image files there were.
      images: those in the splits, with columns `path`, `identity`, `split` (categorical), `width`, `height` (pixels) and
        `bytes`; the index numbers them.
      left_out: files that were not used, with columns `path` and `reason`.
      copies: from `duplicates.named`.
      tables: pairs by split, with columns `a`, `b` (index of `images`) and `label`.
      made: the manifest.
      passed_over: files that have no image's suffix, from `passed_over.count`.
      findings: what is doubtful about the identities.
      naming: how a path tells the identity.
    """

    found: int
    images: pd.DataFrame
    left_out: pd.DataFrame
    copies: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    made: manifest.Manifest
    passed_over: pd.DataFrame = dataclasses.field(default_factory=lambda: passed_over.count("", ()))
    findings: tuple[identities.Finding, ...] = ()
    naming: identities.Naming = dataclasses.field(default_factory=identities.Naming)


def build(facts: Facts) -> dict:
    """The report: see the keys of what it returns. The same facts give the same report."""
    images = facts.images
    return {
        "files": _files(facts),
        "images": {
            "found": facts.found,
            "kept": len(images),
            "left_out": len(facts.left_out),
            "in_pairs": sum(split.images for split in facts.made.splits.values()),
            "bytes": int(images["bytes"].sum()),
        },
        "left_out": _left_out(facts.left_out),
        "passed_over": _records(facts.passed_over.head(LISTED)),
        "copies": _copies(facts.copies),
        "identities": _identities(images, facts.left_out, facts.naming)
        | {"doubts": _doubts(facts.findings)},
        "splits": {name: _split(split) for name, split in facts.made.splits.items()},
        "images_per_identity": _histogram(
            _per_identity(images).to_numpy(), _IMAGE_EDGES, "identities"
        ),
        "sizes": _sizes(images),
        "pairs_per_identity": _pairs_per_identity(images, facts.tables),
    }


def _files(facts: Facts) -> dict:
    """Every entry that was found, by what became of it; `not_listed` are those that a list of pairs does not name."""
    passed = int(facts.passed_over["files"].sum())
    used, left_out = len(facts.images), len(facts.left_out)
    return {
        "found": facts.found + passed,
        "used": used,
        "left_out": left_out,
        "not_listed": facts.found - used - left_out,
        "passed_over": passed,
    }


def _doubts(findings: tuple[identities.Finding, ...]) -> list[dict]:
    return [
        {"seen": finding.seen, "means": finding.means, "decides": finding.decides}
        for finding in findings
    ]


def _left_out(left_out: pd.DataFrame) -> dict:
    """Files by kind of reason, the most frequent first, with an example of each; and the first files."""
    ordered = left_out.sort_values("path", kind="stable")
    kinds = ordered.assign(kind=_kinds(ordered["reason"])).groupby("kind", sort=True)
    reasons = kinds.agg(
        files=("path", "size"), example=("path", "first"), reason=("reason", "first")
    )
    reasons = reasons.sort_values("files", ascending=False, kind="stable")
    return {
        "kinds": len(reasons),
        "reasons": _records(reasons.reset_index().head(_MOST_REASONS)),
        "files": _records(ordered[["path", "reason"]].head(LISTED)),
    }


def _kinds(reasons: pd.Series) -> pd.Series:
    """Reasons without what differs from file to file: quoted text, paths and numbers."""
    kinds = reasons.astype(str).str.replace(r"'[^']*'|\S*/\S*", "…", regex=True)
    return kinds.str.replace(r"\d[\d,.]*", "N", regex=True)


def _copies(copies: pd.DataFrame) -> dict:
    """Copies set apart by identity and by likeness, those of the same bytes listed first, then the nearest."""
    sizes, mixed = _groups(copies)
    report = {
        "groups": int((sizes > 0).sum()),
        "largest_group": int(sizes.max(initial=0)),
        "images_under_two_identities": int(sizes[mixed].sum()),
    }
    for name, same in (("two_identities", False), ("same_identity", True)):
        rows = copies[copies["same_identity"].to_numpy(bool) == same]
        rows = rows.sort_values(
            ["exact", "distance", "first_path", "second_path"], ascending=[False, True, True, True]
        )
        exact = int(rows["exact"].sum())
        listed = rows[["first_path", "second_path", "exact", "distance"]].head(LISTED)
        report[name] = {"exact": exact, "near": len(rows) - exact, "listed": _records(listed)}
    return report


def _groups(copies: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """By a group's root, or 0 and False where there is none: its number of images, and whether it is of two identities."""
    images, places = np.unique(copies[["first", "second"]].to_numpy(np.int64), return_inverse=True)
    first, second = places.reshape(-1, 2).T
    groups = DisjointSets(len(images))
    groups.join(first, second)
    mixed = np.zeros(len(images), bool)
    mixed[groups.roots(first[~copies["same_identity"].to_numpy(bool)])] = True
    return np.bincount(groups.roots(np.arange(len(images))), minlength=len(images)), mixed


def _identities(images: pd.DataFrame, left_out: pd.DataFrame, naming: identities.Naming) -> dict:
    """Identities kept, those kept with one image (which no genuine pair can have), and those with no sound image."""
    sizes = _per_identity(images)
    names = {naming.identity_of(path) for path in left_out["path"].astype(str)} - {""}
    lost = np.setdiff1d(np.array(sorted(names), str), sizes.index.to_numpy(str))
    single = sizes.index[sizes == 1].astype(str)
    return {
        "kept": len(sizes),
        "left_out": len(lost),
        "left_out_names": lost[:LISTED].tolist(),
        "of_one_image": len(single),
        "of_one_image_names": sorted(single[:LISTED]),
    }


def _per_identity(images: pd.DataFrame) -> pd.Series:
    """Number of images of each identity that has one, in the order of the names."""
    return images.groupby("identity", observed=True).size().sort_index()


def _split(split: manifest.Split) -> dict:
    return {
        "identities": len(split.identities),
        "images": split.images,
        "genuine": split.genuine,
        "impostor": split.impostor,
        "shards": len(split.shards),
        "bytes": sum(shard.bytes for shard in split.shards),
    }


def _sizes(images: pd.DataFrame) -> dict:
    """The most frequent sizes, and a histogram of the shorter side."""
    sizes = images.groupby(["width", "height"]).size().rename("images").reset_index()
    common = sizes.sort_values("images", ascending=False, kind="stable").head(_MOST_SIZES)
    shorter = np.minimum(images["width"].to_numpy(), images["height"].to_numpy())
    return {
        "different": len(sizes),
        "most_frequent": _records(common),
        "shorter_side": _histogram(shorter, _SIDE_EDGES, "images"),
    }


def _pairs_per_identity(images: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> dict:
    """The identities in most pairs, and how many are in none; a genuine pair counts once for its identity."""
    codes = pd.Series(images["identity"].cat.codes.to_numpy(), images.index)
    names = images["identity"].cat.categories
    counts = {label: np.zeros(len(names), np.int64) for label in (record.GENUINE, record.IMPOSTOR)}
    for table in tables.values():
        labels = table["label"].to_numpy()
        for label, columns in ((record.GENUINE, ("a",)), (record.IMPOSTOR, ("a", "b"))):
            for column in columns:
                ends = table[column].to_numpy()[labels == label]
                counts[label] += np.bincount(codes.reindex(ends).to_numpy(), minlength=len(names))
    total = counts[record.GENUINE] + counts[record.IMPOSTOR]
    most = np.argsort(-total, kind="stable")[: min(_MOST_IDENTITIES, int((total > 0).sum()))]
    columns = {"identity": names[most].astype(str), "genuine": counts[record.GENUINE][most]}
    unused = int((total[np.unique(codes)] == 0).sum())
    return {
        "in_none": unused,
        "most": _records(pd.DataFrame({**columns, "impostor": counts[record.IMPOSTOR][most]})),
    }


def _histogram(values: np.ndarray, edges: tuple[int, ...], counted: str) -> list[dict]:
    """Numbers of values from each edge up to the next, without the empty ends; `to` is None in the last, open bin."""
    counts = np.histogram(values, [*edges, np.inf])[0]
    filled = np.flatnonzero(counts)
    bins = zip(edges, [*(edge - 1 for edge in edges[1:]), None], counts.tolist(), strict=True)
    rows = [{"from": low, "to": high, counted: count} for low, high, count in bins]
    return rows[filled[0] : filled[-1] + 1] if len(filled) else []


def _records(table: pd.DataFrame) -> list[dict]:
    """Rows as dictionaries of Python's own types."""
    columns = {name: table[name].tolist() for name in table}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
