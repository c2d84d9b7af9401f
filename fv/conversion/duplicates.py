"""Images that are there twice: the same bytes, or another file of the same picture.

Near duplicates are found by multi-index hashing: cut into one band more than bits may differ, two hashes within the
distance agree in a band whole, so that only images that agree in a band are compared.

Source: M. Norouzi, A. Punjani, D. J. Fleet, Fast Search in Hamming Space with Multi-Index Hashing, CVPR 2012, section 3.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd

from fv.conversion import fingerprint
from fv.conversion.groups import Groups

MOST_DISTANCE = 32  # bits; beyond it bands are so short that chance fills them
LONGEST_RUN = 256  # images: where more agree in a band, each is compared with so many next to it in the order of their bits
_CHUNK = 1 << 18  # hashes at once; their words stay in a core's cache
_WORD_BITS = 64


def find(digests: np.ndarray, hashes: np.ndarray, identities: np.ndarray, distance: int) -> pd.DataFrame:
    """Finds every image that is there again.

    Images are one group where a chain of copies leads from one to the other. A group of k images gives k − 1 rows that
    connect it: each image with the group's first where the two are copies, which only a chain's far end is not.

    Comparisons are bounded: at most (`distance` + 1) × n × `LONGEST_RUN`, whatever the images are. All pairs within
    `distance` are compared but where more than `LONGEST_RUN` different hashes agree in a band.

    Args:
      digests: of the files' bytes, uint64 [n].
      hashes: of the pictures, uint64 [n, fingerprint.WORDS].
      identities: codes, int [n].
      distance: most bits in which near duplicates differ, 0 to `MOST_DISTANCE`.

    Returns:
      A table with columns `first` and `second` (row numbers, first < second), `distance` (bits), `exact` (the same bytes)
      and `same_identity`, sorted by `first` and `second`.
    """
    first, second = _connect(digests, hashes, distance)
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    return pd.DataFrame(
        {
            "first": first,
            "second": second,
            "distance": fingerprint.distances(hashes[first], hashes[second]),
            "exact": digests[first] == digests[second],
            "same_identity": identities[first] == identities[second],
        }
    )


def named(copies: pd.DataFrame, paths: np.ndarray) -> pd.DataFrame:
    """What `find` gave, with the columns `first_path` and `second_path` taken from the paths [n] of the images."""
    return copies.assign(first_path=paths[copies["first"]], second_path=paths[copies["second"]])


def found_under_two(copies: pd.DataFrame, identities: np.ndarray) -> np.ndarray:
    """Which images are in a group of copies, exact or near, of two identities or more: their label is in doubt.

    Args:
      copies: from `find`.
      identities: codes, int [n].

    Returns:
      bool [n]; every image of such a group, since all show one picture and nothing says which label is right.
    """
    groups = Groups(len(identities))
    groups.join(copies["first"].to_numpy(), copies["second"].to_numpy())
    roots = groups.roots(np.arange(len(identities)))
    mixed = np.zeros(len(identities), bool)
    mixed[roots[identities != identities[roots]]] = True
    return mixed[roots]


def redundant(copies: pd.DataFrame, identities: np.ndarray) -> np.ndarray:
    """Which images have the same bytes as an earlier image of the same identity.

    Args:
      copies: from `find`.
      identities: codes, int [n].

    Returns:
      bool [n].
    """
    exact = copies[copies["exact"]]
    rows = np.union1d(exact["first"], exact["second"])
    groups = Groups(len(identities))
    groups.join(exact["first"].to_numpy(), exact["second"].to_numpy())
    again = pd.DataFrame({"root": groups.roots(rows), "identity": identities[rows]}).duplicated()
    found = np.zeros(len(identities), bool)
    found[rows[again.to_numpy()]] = True
    return found


def _connect(digests: np.ndarray, hashes: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (first, second) of copies that connect every group."""
    files = _firsts(digests[:, None])
    exact = np.flatnonzero(files != np.arange(len(files)))
    different = np.flatnonzero(files == np.arange(len(files)))
    pictures = different[_firsts(hashes[different])]
    equal = pictures != different
    single = different[~equal]
    near = _connect_near(hashes[single], distance)
    parts = ((files[exact], exact), (pictures[equal], different[equal]), (single[near[0]], single[near[1]]))
    return tuple(np.concatenate(ends) for ends in zip(*parts, strict=True))


def _firsts(keys: np.ndarray) -> np.ndarray:
    """For each row of `keys`, uint64 [n, words], the first row that is equal to it, int64 [n]."""
    order = np.lexsort(keys.T)  # stable, so that of equal rows the first leads
    ordered = keys[order]
    begins = np.ones(len(keys), bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    firsts = np.empty(len(keys), np.int64)
    firsts[order] = order[begins][np.cumsum(begins) - 1]
    return firsts


def _connect_near(hashes: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """As `_connect`, for hashes that all differ."""
    groups = Groups(len(hashes))
    found = [np.empty((2, 0), np.int64)]
    for a, b in _candidates(hashes, groups, distance):
        near = fingerprint.distances(hashes[a], hashes[b]) <= distance
        ends = np.sort([a[near], b[near]], axis=0)
        found.append(ends[:, groups.join(*ends)])
    return _as_stars(np.concatenate(found, axis=1), groups, hashes, distance)


def _as_stars(edges: np.ndarray, groups: Groups, hashes: np.ndarray, distance: int) -> np.ndarray:
    """The same groups, every image joined to its group's first where it is near, and by its old edge where it is not."""
    members = np.unique(edges)
    roots = groups.roots(members)
    near = (roots != members) & (fingerprint.distances(hashes[roots], hashes[members]) <= distance)
    edges = np.concatenate([np.stack([roots, members])[:, near], edges], axis=1)
    stars = int(near.sum())
    fresh = Groups(len(hashes))
    used = fresh.join(*edges[:, :stars]), stars + fresh.join(*edges[:, stars:])
    return edges[:, np.concatenate(used)]


def _candidates(hashes: np.ndarray, groups: Groups, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields rows (a, b), not of one group yet, of hashes that agree in a band."""
    edges = np.linspace(0, fingerprint.BITS, distance + 2).astype(int)
    for start, stop in itertools.pairwise(edges.tolist()):
        keys = _bits_from(hashes, start)
        order = np.argsort(keys, kind="stable")
        bands = keys[order] >> np.uint64(_WORD_BITS - min(stop - start, _WORD_BITS))
        for at in range(0, len(order), _CHUNK):
            rows = order[at : at + _CHUNK + LONGEST_RUN]
            probes = hashes[rows, (start // _WORD_BITS + fingerprint.WORDS // 2) % fingerprint.WORDS]  # not in the band
            yield from _agreeing(rows, bands[at : at + len(rows)], probes, groups, distance)


def _agreeing(
    rows: np.ndarray, bands: np.ndarray, probes: np.ndarray, groups: Groups, distance: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the candidates of one chunk: for each step up to `LONGEST_RUN`, places i and i + step of equal bands and of two
    groups, where `probes` differ in no more than `distance` bits."""
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
            roots = groups.roots(rows)  # of a mass of copies most are one group by now, and need no more comparing


def _bits_from(hashes: np.ndarray, start: int) -> np.ndarray:
    """64 bits of each hash from bit `start` on, the first bits after the last, uint64 [n]."""
    word, offset = divmod(start, _WORD_BITS)
    high = hashes[:, word] << np.uint64(offset)
    if not offset:
        return high
    return high | hashes[:, (word + 1) % fingerprint.WORDS] >> np.uint64(_WORD_BITS - offset)
