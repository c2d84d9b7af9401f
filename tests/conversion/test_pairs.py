import dataclasses

import numpy as np
import pandas as pd
import pytest

from fv import record
from fv.conversion import pairs
from fv.conversion.options import ConvertOptions
from fv.errors import UserError

NAMES = [f"person {index}" for index in range(5000)]
SHARES = pairs.split_fractions(0.1, 0.2)


def test_shares_are_near_the_fractions():
    names, counts = np.unique(pairs.assign_splits(NAMES, SHARES, seed=0), return_counts=True)
    assert dict(zip(names, np.round(counts / 5000, 1), strict=True)) == {
        "train": 0.7,
        "val": 0.1,
        "test": 0.2,
    }


def test_adding_people_moves_nobody():
    assert (
        pairs.assign_splits(NAMES[:500], SHARES, seed=0)
        == pairs.assign_splits(NAMES, SHARES, seed=0)[:500]
    ).all()


def test_another_seed_gives_other_splits():
    assert (
        pairs.assign_splits(NAMES, SHARES, seed=0) != pairs.assign_splits(NAMES, SHARES, seed=1)
    ).any()


def test_a_larger_val_fraction_takes_from_train_only():
    before = pairs.assign_splits(NAMES, pairs.split_fractions(0.1, 0.2), seed=0)
    after = pairs.assign_splits(NAMES, pairs.split_fractions(0.3, 0.2), seed=0)
    assert ((before == "test") == (after == "test")).all()
    assert set(after[before == "val"]) == {"val"}


@pytest.mark.parametrize(
    ("val", "test", "names"), [(0, 0, ["train"]), (0, 1, ["test"]), (0.3, 0.7, ["val", "test"])]
)
def test_a_split_without_share_is_left_away(val, test, names):
    assert list(pairs.split_fractions(val, test)) == names


def test_shares_above_one_are_refused():
    with pytest.raises(UserError, match="more than 1"):
        pairs.split_fractions(0.6, 0.5)


def test_a_split_of_one_identity_is_refused_with_what_to_do():
    advised = "raise --val_fraction, set --val_fraction=0, or try another --seed"
    with pytest.raises(
        UserError, match=f"val split got 1 of 10 identities and needs two: {advised}"
    ):
        pairs.require_two_identities({"train": 7, "val": 1, "test": 2})


def table(train: int, test: int, images: int = 4) -> pd.DataFrame:
    """Images of so many identities of each split, shuffled, with gaps in the index."""
    names = [f"p{index:02d}" for index in range(train + test)]
    frame = pd.DataFrame({"identity": np.repeat(names, images)})
    split = np.where(frame["identity"] < f"p{train:02d}", "train", "test")
    frame["split"] = pd.Categorical(split, categories=["train", "test"])
    frame["identity"] = pd.Categorical(frame["identity"])
    frame.index = frame.index * 3 + 1
    return frame.sample(frac=1, random_state=0)


def wanted(total=None, share=0.5, identity=50, image=50) -> ConvertOptions:
    caps = dict(max_pairs_per_identity=identity, max_pairs_per_image=image)
    return ConvertOptions("faces", pairs=total, genuine_fraction=share, **caps)


def sample(images: pd.DataFrame, asked: ConvertOptions, seed: int = 0) -> dict[str, pd.DataFrame]:
    return pairs.sample_pairs(images, dataclasses.replace(asked, seed=seed))


def keys(sampled: pd.DataFrame) -> set:
    return {frozenset(ends) for ends in sampled[["a", "b"]].to_numpy().tolist()}


def test_pairs_are_balanced_distinct_and_labelled_by_identity():
    images = table(train=12, test=6)
    sampled = sample(images, wanted(100))
    assert sum(map(len, sampled.values())) == 100
    for name, frame in sampled.items():
        owners = [images["identity"][frame[column]].to_numpy() for column in ("a", "b")]
        assert len(keys(frame)) == len(frame)
        assert (frame["label"] == record.GENUINE).sum() * 2 == len(frame)
        assert ((owners[0] == owners[1]) == (frame["label"] == record.GENUINE)).all()
        assert set(images["split"][frame["a"]]) | set(images["split"][frame["b"]]) == {name}


def test_no_identity_and_no_image_exceeds_its_cap_of_either_label():
    images = table(train=12, test=6, images=9)
    sampled = sample(images, wanted(identity=7, image=3))
    for frame in sampled.values():
        for label, columns in ((record.GENUINE, ["a"]), (record.IMPOSTOR, ["a", "b"])):
            ends = frame[frame["label"] == label][columns].to_numpy().ravel()
            assert images["identity"][ends].value_counts().max() <= 7
        for _, same in frame.groupby("label"):
            assert same[["a", "b"]].stack().value_counts().max() <= 3


def test_either_image_may_come_first():
    images = table(train=12, test=6)
    frame = sample(images, wanted())["train"]
    assert 0.3 < (frame["a"] < frame["b"]).mean() < 0.7


def test_the_seed_alone_decides():
    images = table(train=12, test=6)
    first, again, other = (sample(images, wanted(60), seed)["train"] for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert keys(first) != keys(other)


def test_quotas_are_in_proportion_to_what_the_caps_allow():
    assert pairs.plan_quotas(table(train=30, test=10), wanted()) == {
        "train": (180, 180),
        "test": (60, 60),
    }
    assert pairs.plan_quotas(table(train=30, test=10), wanted(100)) == {
        "train": (38, 38),
        "test": (12, 12),
    }
    assert pairs.plan_quotas(table(train=30, test=10), wanted(480)) == {
        "train": (180, 180),
        "test": (60, 60),
    }
    assert pairs.plan_quotas(table(train=40, test=2), wanted(6)) == {
        "train": (2, 2),
        "test": (1, 1),
    }


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 2 / 3, 0.9])
def test_the_share_of_genuine_pairs_is_the_one_asked_for(share):
    images = table(train=30, test=10)
    for total in (None, 120, 121 if share != 0.5 else 120):
        frames = sample(images, wanted(total, share))
        counts = [
            int((frame["label"] == label).sum()) for frame in frames.values() for label in (1, 0)
        ]
        assert sum(counts) == total or total is None
        assert abs((counts[0] + counts[2]) / sum(counts) - share) <= 1 / sum(counts)
        assert abs(counts[0] / (counts[0] + counts[1]) - share) <= 2 / (counts[0] + counts[1])


def test_genuine_pairs_follow_impostor_pairs_that_fall_short():
    images = table(train=2, test=2, images=6)
    frame = sample(images, wanted(share=0.5, identity=15, image=2))["train"]
    assert (
        (frame["label"] == record.GENUINE).sum() == (frame["label"] == record.IMPOSTOR).sum() <= 12
    )


@pytest.mark.parametrize(
    ("total", "message"),
    [
        (481, "481 is odd"),
        (482, "more than the 480 pairs there are with at most 50"),
        (2, "too few for one pair of each"),
    ],
)
def test_a_number_of_pairs_that_cannot_be_is_refused(total, message):
    with pytest.raises(UserError, match=message):
        pairs.plan_quotas(table(train=30, test=10), wanted(total))


def test_a_split_of_single_images_is_refused():
    with pytest.raises(UserError, match="no identity of the train split has two images"):
        pairs.plan_quotas(table(train=5, test=5, images=1), wanted())
