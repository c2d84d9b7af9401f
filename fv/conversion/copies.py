"""Copies among the checked images, and which of them take part in no pair."""

import numpy as np
import pandas as pd

from fv.conversion import duplicates
from fv.conversion.checking import Checked


def find(checked: Checked, distance: int) -> pd.DataFrame:
    """The copies among the sound images: what `duplicates.find` gives, by rows of `checked.sound`."""
    return duplicates.find(checked.digests, checked.hashes, _codes(checked), distance)


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
    others = {int(a): int(b) for a, b in copies[["second", "first"]].to_numpy()[::-1]}
    others = {int(b): int(a) for a, b in copies[["second", "first"]].to_numpy()[::-1]} | others
    paths = checked.sound["path"].to_numpy()
    rows = np.flatnonzero(doubtful | again)
    reasons = [
        f"the same picture as {paths[others[row]]}, and two identities have it"
        if doubtful[row]
        else f"the same bytes as {paths[others[row]]}"
        for row in rows
    ]
    left_out = pd.DataFrame({"path": paths[rows], "reason": reasons}, dtype=object)
    return checked.sound[~(doubtful | again)], left_out


def _codes(checked: Checked) -> np.ndarray:
    return checked.sound["identity"].cat.codes.to_numpy()
