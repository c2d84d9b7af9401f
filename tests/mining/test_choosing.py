import numpy as np
import pytest

from fv.conversion.caps import Caps
from fv.mining import choosing
from fv.mining.choosing import Wanted
from fv.mining.search import NOBODY

SIZES = np.array([3, 5, 1, 8, 2, 6], np.int64)
OWNERS = np.repeat(np.arange(len(SIZES)), SIZES)
MANY = Caps(1000, 1000)


def partners_of(*, genuine: bool) -> np.ndarray:
    """Two partners of each image, drawn at random."""
    rng, rows = np.random.default_rng(1), []
    for image, owner in enumerate(OWNERS):
        others = np.flatnonzero((owner == OWNERS) == genuine)
        others = rng.permutation(others[others != image])[:2]
        rows.append([*others, NOBODY, NOBODY][:2])
    return np.array(rows, np.int32)


@pytest.mark.parametrize(
    ("choose", "genuine"), [(choosing.choose_genuine, True), (choosing.choose_impostors, False)]
)
@pytest.mark.parametrize("caps", [MANY, Caps(6, 3)])
def test_pairs_have_their_label_come_once_and_keep_the_caps(choose, genuine, caps):
    partners = partners_of(genuine=genuine)
    pairs = choose(SIZES, partners, Wanted(16, 0.5, caps), np.random.default_rng(0)).pairs
    assert len(pairs) == 16 and len({tuple(pair) for pair in pairs.tolist()}) == 16
    assert ((OWNERS[pairs[:, 0]] == OWNERS[pairs[:, 1]]) == genuine).all() and (
        pairs[:, 0] < pairs[:, 1]
    ).all()
    assert np.bincount(pairs.ravel()).max() <= caps.image
    ends = OWNERS[pairs[:, :1] if genuine else pairs]
    assert np.bincount(ends.ravel()).max() <= caps.identity


@pytest.mark.parametrize(("share", "mined"), [(0.0, 0), (0.5, 8), (1.0, 16)])
def test_the_share_of_mined_pairs_is_the_one_asked_for(share, mined):
    partners = partners_of(genuine=False)
    chosen = choosing.choose_impostors(
        SIZES, partners, Wanted(16, share, MANY), np.random.default_rng(0)
    )
    assert len(chosen.hard) == mined and len(chosen.pairs) == 16
    assert all(high in partners[low] or low in partners[high] for low, high in chosen.hard)


def test_every_images_hardest_partner_comes_before_any_ones_second():
    partners = partners_of(genuine=False)
    pairs = [
        tuple(pair) for pair in choosing.by_rounds(partners, np.random.default_rng(0)).tolist()
    ]
    first = {tuple(sorted((image, int(row[0])))) for image, row in enumerate(partners)}
    assert set(pairs[: len(first)]) == first and len(pairs) == len(set(pairs)) > len(first)
