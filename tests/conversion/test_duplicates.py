import io
import time

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fv.conversion import checking, duplicates
from fv.conversion.duplicates import DisjointSets
from tests.conversion import making


def test_joined_rows_share_their_lowest_row_as_root():
    groups = DisjointSets(8)
    groups.join(np.array([5, 3, 6]), np.array([3, 1, 7]))
    assert groups.roots(np.arange(8)).tolist() == [0, 1, 2, 1, 4, 1, 6, 6]


def test_join_names_only_joints_that_made_one_group_of_two():
    groups = DisjointSets(5)
    assert groups.join(np.array([0, 1, 2, 0]), np.array([1, 2, 0, 0])).tolist() in (
        [0, 1],
        [0, 2],
        [1, 2],
    )
    assert groups.join(np.array([2, 4]), np.array([0, 0])).tolist() == [1]
    assert groups.join(np.array([], int), np.array([], int)).tolist() == []


def test_groups_are_those_of_one_joint_at_a_time():
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = rng.integers(0, 60, (2, 45))
        groups = DisjointSets(60)
        used = np.concatenate([groups.join(a[:20], b[:20]), 20 + groups.join(a[20:], b[20:])])
        labels = np.arange(60)
        for low, high in np.sort([a, b], axis=0).T:
            first, second = sorted((labels[low], labels[high]))
            labels[labels == second] = first
        assert groups.roots(np.arange(60)).tolist() == labels.tolist()
        assert len(used) == 60 - len(np.unique(labels))


def test_a_long_chain_is_one_group_at_once():
    groups = DisjointSets(100_000)
    assert len(groups.join(np.arange(99_999), np.arange(1, 100_000))) == 99_999
    assert not groups.roots(np.arange(100_000)).any()


def prints(files):
    """Digests and hashes of JPEG bytes."""
    greys = [np.asarray(Image.open(io.BytesIO(data)).convert("L")) for data in files]
    digests = np.array([checking.hash_bytes(data) for data in files], np.uint64)
    return digests, np.stack([checking.perceptual_hash(grey) for grey in greys])


def detailed(seed, size=120):
    """A picture with detail at every scale down to five pixels, as photographs have."""
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def find(files, identities, distance=checking.DISTANCE):
    return duplicates.find_duplicates(*prints(files), np.array(identities, np.int32), distance)


def flip(hashes, bits, rng):
    """The hash, uint64 [words], with so many bits changed."""
    changed = np.unpackbits(hashes.view(np.uint8))
    changed[rng.choice(checking.HASH_BITS, bits, replace=False)] ^= 1
    return np.packbits(changed).view(np.uint64)


def clusters(rng, count=400, distance=12):
    """Made-up digests and hashes, many of them near others, some equal, some of the same file."""
    centres = rng.integers(0, 2**64, (count // 4, checking.HASH_WORDS), dtype=np.uint64)
    hashes = np.stack(
        [
            flip(centres[rng.integers(count // 4)], rng.integers(distance + 3), rng)
            for _ in range(count)
        ]
    )
    source = np.arange(count)
    source[rng.integers(0, count, count // 10)] = rng.integers(0, count, count // 10)
    return source.astype(np.uint64), hashes[source]


def components(digests, hashes, distance):
    """The lowest row of each row's group, by comparing all with all."""
    near = checking.hamming_distances(hashes[:, None], hashes) <= distance
    near |= digests[:, None] == digests
    labels = np.arange(len(hashes))
    while True:
        lower = np.where(near, labels, len(labels)).min(axis=1)
        if (lower == labels).all():
            return labels
        labels = lower


def groups_of(copies, count):
    groups = DisjointSets(count)
    groups.join(copies["first"].to_numpy(), copies["second"].to_numpy())
    return groups.roots(np.arange(count))


def test_copies_are_found_by_bytes_and_by_picture():
    large = detailed(1)
    original = making.encode(large, quality=95)
    resized = making.encode(large.resize((70, 70), Image.Resampling.LANCZOS), quality=90)
    files = [
        original,
        making.encode(detailed(2)),
        original,
        making.encode(large, quality=60),
        resized,
        making.encode(detailed(3)),
    ]
    found = find(files, [0, 1, 0, 0, 7, 1])
    assert found[["first", "second", "exact", "same_identity"]].to_numpy().tolist() == [
        [0, 2, True, True],
        [0, 3, False, True],
        [0, 4, False, False],
    ]
    assert found["distance"][0] == 0 and found["distance"].max() <= checking.DISTANCE


def test_equal_hashes_of_other_bytes_are_near_copies():
    grey = Image.fromarray(cv2.cvtColor(making.pixels(1, 64), cv2.COLOR_RGB2GRAY))
    found = find(
        [making.encode(grey, quality=95), making.encode(grey, quality=95, optimize=True)], [0, 0]
    )
    assert found.to_numpy().tolist() == [[0, 1, 0, False, True]]


def test_different_pictures_are_no_copies():
    assert find([making.jpeg(seed) for seed in range(60)], range(60)).empty


def test_no_image_or_one_has_no_copy():
    for count in (0, 1):
        empty = (
            np.zeros(count, np.uint64),
            np.zeros((count, checking.HASH_WORDS), np.uint64),
            np.zeros(count, np.int32),
        )
        assert duplicates.find_duplicates(*empty, 12).empty
        assert duplicates.under_two_identities(
            duplicates.find_duplicates(*empty, 12), empty[2]
        ).shape == (count,)


@pytest.mark.parametrize("distance", [0, 1, 3, 7, 12, 20, duplicates.MOST_DISTANCE])
def test_groups_are_those_of_comparing_all_with_all(distance):
    rng = np.random.default_rng(distance)
    for _ in range(3):
        digests, hashes = clusters(rng, distance=distance)
        found = duplicates.find_duplicates(
            digests, hashes, np.zeros(len(hashes), np.int32), distance
        )
        wanted = components(digests, hashes, distance)
        assert groups_of(found, len(hashes)).tolist() == wanted.tolist()
        assert len(found) == len(hashes) - len(np.unique(wanted))
        assert (found["first"] < found["second"]).all() and (found["distance"] <= distance).all()


def test_the_order_of_the_images_does_not_change_the_groups():
    rng = np.random.default_rng(0)
    digests, hashes = clusters(rng)
    order = rng.permutation(len(hashes))
    identities = rng.integers(0, 9, len(hashes)).astype(np.int32)
    found = duplicates.find_duplicates(digests, hashes, identities, 12)
    mixed = duplicates.under_two_identities(found, identities)
    shuffled = duplicates.find_duplicates(digests[order], hashes[order], identities[order], 12)
    assert (
        duplicates.under_two_identities(shuffled, identities[order]).tolist()
        == mixed[order].tolist()
    )
    assert len(shuffled) == len(found) and 0 < mixed.sum() < len(mixed)
    again = duplicates.find_duplicates(digests, hashes, identities, 12)
    assert again.equals(found)


@pytest.fixture
def chain():
    """Digests and hashes of five pictures, each 10 bits from the next, the ends 40 bits apart."""
    bits = np.zeros((5, checking.HASH_BITS), np.uint8)
    for link in range(1, 5):
        bits[link:, 10 * link : 10 * link + 10] = 1
    return np.arange(5, dtype=np.uint64), np.packbits(bits, axis=1).view(np.uint64)


def test_a_chain_is_one_group_and_every_row_of_it_is_a_copy(chain):
    found = duplicates.find_duplicates(*chain, np.zeros(5, np.int32), 12)
    assert found[["first", "second"]].to_numpy().tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert found["distance"].tolist() == [10] * 4
    assert duplicates.find_duplicates(*chain, np.zeros(5, np.int32), 9).empty


def test_all_of_a_chain_is_in_doubt_where_one_end_has_another_identity(chain):
    identities = np.array([0, 0, 0, 0, 1], np.int32)
    found = duplicates.find_duplicates(*chain, identities, 12)
    assert found["same_identity"].tolist() == [True, True, True, False]
    assert duplicates.under_two_identities(found, identities).all()


def test_only_groups_of_two_identities_are_in_doubt():
    digests = np.array([5, 6, 5, 6, 5, 9], np.uint64)
    identities = np.array([0, 1, 0, 2, 0, 1], np.int32)
    hashes = np.random.default_rng(0).integers(
        0, 2**64, (10, checking.HASH_WORDS), dtype=np.uint64
    )[digests]
    found = duplicates.find_duplicates(digests, hashes, identities, 12)
    assert duplicates.under_two_identities(found, identities).tolist() == [
        False,
        True,
        False,
        True,
        False,
        False,
    ]
    assert duplicates.redundant_copies(found, identities).tolist() == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]


def test_a_file_is_redundant_within_each_of_two_identities():
    same, identities = np.ones(5, np.uint64), np.array([0, 1, 1, 0, 1], np.int32)
    found = duplicates.find_duplicates(
        same, np.zeros((5, checking.HASH_WORDS), np.uint64), identities, 12
    )
    assert duplicates.redundant_copies(found, identities).tolist() == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_the_same_file_is_seen_as_such_beside_a_near_copy():
    digests, identities = np.array([1, 2, 2], np.uint64), np.zeros(3, np.int32)
    found = duplicates.find_duplicates(
        digests, np.zeros((3, checking.HASH_WORDS), np.uint64), identities, 12
    )
    assert found[["first", "second", "exact"]].to_numpy().tolist() == [[0, 1, False], [1, 2, True]]
    assert duplicates.redundant_copies(found, identities).tolist() == [False, False, True]


@pytest.mark.parametrize("spread", [0, 3])
def test_masses_of_equal_or_nearly_equal_images_are_one_group_in_time(spread):
    count, rng = 20_000, np.random.default_rng(0)
    hashes = np.zeros((count, checking.HASH_WORDS), np.uint64)
    for _ in range(spread):
        bit = rng.integers(0, checking.HASH_BITS, count)
        hashes[np.arange(count), bit // 64] ^= np.uint64(1) << (bit % 64).astype(np.uint64)
    start = time.monotonic()
    found = duplicates.find_duplicates(
        np.arange(count, dtype=np.uint64), hashes, np.zeros(count, np.int32), 12
    )
    assert len(found) == count - 1 and time.monotonic() - start < 20


def test_paths_are_added_to_copies():
    found = find([making.jpeg(1), making.jpeg(2), making.jpeg(1)], [0, 0, 0])
    named = duplicates.name_duplicates(found, pd.Series(["a", "b", "c"]))
    assert named[["first_path", "second_path"]].to_numpy().tolist() == [["a", "c"]]
