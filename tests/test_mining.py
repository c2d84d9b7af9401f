import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

from fv import embedding, manifest, mining, record
from fv.conversion import convert
from fv.conversion import options as options_module
from fv.conversion.pair_sampling import Caps
from fv.errors import UserError
from fv.mining import MineOptions
from fv.partner_search import NOBODY
from fv.training import run as training
from tests import samples
from tests.samples import digests
from tests.test_commands import assert_one_line


@pytest.fixture(scope="module")
def data(tiny_run, tmp_path_factory) -> MineOptions:
    """A converted crowd of 24 people and a model that was trained on it."""
    folder = tmp_path_factory.mktemp("mining")
    images = samples.write_images(folder / "images", identities=24, images=5)
    shares = dict(val_fraction=0.2, test_fraction=0.2, workers=1, pairs=120)
    convert.convert(
        options_module.ConvertOptions(images=str(images), output=str(folder / "shards"), **shares)
    )
    options = dataclasses.replace(
        tiny_run, tfrecords=str(folder / "shards"), workdir=str(folder / "run"), steps=3
    )
    training.train(options)
    return MineOptions(options.tfrecords, options.workdir, str(folder / "mined"), workers=1)


@pytest.fixture(scope="module")
def mined(data) -> tuple[manifest.Manifest, dict]:
    return mining.mine(data)


def pairs_of(folder: str, split: str) -> list[dict]:
    frames = [path.open("rb") for path in sorted(pathlib.Path(folder).glob(f"{split}-*.tfrecord"))]
    return [record.decode_pair(data) for file in frames for _, data in record.read_frames(file)]


def test_only_training_people_are_in_training_pairs_and_the_other_splits_keep_their_bytes(
    data, mined
):
    made, _ = mined
    source = manifest.load(data.tfrecords)
    used = {
        pair[name].decode()
        for pair in pairs_of(data.output, "train")
        for name in (record.IDENTITY_A, record.IDENTITY_B)
    }
    assert (
        used <= set(source.split("train").identities)
        and made.split("train").pairs == source.split("train").pairs
    )
    for split in ("val", "test"):
        assert made.split(split) == source.split(split)
    assert digests(data.output) == {
        shard.name: shard.sha256 for split in made.splits.values() for shard in split.shards
    }
    assert digests(data.output) != digests(data.tfrecords)


def test_mining_does_not_decide_anew_whose_images_a_data_set_has(data):
    chosen = mining.restore_conversion(data, manifest.read(data.tfrecords))
    assert (chosen.identity_level, chosen.merge_names) == (1, False)


def test_mined_pairs_are_harder_than_random_ones_and_what_was_mined_is_written(data, mined):
    _, found = mined
    assert found["impostor"]["hard_cosine"] > found["impostor"]["other_cosine"]
    assert found["genuine"]["hard_cosine"] < found["genuine"]["other_cosine"]
    assert all(abs(row["hard"] - row["pairs"] / 2) <= 1 for row in found.values())
    written = json.loads((pathlib.Path(data.output) / mining.FILE_NAME).read_text())
    assert written["impostor"] == found["impostor"] and f"--seed={data.seed}\n" in written["flags"]


def test_the_same_seed_gives_the_same_shards_and_another_seed_others(data, mined, tmp_path):
    again = dataclasses.replace(data, output=str(tmp_path / "again"))
    mining.mine(again)
    assert digests(again.output) == digests(data.output)
    other = dataclasses.replace(data, output=str(tmp_path / "other"), seed=1)
    mining.mine(other)
    assert digests(other.output) != digests(data.output)


def test_killed_behind_embedding_it_goes_on_without_embedding_again(
    data, mined, tmp_path, monkeypatch
):
    options = dataclasses.replace(data, output=str(tmp_path / "killed"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mining, "_choose", _interrupt)
        mining.mine(options)
    monkeypatch.setattr(embedding, "load_batches", _interrupt)
    mining.mine(options)
    assert digests(options.output) == digests(data.output)
    assert not (tmp_path / "killed" / ".fv" / "embeddings").exists()


def test_a_mining_json_or_embeddings_of_somebody_else_stay(data, tmp_path):
    output = tmp_path / "out"
    (output / ".embeddings").mkdir(parents=True)
    (output / ".embeddings" / "mine.npy").touch()
    (output / "mining.json").write_text('{"pool": "gold"}')
    with pytest.raises(UserError, match=r"fv did not write, .*: mining\.json;"):
        mining.mine(dataclasses.replace(data, output=str(output)))
    (output / "mining.json").unlink()
    mining.mine(dataclasses.replace(data, output=str(output)))
    assert (output / ".embeddings" / "mine.npy").exists() and (output / "mining.json").exists()


def _interrupt(*arguments):
    raise KeyboardInterrupt


def test_what_cannot_be_mined_is_refused(data, shards, trained, tmp_path):
    output = str(tmp_path / "out")
    with pytest.raises(UserError, match="holds no pairs that the converter sampled"):
        mining.mine(dataclasses.replace(data, tfrecords=str(shards), output=output))
    with pytest.raises(UserError, match="is the data set that is mined"):
        mining.mine(dataclasses.replace(data, output=data.tfrecords, overwrite=True))
    with pytest.raises(UserError, match="was trained on .* people whom .* holds out"):
        mining.mine(dataclasses.replace(data, workdir=trained.workdir, output=output))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image in any identity's folder"):
        mining.mine(dataclasses.replace(data, images=str(tmp_path / "empty"), output=output))


def test_a_checkpoint_of_another_size_is_one_line(data, tmp_path):
    run_folder = shutil.copytree(data.workdir, tmp_path / "run")
    model = json.loads((run_folder / "model.json").read_text())
    model["options"]["embedding_size"] += 1
    (run_folder / "model.json").write_text(json.dumps(model))
    with pytest.raises(UserError, match="is damaged or of another model"):
        mining.mine(
            dataclasses.replace(data, workdir=str(run_folder), output=str(tmp_path / "out"))
        )


def test_the_command_says_in_one_line_that_there_is_no_model(command, data, tmp_path):
    done = command(
        "tools/mine_pairs.py",
        f"--tfrecords={data.tfrecords}",
        f"--workdir={tmp_path}",
        f"--output={tmp_path / 'o'}",
    )
    assert_one_line(done, "model.json")


# Choosing

SIZES = np.array([3, 5, 1, 8, 2, 6], np.int64)
OWNERS = np.repeat(np.arange(len(SIZES)), SIZES)
MANY = Caps(1000, 1000)


def partners_of(*, genuine: bool) -> np.ndarray:
    """Two partners of each image, drawn at random."""
    rng, rows = np.random.default_rng(1), []
    for image, owner in enumerate(OWNERS):
        others = np.flatnonzero((owner == OWNERS) == genuine)
        others = rng.permutation(others[others != image])[:2]
        rows.append([*others, NOBODY, NOBODY][:2])
    return np.array(rows, np.int32)


@pytest.mark.parametrize("label", [record.GENUINE, record.IMPOSTOR])
@pytest.mark.parametrize("caps", [MANY, Caps(6, 3)])
def test_pairs_have_their_label_come_once_and_keep_the_caps(label, caps):
    genuine = label == record.GENUINE
    partners = partners_of(genuine=genuine)
    rng = np.random.default_rng(0)
    pairs = mining.choose_pairs(label, SIZES, partners, 16, 0.5, caps, rng).pairs
    assert len(pairs) == 16 and len({tuple(pair) for pair in pairs.tolist()}) == 16
    assert ((OWNERS[pairs[:, 0]] == OWNERS[pairs[:, 1]]) == genuine).all() and (
        pairs[:, 0] < pairs[:, 1]
    ).all()
    assert np.bincount(pairs.ravel()).max() <= caps.image
    ends = OWNERS[pairs[:, :1] if genuine else pairs]
    assert np.bincount(ends.ravel()).max() <= caps.identity


@pytest.mark.parametrize(("share", "mined"), [(0.0, 0), (0.5, 8), (1.0, 16)])
def test_the_share_of_mined_pairs_is_the_one_asked_for(share, mined):
    partners = partners_of(genuine=False)
    rng = np.random.default_rng(0)
    chosen = mining.choose_pairs(record.IMPOSTOR, SIZES, partners, 16, share, MANY, rng)
    assert len(chosen.hard) == mined and len(chosen.pairs) == 16
    assert all(high in partners[low] or low in partners[high] for low, high in chosen.hard)


def test_every_images_hardest_partner_comes_before_any_ones_second():
    partners = partners_of(genuine=False)
    pairs = [
        tuple(pair) for pair in mining.order_by_rank(partners, np.random.default_rng(0)).tolist()
    ]
    first = {tuple(sorted((image, int(row[0])))) for image, row in enumerate(partners)}
    assert set(pairs[: len(first)]) == first and len(pairs) == len(set(pairs)) > len(first)
