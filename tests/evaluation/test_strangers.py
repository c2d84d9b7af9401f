import dataclasses

import pytest

from fv.errors import UserError
from fv.evaluation import strangers
from fv.model import model_record
from tests.conftest import TINY
from tests.evaluation.making import pair_set

RECORD = model_record.describe(TINY, ("p03", "somebody"))
OLD = dataclasses.replace(RECORD, identity_hashes=None)


def test_people_the_model_trained_on_are_counted_and_named():
    with pytest.raises(
        UserError, match=r"1 of the 12 people in made are training identities of run \(p03\)"
    ):
        strangers.check(RECORD, "run", pair_set(), allowed=False)


def test_where_they_are_allowed_the_report_says_so():
    found = strangers.check(RECORD, "run", pair_set(), allowed=True)
    assert found == dict(known=True, people=12, seen=1)
    assert "trained on 1 of the 12 people" in strangers.note(found, pair_set())


def test_strangers_need_no_note():
    found = strangers.check(
        model_record.describe(TINY, ("somebody",)), "run", pair_set(), allowed=False
    )
    assert found["seen"] == 0 and strangers.note(found, pair_set()) == ""


def test_a_workdir_that_cannot_tell_is_refused_in_one_line_or_said_to_be_unknown():
    with pytest.raises(UserError, match="does not say whom.*--allow_seen_identities"):
        strangers.check(OLD, "run", pair_set(), allowed=False)
    assert "does not say" in strangers.note(
        strangers.check(OLD, "run", pair_set(), allowed=True), pair_set()
    )


def test_people_of_the_threshold_s_pairs_who_are_scored_are_counted():
    assert "12 people who are scored too" in strangers.shared(pair_set(), pair_set(seed=1))


def test_a_training_identity_written_in_another_way_is_no_stranger():
    trained = model_record.describe(TINY, ("P03", "somebody"))
    with pytest.raises(UserError, match=r"1 of the 12 people .* \(p03\).*--nomerge_names"):
        strangers.check(trained, "run", pair_set(), allowed=False)
    assert strangers.check(trained, "run", pair_set(), allowed=False, exact=True)["seen"] == 0
