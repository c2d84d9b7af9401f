"""Finds images that are there twice: the same bytes, or another file of the same picture.

Near duplicates are found by multi-index hashing. Hashes are cut into one band more than bits may
differ, so that two hashes within the distance agree in a whole band. Only such pairs are compared.

Source: M. Norouzi, A. Punjani, D. J. Fleet, Fast Search in Hamming Space with Multi-Index Hashing,
CVPR 2012, section 3.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd

from fv.conversion import checking
from fv.conversion.checking import Checked

MOST_DISTANCE = 32  # bits; beyond it bands are so short that chance fills them
LONGEST_RUN = 256  # where more images agree in a band, each is compared with so many beside it

_CHUNK = 1 << 18  # hashes at once; their words stay in a core's cache
_WORD_BITS = 64


def find_copies(checked: Checked) -> pd.DataFrame:
    """The duplicates among the sound images, with their paths: see `find_duplicates`."""
    codes, distance = _codes(checked), checking.DISTANCE
    found = find_duplicates(checked.digests, checked.hashes, codes, distance)
    return name_duplicates(found, checked.sound["path"])


def drop_copies(checked: Checked, copies: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Drops pictures found under two identities, and copies of a file of the same identity.

    Returns:
      The images that stay, as in `checked.sound`; those dropped, with columns `path` and `reason`.
    """
    doubtful = under_two_identities(copies, _codes(checked))
    redundant = redundant_copies(copies, _codes(checked)) & ~doubtful
    rows = np.flatnonzero(doubtful | redundant)
    others = "'" + _copy_of(copies).reindex(rows).to_numpy(object) + "'"
    start = np.where(doubtful[rows], "the same picture as ", "the same bytes as ").astype(object)
    end = np.where(doubtful[rows], ", and two identities have it", "").astype(object)
    paths = checked.sound["path"].iloc[rows].to_numpy(object)
    dropped = pd.DataFrame({"path": paths, "reason": start + others + end}, dtype=object)
    return checked.sound[~(doubtful | redundant)], dropped


def find_duplicates(
    digests: np.ndarray, hashes: np.ndarray, identities: np.ndarray, distance: int
) -> pd.DataFrame:
    """Finds every image that is there again.

    Images are one group where a chain of copies leads from one to the other. A group of k images
    gives k − 1 rows that connect it. Each joins an image to the group's first one, or to another
    one where these two are no copies of each other.

    There are at most (`distance` + 1) × n × `LONGEST_RUN` comparisons, whatever the images are. All
    pairs within `distance` are compared unless more than `LONGEST_RUN` hashes agree in a band.

    Args:
      digests: of the files' bytes, uint64 [n].
      hashes: of the pictures, uint64 [n, checking.HASH_WORDS].
      identities: codes, int [n].
      distance: most bits in which near duplicates differ, 0 to `MOST_DISTANCE`.

    Returns:
      A table with columns `first` and `second` (row numbers, first < second), `distance` (bits),
      `exact` (the same bytes) and `same_identity`, sorted by `first` and `second`.
    """
    first, second = _connect(digests, hashes, distance)
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    return pd.DataFrame(
        {
            "first": first,
            "second": second,
            "distance": checking.hamming_distances(hashes[first], hashes[second]),
            "exact": digests[first] == digests[second],
            "same_identity": identities[first] == identities[second],
        }
    )


def name_duplicates(copies: pd.DataFrame, paths: pd.Series) -> pd.DataFrame:
    """The duplicates with columns `first_path` and `second_path`, from the images' paths [n]."""
    first, second = (paths.iloc[copies[end]].to_numpy(object) for end in ("first", "second"))
    return copies.assign(first_path=first, second_path=second)


def under_two_identities(copies: pd.DataFrame, identities: np.ndarray) -> np.ndarray:
    """Which images are in a group of copies, exact or near, of two identities or more.

    All images of such a group show one picture, and nothing says which label is right. Arguments
    as from and for `find_duplicates`; the result is bool [n].
    """
    roots = _group_roots(copies, len(identities))
    mixed = np.zeros(len(identities), bool)
    mixed[roots[identities != identities[roots]]] = True
    return mixed[roots]


def redundant_copies(copies: pd.DataFrame, identities: np.ndarray) -> np.ndarray:
    """Which images have the same bytes as an earlier image of the same identity, bool [n]."""
    exact = copies[copies["exact"]]
    rows = np.union1d(exact["first"], exact["second"])
    roots = _group_roots(exact, len(identities))[rows]
    again = pd.DataFrame({"root": roots, "identity": identities[rows]}).duplicated()
    redundant = np.zeros(len(identities), bool)
    redundant[rows[again.to_numpy()]] = True
    return redundant


class DisjointSets:
    """Rows 0 … n − 1, at first each in a group of its own; a group's root is its lowest row.

    Many rows are joined at a time, and joining again only costs the rows that are joined, which no
    function of SciPy offers.
    """

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
          The i that made one group of two, int64, ascending: as many as there are groups fewer.
        """
        used, left = [], np.arange(len(a))
        while len(left):
            ends = self.roots(np.stack([a[left], b[left]]))
            apart = ends[0] != ends[1]
            left, low, high = left[apart], ends.min(axis=0)[apart], ends.max(axis=0)[apart]
            # One new parent for each root, and always a lower one, so that no circle arises.
            high, first = np.unique(high, return_index=True)
            self._parents[high] = low[first]
            self._shorten(high)
            used.append(left[first])
        return np.sort(np.concatenate(used)) if used else np.empty(0, np.int64)

    def _shorten(self, rows: np.ndarray) -> None:
        """Makes roots the parents of all rows that were just joined; a chain halves each time."""
        while True:
            higher = self._parents[self._parents[rows]]
            if (higher == self._parents[rows]).all():
                return
            self._parents[rows] = higher


def _group_roots(copies: pd.DataFrame, count: int) -> np.ndarray:
    """The first image of each image's group of copies, int64 [count]."""
    groups = DisjointSets(count)
    groups.join(copies["first"].to_numpy(), copies["second"].to_numpy())
    return groups.roots(np.arange(count))


def _connect(digests: np.ndarray, hashes: np.ndarray, distance: int) -> np.ndarray:
    """Pairs (first, second) of copies that connect every group, int64 [2, pairs].

    Equal files and equal hashes are set apart first: there may be masses of them.
    """
    exact, originals = _repeats(digests)
    different = np.delete(np.arange(len(digests)), exact)
    keys = pd.util.hash_pandas_object(pd.DataFrame(hashes[different]), index=False)
    equal, firsts = _repeats(keys.to_numpy())
    pairs = np.stack([different[firsts], different[equal]])
    same = (hashes[pairs[0]] == hashes[pairs[1]]).all(axis=1)  # two hashes may have one key
    near = _connect_near(hashes, np.delete(different, equal[same]), distance)
    return np.concatenate([np.stack([originals, exact]), pairs[:, same], near], axis=1)


def _repeats(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of keys, uint64 [n], that stand before, and the first place of each; both int64."""
    order = np.argsort(keys, kind="stable")  # so that of equal keys the first leads
    ordered = keys[order]
    begins = np.append(True, ordered[1:] != ordered[:-1])[: len(keys)]
    starts, again = np.flatnonzero(begins), np.flatnonzero(~begins)
    return order[again], order[starts[np.searchsorted(starts, again) - 1]]


def _connect_near(hashes: np.ndarray, rows: np.ndarray, distance: int) -> np.ndarray:
    """As `_connect`, for some rows, whose hashes all differ."""
    groups = DisjointSets(len(hashes))
    found = [np.empty((2, 0), np.int64)]
    for a, b in _candidates(hashes, rows, groups, distance):
        near = checking.hamming_distances(hashes[a], hashes[b]) <= distance
        ends = np.sort([a[near], b[near]], axis=0)
        found.append(ends[:, groups.join(*ends)])
    edges = np.concatenate(found, axis=1)

    # Join each image to its group's first where these are near, and keep its old edge where not.
    members = np.unique(edges)
    roots = groups.roots(members)
    away = checking.hamming_distances(hashes[roots], hashes[members])
    near = (roots != members) & (away <= distance)
    edges = np.concatenate([np.stack([roots, members])[:, near], edges], axis=1)
    stars = int(near.sum())
    groups = DisjointSets(len(hashes))
    used = groups.join(*edges[:, :stars]), stars + groups.join(*edges[:, stars:])
    return edges[:, np.concatenate(used)]


def _candidates(
    hashes: np.ndarray, rows: np.ndarray, groups: DisjointSets, distance: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields rows (a, b), not of one group yet, of hashes that agree in a band."""
    edges = np.linspace(0, checking.HASH_BITS, distance + 2).astype(int)
    for start, stop in itertools.pairwise(edges.tolist()):
        bands = _bits_from(hashes, start)[rows]
        order = np.argsort(bands, kind="stable")  # by all 64 bits: near hashes lie side by side
        bands = bands[order] >> np.uint64(_WORD_BITS - min(stop - start, _WORD_BITS))
        ordered = rows[order]
        del order
        probe = (start // _WORD_BITS + checking.HASH_WORDS // 2) % checking.HASH_WORDS
        for at in range(0, len(ordered), _CHUNK):
            part = ordered[at : at + _CHUNK + LONGEST_RUN]
            probes = hashes[part, probe]  # a word outside of the band
            yield from _equal_bands(part, bands[at : at + len(part)], probes, groups, distance)


def _equal_bands(
    rows: np.ndarray, bands: np.ndarray, probes: np.ndarray, groups: DisjointSets, distance: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the candidates of one chunk, places i and i + step for each step up to `LONGEST_RUN`.

    They have equal bands, belong to two groups, and differ in at most `distance` bits of `probes`.
    """
    live, roots = np.arange(min(_CHUNK, len(rows))), groups.roots(rows)
    for step in range(1, LONGEST_RUN + 1):
        live = live[: np.searchsorted(live, len(rows) - step)]
        live = live[bands[live] == bands[live + step]]
        if not len(live):
            return
        near = live[roots[live] != roots[live + step]]
        near = near[np.bitwise_count(probes[near] ^ probes[near + step]) <= distance]
        if len(near):
            yield rows[near], rows[near + step]
        if len(near) > len(live) // 8:
            # Of a mass of copies most are one group by now, and need no more comparing.
            roots = groups.roots(rows)


def _bits_from(hashes: np.ndarray, start: int) -> np.ndarray:
    """64 bits of each hash from bit `start` on, the first bits after the last, uint64 [n]."""
    word, offset = divmod(start, _WORD_BITS)
    high = hashes[:, word] << np.uint64(offset)
    if not offset:
        return high
    return high | hashes[:, (word + 1) % checking.HASH_WORDS] >> np.uint64(_WORD_BITS - offset)


def _copy_of(copies: pd.DataFrame) -> pd.Series:
    """The path of a copy of each image that has one, by row; preferably of another identity."""
    ordered = copies.sort_values("same_identity", kind="stable")
    both = pd.concat(
        [ordered.set_index("second")["first_path"], ordered.set_index("first")["second_path"]]
    )
    return both[~both.index.duplicated()]


def _codes(checked: Checked) -> np.ndarray:
    return checked.sound["identity"].cat.codes.to_numpy()
