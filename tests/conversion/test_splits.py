import numpy as np
import pytest

from fv.conversion import splits
from fv.errors import UserError

NAMES = [f"person {index}" for index in range(5000)]
SHARES = splits.fractions(0.1, 0.2)


def test_shares_are_near_the_fractions():
    names, counts = np.unique(splits.assign(NAMES, SHARES, seed=0), return_counts=True)
    assert dict(zip(names, np.round(counts / 5000, 1), strict=True)) == {
        "train": 0.7,
        "val": 0.1,
        "test": 0.2,
    }


def test_adding_people_moves_nobody():
    assert (
        splits.assign(NAMES[:500], SHARES, seed=0) == splits.assign(NAMES, SHARES, seed=0)[:500]
    ).all()


def test_another_seed_gives_other_splits():
    assert (splits.assign(NAMES, SHARES, seed=0) != splits.assign(NAMES, SHARES, seed=1)).any()


def test_a_larger_val_fraction_takes_from_train_only():
    before = splits.assign(NAMES, splits.fractions(0.1, 0.2), seed=0)
    after = splits.assign(NAMES, splits.fractions(0.3, 0.2), seed=0)
    assert ((before == "test") == (after == "test")).all()
    assert set(after[before == "val"]) == {"val"}


@pytest.mark.parametrize(
    ("val", "test", "names"), [(0, 0, ["train"]), (0, 1, ["test"]), (0.3, 0.7, ["val", "test"])]
)
def test_a_split_without_share_is_left_away(val, test, names):
    assert list(splits.fractions(val, test)) == names


def test_shares_above_one_are_refused():
    with pytest.raises(UserError, match="more than 1"):
        splits.fractions(0.6, 0.5)


def test_a_split_of_one_identity_is_refused_with_what_to_do():
    advised = "raise --val_fraction, set --val_fraction=0, or try another --seed"
    with pytest.raises(
        UserError, match=f"val split got 1 of 10 identities and needs two: {advised}"
    ):
        splits.require_two_identities({"train": 7, "val": 1, "test": 2})
