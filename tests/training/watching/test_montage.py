import numpy as np

from fv.training.watching import montage


def test_the_same_pairs_are_chosen_half_of_them_genuine():
    labels = np.array([0, 0, 1, 0, 1, 1, 0])
    assert list(montage.choose(labels, 4)) == [2, 4, 0, 1]
    assert list(montage.choose(labels, 0)) == []
    assert list(montage.choose(np.zeros(3, int), 4)) == [0, 1]


def test_every_image_is_there_and_wrong_decisions_look_different():
    colours = np.random.default_rng(0).integers(0, 256, (5, 2, 1, 1, 3), np.uint8)
    images = np.broadcast_to(colours, (5, 2, 32, 32, 3))
    labels, right = np.array([1, 0, 1, 0, 1]), np.array([0.9, 0.1, 0.9, 0.1, 0.9])
    sheet = montage.draw(images, labels, right, threshold=0.5)
    for colour in colours.reshape(10, 3):
        rows, columns = np.nonzero((sheet == colour).all(axis=2))
        assert (
            len(rows) == 64 * 64 and np.ptp(rows) == np.ptp(columns) == 63
        )  # one square, twice as large for its caption
    wrong = montage.draw(images, labels, np.array([0.9, 0.1, 0.9, 0.1, 0.4]), threshold=0.5)
    rows, columns = np.nonzero((sheet != wrong).any(axis=2))
    assert len(rows) > 0 and np.ptp(rows) < 16 and np.ptp(columns) < 128  # the caption of one pair
