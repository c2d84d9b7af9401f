import dataclasses
import json

import pytest

from fv.errors import UserError
from fv.model import model_record
from tests.conftest import TINY

PEOPLE = ("Ada", "Grace")


def test_a_record_comes_back_as_it_was_saved(tmp_path):
    record = model_record.describe(TINY, PEOPLE)
    model_record.save(record, str(tmp_path))
    assert model_record.load(str(tmp_path)) == record
    model_record.check_same(record, str(tmp_path))


def test_what_a_user_added_to_the_record_stays(tmp_path):
    record = model_record.describe(TINY, PEOPLE)
    model_record.save(record, str(tmp_path))
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"note": "mine"}))
    model_record.save(record, str(tmp_path))
    assert json.loads(path.read_text())["note"] == "mine"
    assert model_record.load(str(tmp_path)) == record


def test_a_new_workdir_fits_any_model(tmp_path):
    model_record.check_same(model_record.describe(TINY, PEOPLE), str(tmp_path / "new"))


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_another_model_in_the_workdir_is_refused_by_its_flags(tmp_path, scheme):
    folder = f"{scheme}{tmp_path}"
    model_record.save(model_record.describe(TINY, PEOPLE), folder)
    other = model_record.describe(dataclasses.replace(TINY, embedding_size=7), PEOPLE)
    with pytest.raises(UserError, match="another model.*--embedding_size=16, not 7"):
        model_record.check_same(other, folder)


def test_other_training_people_in_the_workdir_are_refused(tmp_path):
    model_record.save(model_record.describe(TINY, PEOPLE), str(tmp_path))
    with pytest.raises(UserError, match="other data"):
        model_record.check_same(model_record.describe(TINY, ("Ada", "Alan")), str(tmp_path))


def test_a_folder_that_is_no_workdir_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no model\.json"):
        model_record.load(str(tmp_path))


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"options": {"no_such": 1}, "identities": 1, "identities_sha256": ""}']
)
def test_a_damaged_record_is_refused(tmp_path, content):
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(UserError, match=r"model\.json"):
        model_record.load(str(tmp_path))


def test_a_record_knows_its_training_people_and_lists_no_name(tmp_path):
    model_record.save(model_record.describe(TINY, PEOPLE), str(tmp_path))
    assert model_record.load(str(tmp_path)).trained_on(["Grace", "Alan", "Grace"]) == ["Grace"]
    assert not any(name in (tmp_path / "model.json").read_text() for name in PEOPLE)


def test_a_record_knows_its_people_in_other_spellings(tmp_path):
    first = model_record.describe(TINY, ("Anna_Lee", "bob"))
    saved = model_record.inherit(model_record.describe(TINY, PEOPLE), first)
    model_record.save(saved, str(tmp_path))
    record = model_record.load(str(tmp_path))
    names = ["anna lee", "ANNA-LEE", "BOB", "grace", "Anna"]
    assert record.trained_on(names) == ["ANNA-LEE", "BOB", "anna lee", "grace"]
    assert record.trained_on([*names, "bob"], exact=True) == ["bob"]


def test_a_record_may_not_know_its_people(tmp_path):
    held = dataclasses.replace(model_record.describe(TINY, PEOPLE), identity_hashes=None)
    model_record.save(held, str(tmp_path))
    assert model_record.load(str(tmp_path)).identity_hashes is None
    with pytest.raises(UserError, match="does not say whom"):
        held.trained_on(["Ada"])


def test_training_people_of_first_weights_count_as_trained_on(tmp_path):
    first = model_record.describe(TINY, ("Ada",))
    second = model_record.inherit(model_record.describe(TINY, ("Alan",)), first)
    saved = model_record.inherit(model_record.describe(TINY, PEOPLE), second)
    model_record.save(saved, str(tmp_path))
    assert model_record.load(str(tmp_path)).trained_on(["Ada", "Alan", "Hedy"]) == ["Ada", "Alan"]
    unknown = dataclasses.replace(first, identity_hashes=None)
    assert model_record.inherit(second, unknown).identity_hashes is None
    assert model_record.inherit(second, None) == second


def test_a_record_counts_its_own_missing_people_and_none_of_earlier_runs():
    earlier = model_record.describe(TINY, ("Alan", "Hedy"))
    record = model_record.inherit(model_record.describe(TINY, PEOPLE), earlier)
    assert record.count_missing(["Ada", "Alan", "Hedy"]) == 1
    assert record.count_missing([*PEOPLE, "Emmy"]) == 0


def test_saving_a_record_keeps_the_earlier_people_of_the_one_there(tmp_path):
    plain, first = model_record.describe(TINY, PEOPLE), model_record.describe(TINY, ("Alan",))
    model_record.save(model_record.inherit(plain, first), str(tmp_path))
    model_record.save(plain, str(tmp_path))
    assert model_record.load(str(tmp_path)).trained_on(["Ada", "Alan", "Hedy"]) == ["Ada", "Alan"]
    model_record.save(dataclasses.replace(plain, identity_hashes=None), str(tmp_path))
    model_record.save(plain, str(tmp_path))
    assert model_record.load(str(tmp_path)).identity_hashes is None
