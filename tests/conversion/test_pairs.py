import numpy as np
import pandas as pd
import pytest

from fv import record
from fv.conversion import pairs
from fv.errors import UserError


def table(train: int, test: int, images: int = 4) -> pd.DataFrame:
    """Sound images of so many identities of each split, in shuffled order, with gaps in the index."""
    names = [f"p{index:02d}" for index in range(train + test)]
    frame = pd.DataFrame({"identity": np.repeat(names, images)})
    split = np.where(frame["identity"] < f"p{train:02d}", "train", "test")
    frame["split"] = pd.Categorical(split, categories=["train", "test"])
    frame["identity"] = pd.Categorical(frame["identity"])
    frame.index = frame.index * 3 + 1
    return frame.sample(frac=1, random_state=0)


def keys(sampled: pd.DataFrame) -> set:
    return {frozenset(ends) for ends in sampled[["a", "b"]].to_numpy().tolist()}


def test_pairs_are_balanced_distinct_and_labelled_by_identity():
    images = table(train=12, test=6)
    sampled = pairs.sample_pairs(images, pairs.plan_quotas(images, 100, 50), 100, 50, seed=0)
    assert sum(map(len, sampled.values())) == 100
    for name, frame in sampled.items():
        owners = [images["identity"][frame[column]].to_numpy() for column in ("a", "b")]
        assert len(keys(frame)) == len(frame)
        assert (frame["label"] == record.GENUINE).sum() * 2 == len(frame)
        assert ((owners[0] == owners[1]) == (frame["label"] == record.GENUINE)).all()
        assert set(images["split"][frame["a"]]) | set(images["split"][frame["b"]]) == {name}


def test_no_identity_exceeds_the_cap_of_either_label():
    images = table(train=12, test=6, images=9)
    sampled = pairs.sample_pairs(images, pairs.plan_quotas(images, None, 7), None, 7, seed=0)
    for frame in sampled.values():
        for label, columns in ((record.GENUINE, ["a"]), (record.IMPOSTOR, ["a", "b"])):
            ends = frame[frame["label"] == label][columns].to_numpy().ravel()
            assert images["identity"][ends].value_counts().max() <= 7


def test_either_image_may_come_first():
    images = table(train=12, test=6)
    frame = pairs.sample_pairs(images, pairs.plan_quotas(images, None, 50), None, 50, seed=0)["train"]
    assert 0.3 < (frame["a"] < frame["b"]).mean() < 0.7


def test_the_seed_alone_decides():
    images = table(train=12, test=6)
    quotas = pairs.plan_quotas(images, 60, 50)
    first, again, other = (pairs.sample_pairs(images, quotas, 60, 50, seed)["train"] for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert keys(first) != keys(other)


def test_quotas_are_in_proportion_to_what_the_caps_allow():
    assert pairs.plan_quotas(table(train=30, test=10), None, 50) == {"train": 180, "test": 60}
    assert pairs.plan_quotas(table(train=30, test=10), 100, 50) == {"train": 38, "test": 12}
    assert pairs.plan_quotas(table(train=30, test=10), 480, 50) == {"train": 180, "test": 60}
    assert pairs.plan_quotas(table(train=40, test=2), 6, 50) == {"train": 2, "test": 1}


@pytest.mark.parametrize(
    ("total", "message"),
    [(481, "481 is odd"), (482, "more than the 480 pairs there are with at most 50"), (2, "too few for 2")],
)
def test_a_number_of_pairs_that_cannot_be_is_refused(total, message):
    with pytest.raises(UserError, match=message):
        pairs.plan_quotas(table(train=30, test=10), total, 50)


def test_a_split_of_single_images_is_refused():
    with pytest.raises(UserError, match="no identity of the train split has two images"):
        pairs.plan_quotas(table(train=5, test=5, images=1), None, 50)
