"""Groups that grow by joining: disjoint sets of row numbers, joined many at a time."""

import numpy as np


class Groups:
    """Rows 0 … n − 1, at first each in a group of its own; a group's root is its lowest row."""

    def __init__(self, count: int):
        self._parents = np.arange(count)

    def roots(self, rows: np.ndarray) -> np.ndarray:
        """The root of each row's group, int64 as `rows`."""
        found = self._parents[rows]
        while True:
            higher = self._parents[found]
            if (higher == found).all():
                self._parents[rows] = found  # shortens the way for the next call
                return found
            found = higher

    def join(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Joins the groups of row `a[i]` and row `b[i]` for every i.

        Returns:
          Indices i of joints that made one group of two, int64, ascending: as many as there are groups fewer.
        """
        used, left = [], np.arange(len(a))
        while len(left):
            ends = self.roots(np.stack([a[left], b[left]]))
            apart = ends[0] != ends[1]
            left, low, high = left[apart], ends.min(axis=0)[apart], ends.max(axis=0)[apart]
            high, first = np.unique(
                high, return_index=True
            )  # one new parent for each root, and always a lower one
            self._parents[high] = low[first]
            self._flatten(high)
            used.append(left[first])
        return np.sort(np.concatenate(used)) if used else np.empty(0, np.int64)

    def _flatten(self, rows: np.ndarray) -> None:
        """Makes roots the parents of `rows`, which are all that were joined to others just now; a chain halves each time."""
        while True:
            higher = self._parents[self._parents[rows]]
            if (higher == self._parents[rows]).all():
                return
            self._parents[rows] = higher
