import itertools
import pathlib

import pytest

from fv import manifest, record, workers
from fv.errors import UserError
from fv.pipeline.input_pipeline import PairSource
from fv.pipeline.options import InputOptions
from tests import samples
from tests.pipeline.streams import source_of, stream


@pytest.mark.parametrize(
    ("options", "held"),
    [
        (InputOptions(cache="encoded"), "64 records"),
        (InputOptions(cache="decoded"), "128 images of 16 × 16 pixels"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_figures(shards, monkeypatch, options, held):
    monkeypatch.setattr(workers, "available_memory", lambda: 1 << 10)
    with pytest.raises(
        UserError,
        match=rf"--cache=\w+ needs \d+ MiB for {held}, more than 80% of the 0 MiB available",
    ):
        stream(source_of(shards), 1, options=options)


def test_each_distinct_image_is_held_once_however_many_pairs_it_is_in(tmp_path):
    source = pairs_of_three_images(tmp_path, said=3)
    assert stream(source, 12, options=InputOptions(cache="decoded")) == stream(source, 12)


def test_more_distinct_images_than_the_manifest_says_are_refused(tmp_path):
    with pytest.raises(UserError, match="more than the 2 distinct images"):
        stream(pairs_of_three_images(tmp_path, said=2), 1, options=InputOptions(cache="decoded"))


def pairs_of_three_images(folder: pathlib.Path, said: int) -> PairSource:
    """A shard of every ordered pair of three images; its manifest counts `said` images."""
    images = [samples.image_bytes(0, number) for number in range(3)]
    fields = dict.fromkeys(record.BYTES_FIELDS, b"person") | {record.LABEL: record.GENUINE}
    pairs = [
        fields | {record.IMAGE_A: a, record.IMAGE_B: b}
        for a, b in itertools.permutations(images, 2)
    ]
    data = b"".join(record.frame(record.encode_pair(pair)) for pair in pairs)
    (folder / "shard").write_bytes(data)
    split = manifest.Split(6, 0, said, ("person",), (manifest.Shard("shard", 6, len(data), ""),))
    return PairSource(str(folder), split, 16, 1.0, split.identities)
