import numpy as np

from fv.evaluation import trained_model
from fv.evaluation.scores import ImageFeatures
from tests.evaluation.making import pair_set


def make_features(count: int) -> ImageFeatures:
    ramp = np.linspace(10, 200, count, dtype=np.float32)
    return ImageFeatures(
        np.zeros((count, 2)), None, None, ramp, ramp[::-1], np.full(count, 250), {}
    )


def test_slices_cover_every_pair_once_and_give_the_accuracy_of_their_pairs():
    pairs = pair_set()
    features = make_features(len(pairs.images.paths))
    dark = np.minimum(features.brightness[pairs.first], features.brightness[pairs.second])
    cuts = trained_model.cut_slices(pairs, features, correct=dark < 100)
    parts = cuts["brightness (mean grey level, 0 to 255)"]
    assert len(parts) == 4 and sum(part["pairs"] for part in parts) == len(pairs)
    assert sum(part["genuine"] for part in parts) == pairs.labels.sum()
    for part in parts:
        inside = (dark >= part["low"]) & (dark <= part["high"])
        assert part["pairs"] == inside.sum() and part["accuracy"] == np.mean(dark[inside] < 100)


def test_a_value_that_is_the_same_everywhere_is_one_slice():
    pairs = pair_set()
    cuts = trained_model.cut_slices(
        pairs, make_features(len(pairs.images.paths)), np.ones(len(pairs), bool)
    )
    (side,) = cuts["shorter side of the stored image (pixels)"]
    genuine = pairs.labels.sum()
    assert side == dict(low=250, high=250, pairs=len(pairs), genuine=genuine, accuracy=1)
    (images,) = cuts["images of the person"]
    assert (images["low"], images["high"]) == (3, 3)
