"""The data report: what a conversion found in a folder of images, as figures that JSON can hold.

All of it is group-bys over arrays: ten million images take seconds.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from fv import manifest, record
from fv.conversion.groups import Groups

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
    """

    found: int
    images: pd.DataFrame
    left_out: pd.DataFrame
    copies: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    made: manifest.Manifest


def build(facts: Facts) -> dict:
    """The report: see the keys of what it returns. The same facts give the same report."""
    images = facts.images
    return {
        "images": {
            "found": facts.found,
            "kept": len(images),
            "left_out": len(facts.left_out),
            "in_pairs": sum(split.images for split in facts.made.splits.values()),
            "bytes": int(images["bytes"].sum()),
        },
        "left_out": _left_out(facts.left_out),
        "copies": _copies(facts.copies),
        "identities": _identities(images, facts.left_out),
        "splits": {name: _split(split) for name, split in facts.made.splits.items()},
        "images_per_identity": _histogram(_per_identity(images).to_numpy(), _IMAGE_EDGES, "identities"),
        "sizes": _sizes(images),
        "pairs_per_identity": _pairs_per_identity(images, facts.tables),
    }


def _left_out(left_out: pd.DataFrame) -> dict:
    """Files by kind of reason, the most frequent first, with an example of each; and the first files."""
    ordered = left_out.sort_values("path", kind="stable")
    kinds = ordered.assign(kind=_kinds(ordered["reason"])).groupby("kind", sort=True)
    reasons = kinds.agg(files=("path", "size"), example=("path", "first"), reason=("reason", "first"))
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
    """Copies by kind; images is that of all groups of the kind."""
    ends, codes = _groups(copies)
    mixed = pd.Series(~copies["same_identity"].to_numpy(bool)).groupby(codes[: len(copies)]).any()
    sizes = np.bincount(codes)
    report = {
        "groups": int((sizes > 0).sum()),
        "largest_group": int(sizes.max(initial=0)),
        "images_under_two_identities": int(sizes[mixed.index[mixed].to_numpy(np.int64)].sum()) if len(ends) else 0,
    }
    for name, same in (("two_identities", False), ("same_identity", True)):
        rows = copies[copies["same_identity"] == same]
        rows = rows.sort_values(["exact", "distance", "first_path", "second_path"], ascending=[False, True, True, True])
        exact = int(rows["exact"].sum())
        listed = rows[["first_path", "second_path", "exact", "distance"]].head(LISTED)
        report[name] = {"exact": exact, "near": len(rows) - exact, "listed": _records(listed)}
    return report


def _groups(copies: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The images that are in copies, and for every end of a row (all of `first`, then the images) the root of its group."""
    ends = copies[["first", "second"]].to_numpy(np.int64)
    images, places = np.unique(ends, return_inverse=True)
    first, second = places.reshape(-1, 2).T
    groups = Groups(len(images))
    groups.join(first, second)
    return images, groups.roots(first)
