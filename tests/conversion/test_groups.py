import numpy as np

from fv.conversion.groups import Groups


def test_joined_rows_share_their_lowest_row_as_root():
    groups = Groups(8)
    groups.join(np.array([5, 3, 6]), np.array([3, 1, 7]))
    assert groups.roots(np.arange(8)).tolist() == [0, 1, 2, 1, 4, 1, 6, 6]


def test_join_names_only_joints_that_made_one_group_of_two():
    groups = Groups(5)
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
        groups = Groups(60)
        used = np.concatenate([groups.join(a[:20], b[:20]), 20 + groups.join(a[20:], b[20:])])
        labels = np.arange(60)
        for low, high in np.sort([a, b], axis=0).T:
            first, second = sorted((labels[low], labels[high]))
            labels[labels == second] = first
        assert groups.roots(np.arange(60)).tolist() == labels.tolist()
        assert len(used) == 60 - len(np.unique(labels))


def test_a_long_chain_is_one_group_at_once():
    groups = Groups(100_000)
    assert len(groups.join(np.arange(99_999), np.arange(1, 100_000))) == 99_999
    assert not groups.roots(np.arange(100_000)).any()
