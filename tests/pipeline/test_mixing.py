import dataclasses

import numpy as np
import pytest

from fv import manifest
from fv.errors import UserError
from fv.pipeline.mixing import CurriculumOptions, Mixture
from fv.pipeline.options import InputOptions
from tests import samples
from tests.pipeline.streams import source_of, stream

SHARES = CurriculumOptions(hard_share=0.75, hard_from=0.2, hard_until=0.8).shares(10)
STEP = 8  # records
WAYS = [InputOptions(decoder="host"), InputOptions(decoder="tensorflow"), InputOptions(cache="decoded")]


@pytest.fixture(scope="module")
def source(shards, tmp_path_factory):
    """The pairs of `shards`, with other pairs of the same people as hard ones."""
    folder = tmp_path_factory.mktemp("hard") / "hard"
    split = samples.write_shards(folder, {"train": 160}, shards=5).split("train")
    firsts = np.cumsum([0, *(shard.records for shard in split.shards)])
    others = tuple(shard for shard, first in zip(split.shards, firsts, strict=False) if first >= 64)
    return source_of(shards).with_hard(str(folder), dataclasses.replace(split, shards=others))


@pytest.fixture(scope="module")
def hard_pairs(source) -> int:
    return sum(part.take for part in source.hard_slices(0, 1))


def mixed(source, pairs: int, start_record: int = 0, **arguments) -> list[bytes]:
    mixture = dict(hard_shares=SHARES, step_records=STEP)
    return stream(source, pairs, start_record=start_record, **mixture, **arguments)


def test_the_share_grows_from_nothing_in_a_line_and_then_stays():
    shares = CurriculumOptions(hard_share=0.5, hard_from=0.25, hard_until=0.75).shares(8)
    np.testing.assert_allclose(shares, [0, 0, 0, 0.125, 0.25, 0.375, 0.5, 0.5])
    np.testing.assert_array_equal(CurriculumOptions(hard_share=1.0, hard_from=0.5, hard_until=0.5).shares(4), [0, 0, 1, 1])


def test_each_step_has_its_share_of_hard_pairs_and_both_sets_go_round(source, shards, hard_pairs):
    easy = set(stream(source_of(shards), 64))
    hard = [pair not in easy for pair in mixed(source, 20 * STEP)]
    counts = np.reshape(hard, (20, STEP)).sum(axis=1)
    assert np.abs(counts[:10] - SHARES * STEP).max() <= 1 and abs(counts[:10].sum() - (SHARES * STEP).sum()) <= 1
    assert (counts[10:] == counts[9]).all()  # beyond the last step
    pairs = mixed(source, 20 * STEP)
    assert len({pair for pair, is_hard in zip(pairs, hard, strict=True) if is_hard}) == min(hard_pairs, sum(hard))


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("step", [1, 5, 12])
def test_a_stream_that_starts_at_a_step_goes_on_as_the_whole_one_does(source, options, step):
    whole = mixed(source, 16 * STEP)
    rest = mixed(source, (16 - step) * STEP, start_record=step * STEP, options=options)
    if options.decoder == "tensorflow":
        assert [pair[-12:] for pair in rest] == [pair[-12:] for pair in whole[step * STEP :]]  # label and identities
    else:
        assert rest == whole[step * STEP :]


def test_workers_share_the_hard_pairs(source, hard_pairs):
    streams = [mixed(source, 400, worker=worker, workers=2) for worker in range(2)]
    assert not set(streams[0]) & set(streams[1])
    assert len(set(streams[0]) | set(streams[1])) == 64 + hard_pairs


def test_what_was_consumed_adds_up():
    mixture = Mixture(SHARES, STEP)
    for step in range(15):
        easy, hard = mixture.consumed(step * STEP)
        assert easy + hard == step * STEP and (hard == 0) == (step <= 3)


def test_hard_pairs_of_other_people_are_refused(shards, tmp_path):
    samples.write_shards(tmp_path / "other", {"val": 20, "train": 24})
    split = manifest.load(str(tmp_path / "other")).split("train")
    with pytest.raises(UserError, match="trains on 6 people whom .* does not .person_006, ….: mine it from that data set"):
        source_of(shards).with_hard(str(tmp_path / "other"), split)


def test_a_source_without_hard_pairs_is_as_before(shards):
    plain = stream(source_of(shards), 100)
    assert plain == mixed(source_of(shards), 100)
    assert dataclasses.replace(source_of(shards), hard_shards=0).hard_slices(0, 1) == []
