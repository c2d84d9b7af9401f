import dataclasses

import numpy as np

from tests.evaluation.making import pair_set


def test_the_digest_is_of_the_pairs_and_their_labels_whatever_their_order():
    pairs = pair_set()
    order = np.random.default_rng(0).permutation(len(pairs))
    moved = {name: getattr(pairs, name)[order] for name in ("first", "second", "labels", "folds")}
    assert dataclasses.replace(pairs, **moved).digest() == pairs.digest()
    assert (
        dataclasses.replace(pairs, first=pairs.second, second=pairs.first).digest()
        == pairs.digest()
    )


def test_other_pairs_and_other_labels_have_another_digest():
    pairs = pair_set()
    others = [
        dataclasses.replace(pairs, labels=1 - pairs.labels),
        pair_set(seed=1),
        pairs.select(pairs.labels == 1, ""),
    ]
    assert len({pairs.digest(), *(other.digest() for other in others)}) == 4
