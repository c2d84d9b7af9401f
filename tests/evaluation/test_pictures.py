import numpy as np
import pytest

from fv import calibration
from fv.evaluation import pictures
from tests.evaluation.making import pair_set, scores

LABELS = pair_set().labels


@pytest.mark.parametrize(
    "similarities", [scores(LABELS), np.full(len(LABELS), 0.5)], ids=["usual", "constant"]
)
def test_curves_of_usual_and_constant_scores_are_drawn(tmp_path, similarities):
    pictures.draw_det(str(tmp_path / "det.png"), similarities, LABELS)
    pictures.draw_reliability(
        str(tmp_path / "r.png"), calibration.reliability(np.clip(similarities, 0, 1), LABELS)
    )
    for name in ("det.png", "r.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_principal_components_are_the_directions_of_most_variance_with_a_fixed_sign():
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(200, 3)) * (5, 2, 0.1)
    turned = spread @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    places, share = pictures.principal_components(turned.astype(np.float32))
    centred = spread - spread.mean(axis=0)
    for axis in range(2):
        assert abs(np.corrcoef(places[:, axis], centred[:, axis])[0, 1]) > 0.99
    assert share == pytest.approx(centred.var(axis=0)[:2] / centred.var(axis=0).sum(), abs=0.01)
    np.testing.assert_array_equal(
        places, pictures.principal_components(turned.astype(np.float32))[0]
    )


def test_a_map_of_equal_embeddings_and_odd_names_is_drawn(tmp_path):
    pictures.draw_map(str(tmp_path / "map.png"), np.ones((8, 4), np.float32), ["$a_b", "é"] * 4)
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
