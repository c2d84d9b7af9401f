"""Finds doubtful labels of a data set by the embeddings of its images.

Three kinds are found: images that are far from their person, people that are two, and two people
that are one. Everything is judged by cosines of centred embeddings, relative to the same figures of
the whole data set, so any model's embeddings will do.
"""

from typing import NamedTuple

import numpy as np

from fv import partner_search, progress
from fv.embedding_files import Embeddings
from fv.partner_search import FixedPoint

FAR, TWO_PEOPLE, SAME_PERSON = "far", "two_people", "same_person"
_SIZES = (1, 2, 3, 5, 9)  # images of a person, from which on a class of sizes begins
_SHARE_WRONG = 0.05  # of the images, assumed
_LEAST_PART = 2  # images of each of two people in one folder; a single image is far
_ROUNDS = 10  # of splitting a person's images in two
_DEVIATIONS = 4.0  # above the median of all pairs of nearest people, from which on both are one


class Finding(NamedTuple):
    """A doubtful label.

    Attributes:
      kind: `FAR`, `TWO_PEOPLE` or `SAME_PERSON`.
      identity: whose label it is.
      other: the person that it may be; "" if there is none.
      score: sorts findings of a kind, the surest first.
      images: int [n], the images that are wrong if the finding is right.
      shown: one of them, and an image to compare it with.
    """

    kind: str
    identity: str
    other: str
    score: float
    images: np.ndarray
    shown: tuple[int, int]


def find_doubts(embeddings: Embeddings) -> list[Finding]:
    """Finds doubtful labels, by kind, the surest of each first."""
    vectors = embeddings.vectors - embeddings.vectors.mean(axis=0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    names, owners = np.unique(embeddings.identities, return_inverse=True)
    members = np.split(np.argsort(owners, kind="stable"), np.cumsum(np.bincount(owners))[:-1])
    sums = np.stack([vectors[each].sum(axis=0) for each in members])
    two = _find_two_people(vectors, names, members)
    mixed = {finding.identity for finding in two}
    # An image that is far from its person must not blur the person for the search of doubles.
    far = _find_far(vectors, names, owners, members, sums)
    far = [finding for finding in far if finding.identity not in mixed]
    for finding in far:
        sums[owners[finding.images[0]]] -= vectors[finding.images[0]]
    same = _find_same_person(vectors, names, members, sums)
    return [
        finding
        for found in (far, two, same)
        for finding in sorted(found, key=lambda each: -each.score)
    ]


def _find_far(
    vectors: np.ndarray, names: np.ndarray, owners: np.ndarray, members: list, sums: np.ndarray
) -> list[Finding]:
    """Images whose cosine to the mean of their person's other images is that of a stranger."""
    counts = np.array([len(each) for each in members])
    rest = counts[owners] - 1
    judged = np.flatnonzero(rest > 0)
    own = _cosines(vectors[judged], sums[owners[judged]] - vectors[judged])
    # The same for a stranger: another person with about as many images.
    order = np.argsort(counts, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    neighbour = order[(place[owners[judged]] + 1) % len(order)]
    stranger = _cosines(vectors[judged], sums[neighbour])
    sizes = np.searchsorted(_SIZES, rest[judged], side="right")
    odds = np.full(len(judged), -np.inf)
    for size in np.unique(sizes):
        rows = sizes == size
        of_own, of_other = _robust(own[rows]), _robust(stranger[rows])
        log_ratio = _log_density(own[rows], *of_other) - _log_density(own[rows], *of_own)
        # Beyond the strangers' mean the ratio of two bells can turn around.
        odds[rows] = np.where(own[rows] < of_other[0], np.inf, log_ratio)
    prior = np.log(_SHARE_WRONG / (1 - _SHARE_WRONG))
    found: list[Finding] = []
    chosen = odds + prior > 0
    candidates = judged[chosen]
    nearest, nearness = _nearest_people(vectors[candidates], owners[candidates], sums)
    pair_taken: dict[int, tuple[float, int]] = {}
    for image, cosine, other, near in zip(candidates, own[chosen], nearest, nearness, strict=True):
        person = owners[image]
        score = float(near - cosine)
        if counts[person] == 2:  # either may be wrong: the one that is nearer to somebody else
            if person in pair_taken and pair_taken[person][0] >= score:
                continue
            if person in pair_taken:
                found = [each for each in found if each.images[0] != pair_taken[person][1]]
            pair_taken[person] = (score, image)
        others = members[person][members[person] != image]
        typical = others[np.argmax(vectors[others] @ (sums[person] - vectors[image]))]
        found.append(
            Finding(FAR, names[person], names[other], score, np.array([image]), (image, typical))
        )
    return found


def _find_two_people(vectors: np.ndarray, names: np.ndarray, members: list) -> list[Finding]:
    """People whose images fall into two groups that are as far apart as two people."""
    if max(map(len, members)) < 2 * _LEAST_PART:
        return []
    genuine, impostor = _pair_cosines(vectors, members)
    (near, near_spread), (apart, apart_spread) = _robust(genuine), _robust(impostor)
    limit = (near * apart_spread + apart * near_spread) / (near_spread + apart_spread)
    found = []
    with progress.Progress(len(members), "split", "person") as line:
        for person, images in enumerate(members):
            line.update()
            if len(images) < 2 * _LEAST_PART:
                continue
            first = _split_in_two(vectors[images])
            parts = sorted((images[first], images[~first]), key=len)
            if len(parts[0]) < _LEAST_PART:
                continue
            across = float((vectors[parts[0]] @ vectors[parts[1]].T).mean())
            within = min(_mean_cosine(vectors[each]) for each in parts)
            if across < limit < within:  # else images of several others, which are far
                shown = _find_typical(parts, vectors)
                score = within - across
                found.append(Finding(TWO_PEOPLE, names[person], "", score, parts[0], shown))
    return found


def _find_same_person(
    vectors: np.ndarray, names: np.ndarray, members: list, sums: np.ndarray
) -> list[Finding]:
    """Two people, each the nearest to the other, and far nearer than people usually are."""
    lengths = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
    means = FixedPoint.of((sums / lengths).astype(np.float32))
    everyone = np.arange(len(names))
    partners = partner_search.find_partners(means, everyone, 2, genuine=False)
    first, second = (
        (means.numbers * means.numbers[each]).sum(axis=1) / means.scale**2 for each in partners.T
    )
    nearest = partners[:, 0]
    ones = np.flatnonzero((nearest[nearest] == everyone) & (everyone < nearest))
    others = nearest[ones]
    scores = first[ones] + np.minimum((first - second)[ones], (first - second)[others])
    middle, spread = _robust(scores)
    scores = (scores - middle) / spread
    found = []
    for row in np.flatnonzero(scores > _DEVIATIONS):
        pair = sorted((ones[row], others[row]), key=lambda each: (len(members[each]), each))
        shown = _find_typical([members[each] for each in pair], vectors)
        smaller, larger = pair
        found.append(
            Finding(
                SAME_PERSON, names[smaller], names[larger], scores[row], members[smaller], shown
            )
        )
    return found


def _find_typical(groups: list, vectors: np.ndarray) -> tuple[int, int]:
    """The image of each of two groups that is nearest to the group's mean."""
    one, other = (
        int(each[np.argmax(vectors[each] @ vectors[each].sum(axis=0))]) for each in groups
    )
    return one, other


def _mean_cosine(vectors: np.ndarray) -> float:
    """Mean cosine of the pairs among unit vectors [n, d], n ≥ 2."""
    count = len(vectors)
    return float((np.square(vectors.sum(axis=0)).sum() - count) / (count * (count - 1)))


def _cosines(vectors: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Cosines of rows with rows, float [n]; 0 where a sum is."""
    lengths = np.maximum(np.linalg.norm(sums, axis=1), 1e-6)
    return (vectors * sums).sum(axis=1) / lengths


def _nearest_people(
    vectors: np.ndarray, owners: np.ndarray, sums: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The person beside its own that is nearest to each image, and the cosine."""
    means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
    nearest, nearness = np.zeros(len(vectors), int), np.zeros(len(vectors))
    with progress.Progress(len(vectors), "find strangers", "image") as line:
        for row, (vector, owner) in enumerate(zip(vectors, owners, strict=True)):
            cosines = means @ vector
            cosines[owner] = -np.inf
            nearest[row] = cosines.argmax()
            nearness[row] = cosines[nearest[row]]
            line.update()
    return nearest, nearness


def _pair_cosines(vectors: np.ndarray, members: list) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of images of one person, and of images of a person and the next one."""
    genuine, impostor = [], []
    for images, others in zip(members, [*members[1:], members[0]], strict=True):
        impostor.append(vectors[images[0]] @ vectors[others[0]])
        if len(images) > 1:
            genuine.append(vectors[images[0]] @ vectors[images[1]])
    return np.array(genuine), np.array(impostor)


def _split_in_two(vectors: np.ndarray) -> np.ndarray:
    """Splits unit vectors [n, d] into two groups by their means: bool [n]."""
    first = vectors @ np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)[2][0]
    group = first > np.median(first)
    for _ in range(_ROUNDS):
        if group.all() or not group.any():
            break
        means = np.stack([vectors[group].mean(axis=0), vectors[~group].mean(axis=0)])
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-6)
        cosines = vectors @ means.T
        group = cosines[:, 0] > cosines[:, 1]
    return group


def _robust(values: np.ndarray) -> tuple[float, float]:
    """Median and spread, which a few wrong values do not move; the spread of a normal is σ."""
    middle = float(np.median(values))
    return middle, max(1.4826 * float(np.median(np.abs(values - middle))), 1e-6)


def _log_density(values: np.ndarray, middle: float, spread: float) -> np.ndarray:
    return -0.5 * ((values - middle) / spread) ** 2 - np.log(spread)
