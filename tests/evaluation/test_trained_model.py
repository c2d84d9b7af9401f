import numpy as np

from fv.evaluation import trained_model
from fv.evaluation.scores import Description
from tests.evaluation.making import pair_set


def described(count: int) -> Description:
    ramp = np.linspace(10, 200, count, dtype=np.float32)
    return Description(np.zeros((count, 2)), None, None, ramp, ramp[::-1], np.full(count, 250), {})


def test_slices_cover_every_pair_once_and_give_the_accuracy_of_their_pairs():
    pairs = pair_set()
    found = described(len(pairs.images.paths))
    dark = np.minimum(found.brightness[pairs.first], found.brightness[pairs.second])
    cuts = trained_model.cut_slices(pairs, found, right=dark < 100)
    parts = cuts["brightness (mean grey level, 0 to 255)"]
    assert len(parts) == 4 and sum(part.pairs for part in parts) == len(pairs)
    assert sum(part.genuine for part in parts) == pairs.labels.sum()
    for part in parts:
        inside = (dark >= part.low) & (dark <= part.high)
        assert part.pairs == inside.sum() and part.accuracy == np.mean(dark[inside] < 100)


def test_a_value_that_is_the_same_everywhere_is_one_slice():
    pairs = pair_set()
    cuts = trained_model.cut_slices(
        pairs, described(len(pairs.images.paths)), np.ones(len(pairs), bool)
    )
    (side,) = cuts["shorter side of the stored image (pixels)"]
    assert (side.low, side.high, side.pairs, side.accuracy) == (250, 250, len(pairs), 1)
    (images,) = cuts["images of the person"]
    assert (images.low, images.high) == (3, 3)
