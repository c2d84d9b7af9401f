"""Copies among the checked images, and which of them take part in no pair."""

import numpy as np
import pandas as pd

from fv.conversion import duplicates
from fv.conversion.checking import Checked


def find(checked: Checked, distance: int) -> pd.DataFrame:
    """The copies among the sound images, by rows of `checked.sound` and by path: see `duplicates.find` and `.named`."""
    found = duplicates.find(checked.digests, checked.hashes, _codes(checked), distance)
    return duplicates.named(found, checked.sound["path"].to_numpy())


def leave_out(checked: Checked, copies: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Takes out pictures found under two identities, whose label is in doubt, and copies of a file of the same identity.

    Args:
      checked: the images.
      copies: from `find`.

    Returns:
      The images that stay, as in `checked.sound`, and the others, with columns `path` and `reason`.
    """
    doubtful = duplicates.found_under_two(copies, _codes(checked))
    again = duplicates.redundant(copies, _codes(checked)) & ~doubtful
    rows = np.flatnonzero(doubtful | again)
    others = "'" + _other_ends(copies).reindex(rows).to_numpy(object) + "'"
    same = np.where(doubtful[rows], "the same picture as ", "the same bytes as ").astype(object)
    why = np.where(doubtful[rows], ", and two identities have it", "").astype(object)
    left_out = pd.DataFrame(
        {"path": checked.sound["path"].to_numpy()[rows], "reason": same + others + why},
        dtype=object,
    )
    return checked.sound[~(doubtful | again)], left_out


def _other_ends(copies: pd.DataFrame) -> pd.Series:
    """The path of a copy of each image that has one, of another identity where there is such a one; indexed by row."""
    ordered = copies.sort_values("same_identity", kind="stable")
    ends = [
        ordered.set_index(end)[f"{other}_path"]
        for end, other in (("second", "first"), ("first", "second"))
    ]
    both = pd.concat(ends)
    return both[~both.index.duplicated()]


def _codes(checked: Checked) -> np.ndarray:
    return checked.sound["identity"].cat.codes.to_numpy()
