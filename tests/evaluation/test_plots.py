import math
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from fv import calibration, metrics
from fv.errors import UserError
from fv.evaluation import plots
from tests.evaluation.making import pair_set, scores

BLUE, VERMILION = (0, 114, 178), (213, 94, 0)


def sample(separation: float = 2.0, pairs: int = 200) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(pairs) % 2
    return np.random.default_rng(0).normal(separation * labels).astype(np.float32), labels


def draw_both(folder, similarities, labels) -> list[np.ndarray]:
    """Draws both pictures and reads them back as uint8 [height, width, 3]."""
    paths = [os.path.join(folder, name) for name in ("roc.png", "histogram.png")]
    plots.draw_roc(paths[0], similarities, labels)
    plots.draw_histogram(
        paths[1], similarities, labels, metrics.roc(similarities, labels).best_threshold()
    )
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def has_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == colour).all(axis=-1).any())


def legend_of(monkeypatch, draw, *arguments, **options) -> tuple[list[str], str]:
    """What the picture says: its legend's lines and its title, taken where it would be saved."""
    said = []

    def keep(figure, path, title):
        lines = [line for axes in figure.axes for line in axes.get_legend_handles_labels()[1]]
        said.append((lines, title))

    monkeypatch.setattr(plots, "_save", keep)
    draw("unused.png", *arguments, **options)
    return said[0]


def test_both_pictures_are_pngs_in_the_two_colours(tmp_path):
    for picture in draw_both(tmp_path, *sample()):
        assert picture.shape == (750, 1500, 3)
        assert has_colour(picture, BLUE) and has_colour(picture, VERMILION)
    assert sorted(os.listdir(tmp_path)) == ["histogram.png", "roc.png"]


@pytest.mark.filterwarnings(
    "error", "ignore::DeprecationWarning"
)  # those are between matplotlib and its own needs
@pytest.mark.parametrize(
    "similarities, labels",
    [
        (np.full(6, 0.5, np.float32), np.array([0, 1] * 3)),
        (np.array([0.5, np.nextafter(0.5, 1)]), np.array([0, 1])),
        (np.array([1.0, 0.0]), np.array([1, 0])),
        (np.array([0.0, 1.0]), np.array([1, 0])),
        sample(separation=100),
    ],
    ids=["constant", "neighbouring numbers", "one pair of each", "inverted", "far apart"],
)
def test_degenerate_similarities_are_drawn_without_a_warning(tmp_path, similarities, labels):
    for picture in draw_both(tmp_path, similarities, labels):
        assert has_colour(picture, VERMILION)


def test_roc_names_its_figures(monkeypatch):
    similarities, labels = (
        np.r_[np.linspace(0.5, 1, 50), np.linspace(0, 0.6, 50)],
        np.repeat([1, 0], 50),
    )
    lines, title = legend_of(monkeypatch, plots.draw_roc, similarities, labels)
    figures = metrics.evaluate(similarities, labels, 0.5)
    assert lines == [
        f"AUC {figures['auc']:.4f}",
        f"EER {figures['eer']:.4f}",
        f"TAR at FAR 0.1: {figures['tar_at_far']['0.1']['tar']:.4f}",
        "TAR at FAR 0.01: not measurable",
        "TAR at FAR 0.001: not measurable",
        "TAR at FAR 0.0001: not measurable",
    ]
    assert title == "ROC · 50 genuine and 50 impostor pairs"


def test_histogram_names_the_threshold_and_counts_its_errors(monkeypatch):
    similarities, labels = np.array([0.9, 0.5, 0.2, 0.7, 0.1]), np.array([1, 1, 1, 0, 0])
    lines, title = legend_of(monkeypatch, plots.draw_histogram, similarities, labels, threshold=0.5)
    assert lines == [
        "genuine: 1 of 3 rejected",
        "impostor: 1 of 2 accepted",
        "threshold 0.5: accuracy 0.6000",
    ]
    assert title == "Similarities · 3 genuine and 2 impostor pairs"


def test_bars_of_each_class_add_up_to_one_whatever_its_size(monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path, title: figures.append(figure))
    similarities, labels = sample()
    plots.draw_histogram(
        "unused.png",
        similarities[:150],
        np.sort(labels[:150] * (np.arange(150) < 60)),
        threshold=0.5,
    )
    (axes,) = figures[0].axes
    sums = [patch.get_data().values.sum() for patch in axes.patches]
    assert sums == pytest.approx([1, 1, 1, 1])  # a filled and an outlined one for each class


def test_marks_of_tar_at_far_lie_on_the_stepped_curve(monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path, title: figures.append(figure))
    similarities, labels = sample()
    plots.draw_roc("unused.png", np.round(similarities), labels)
    curve, *marks = figures[0].axes[1].lines[:3]
    assert curve.get_drawstyle() == "steps-post"
    for mark in marks:
        (far,), (tar,) = mark.get_data()
        assert tar == curve.get_ydata()[curve.get_xdata() <= far].max()


def test_a_failed_picture_leaves_the_earlier_one_as_it_was(tmp_path):
    path = tmp_path / "roc.png"
    path.write_bytes(b"earlier")
    with pytest.raises(UserError, match="not finite"):
        plots.draw_roc(str(path), np.array([math.nan, 1]), np.array([0, 1]))
    with pytest.raises(UserError, match="finite number"):
        plots.draw_histogram(str(path), np.array([0.0, 1]), np.array([0, 1]), threshold=math.nan)
    assert path.read_bytes() == b"earlier"


def test_pictures_drawn_in_a_thread_are_those_of_the_main_thread(tmp_path):
    expected = draw_both(tmp_path, *sample())
    drawn = []
    thread = threading.Thread(target=lambda: drawn.extend(draw_both(tmp_path, *sample())))
    thread.start()
    thread.join()
    for picture, other in zip(expected, drawn, strict=True):
        np.testing.assert_array_equal(picture, other)


def test_pyplot_is_never_loaded():
    check = "import sys, fv.evaluation.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


LABELS = pair_set().labels


@pytest.mark.parametrize(
    "similarities", [scores(LABELS), np.full(len(LABELS), 0.5)], ids=["usual", "constant"]
)
def test_curves_of_usual_and_constant_scores_are_drawn(tmp_path, similarities):
    plots.draw_det(str(tmp_path / "det.png"), similarities, LABELS)
    plots.draw_reliability(
        str(tmp_path / "r.png"), calibration.reliability(np.clip(similarities, 0, 1), LABELS)
    )
    for name in ("det.png", "r.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_principal_components_have_most_variance_and_a_fixed_sign():
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(200, 3)) * (5, 2, 0.1)
    turned = spread @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    places, share = plots.principal_components(turned.astype(np.float32))
    centred = spread - spread.mean(axis=0)
    for axis in range(2):
        assert abs(np.corrcoef(places[:, axis], centred[:, axis])[0, 1]) > 0.99
    assert share == pytest.approx(centred.var(axis=0)[:2] / centred.var(axis=0).sum(), abs=0.01)
    np.testing.assert_array_equal(places, plots.principal_components(turned.astype(np.float32))[0])


def test_a_map_of_equal_embeddings_and_odd_names_is_drawn(tmp_path):
    plots.draw_map(str(tmp_path / "map.png"), np.ones((8, 4), np.float32), ["$a_b", "é"] * 4)
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
