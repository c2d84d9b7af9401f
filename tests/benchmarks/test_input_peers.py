"""The peers do the same work: the same pixels, each image once in an epoch."""

import importlib
import itertools

import numpy as np
import pytest

from benchmarks import input_peers
from benchmarks.input_peers import indexed, pixels
from fv import record
from tests.benchmarks.conftest import IMAGES


def draw_epoch(name, work):
    """The images [16, side, side, 3] of the first epoch, from a contestant that is installed."""
    peer = pytest.importorskip(
        f"benchmarks.input_peers.{name}", reason="an optional peer", exc_type=ModuleNotFoundError
    )
    drawn = [
        np.asarray(batch)
        for batch in itertools.islice(peer.batches(work), IMAGES // 2 // work.batch_size)
    ]
    assert {batch.shape for batch in drawn} == {(work.batch_size, 2, work.side, work.side, 3)}
    assert {batch.dtype for batch in drawn} == {np.dtype(np.uint8)}
    return np.concatenate(drawn).reshape(-1, work.side, work.side, 3)


@pytest.mark.parametrize("name", input_peers.TITLES)
def test_a_peer_yields_each_image_once_an_epoch_with_the_same_pixels(name, work):
    drawn = draw_epoch(name, work)
    expected = [pixels.load(path.read_bytes(), work.side) for path in work.image_paths()]
    far = np.array(
        [[np.abs(image.astype(float) - one).mean() for one in expected] for image in drawn]
    )
    assert sorted(far.argmin(axis=1)) == list(range(IMAGES))
    assert np.abs(drawn - np.array(expected)[far.argmin(axis=1)].astype(float)).max() <= 1


def test_every_peer_has_a_module_and_every_module_a_title():
    shared = {"indexed", "pixels", "records_tf"}
    modules = {
        path.stem
        for path in importlib.resources.files(input_peers).iterdir()
        if path.suffix == ".py"
    }
    assert modules - shared - {"__init__"} == set(input_peers.TITLES)


def test_indexed_shards_cut_out_what_the_records_hold(work):
    shards, pairs = indexed.IndexedShards(work), []
    for path in work.shard_paths():
        with open(path, "rb") as file:
            pairs += [record.decode_pair(data) for _, data in record.read_frames(file)]
    found = [tuple(map(bytes, shards.encoded(pair))) for pair in range(len(shards))]
    assert found == [(pair[record.IMAGE_A], pair[record.IMAGE_B]) for pair in pairs]


def test_shuffled_batches_run_across_the_ends_of_epochs_and_lose_nothing():
    drawn = np.concatenate(list(itertools.islice(indexed.shuffled_batches(10, 4), 5)))
    assert sorted(drawn) == sorted([*range(10), *range(10)])
    assert sorted(drawn[:10]) == list(range(10)) and list(drawn[:10]) != list(range(10))
