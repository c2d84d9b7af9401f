import dataclasses
import json
import pathlib

import numpy as np
import pytest

from fv.errors import UserError
from fv.evaluate import EvaluateOptions, evaluate
from fv.evaluation import trained_model
from fv.evaluation.scores import ImageFeatures
from fv.model import model_record
from tests.conftest import TINY
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


RECORD = model_record.describe(TINY, ("p03", "somebody"))
OLD = dataclasses.replace(RECORD, identity_hashes=None)


def test_people_the_model_trained_on_are_counted_and_named():
    with pytest.raises(
        UserError, match=r"1 of the 12 people in made are training identities of run \(p03\)"
    ):
        trained_model.find_training_identities(RECORD, "run", pair_set(), allowed=False)


def test_where_they_are_allowed_the_report_says_so():
    found = trained_model.find_training_identities(RECORD, "run", pair_set(), allowed=True)
    assert found == dict(known=True, people=12, seen=1)
    assert "trained on 1 of the 12 people" in trained_model.note_training_identities(
        found, pair_set()
    )


def test_strangers_need_no_note():
    found = trained_model.find_training_identities(
        model_record.describe(TINY, ("somebody",)), "run", pair_set(), allowed=False
    )
    assert found["seen"] == 0 and trained_model.note_training_identities(found, pair_set()) == ""


def test_a_workdir_that_lists_no_identities_is_refused_or_noted():
    with pytest.raises(UserError, match="does not say whom.*--allow_seen_identities"):
        trained_model.find_training_identities(OLD, "run", pair_set(), allowed=False)
    assert "does not say" in trained_model.note_training_identities(
        trained_model.find_training_identities(OLD, "run", pair_set(), allowed=True), pair_set()
    )


def test_people_of_the_threshold_s_pairs_who_are_scored_are_counted():
    notes = trained_model.note_choosing_pairs(OLD, pair_set(), pair_set(seed=1))
    assert any("12 people who are scored too" in note for note in notes)


def test_a_training_identity_written_in_another_way_is_no_stranger():
    trained = model_record.describe(TINY, ("P03", "somebody"))
    with pytest.raises(UserError, match=r"1 of the 12 people .* \(p03\).*--nomerge_names"):
        trained_model.find_training_identities(trained, "run", pair_set(), allowed=False)
    assert (
        trained_model.find_training_identities(
            trained, "run", pair_set(), allowed=False, exact=True
        )["seen"]
        == 0
    )


def run_of(folder: pathlib.Path, *ended: dict | None) -> str:
    (folder / "run.json").write_text(json.dumps({"starts": [{"ended": each} for each in ended]}))
    return trained_model.input_verdict(str(folder))


def test_the_last_start_that_ended_with_a_step_says_it(tmp_path):
    assert run_of(tmp_path, {"input_verdict": "first"}, {"input_verdict": "second"}) == "second"
    assert run_of(tmp_path, {"input_verdict": "first"}, {"input_verdict": None}, None) == "first"


def test_nothing_is_said_of_a_run_that_did_not_say_it(tmp_path):
    assert trained_model.input_verdict(str(tmp_path)) == ""
    assert run_of(tmp_path, None) == run_of(tmp_path, {"reason": "finished"}) == ""


def test_terminal_figures_and_report_show_the_input_verdict(trained, tmp_path, capsys):
    evaluate(
        EvaluateOptions(
            workdir=trained.workdir, tfrecords=trained.tfrecords, output=str(tmp_path), bootstrap=20
        )
    )
    said = trained_model.input_verdict(trained.workdir)
    assert "of the training time was spent waiting for input: " in said
    assert capsys.readouterr().out.endswith(f"\n{said}\nreport: {tmp_path}/report.html\n")
    assert json.loads((tmp_path / "metrics.json").read_text())["run"]["training_input"] == said
    assert said.partition(":")[0] in (tmp_path / "report.html").read_text()
