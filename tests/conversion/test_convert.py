import hashlib
import os
import pathlib

import pandas as pd
import pytest
from PIL import Image

from fv import manifest, record
from fv.conversion import convert, settings
from fv.errors import UserError
from tests.conversion import making

SHARES = dict(val_fraction=0.2, test_fraction=0.2, workers=2)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """30 people of 4 images each."""
    return making.crowd(tmp_path_factory.mktemp("crowd"), identities=30, images=4)


def run(images, output, **flags):
    return convert.convert(settings.Options(images=str(images), output=str(output), **{**SHARES, **flags}))


def pairs_of(folder, split="train"):
    pairs = []
    for shard in manifest.load(str(folder)).split(split).shards:
        with open(os.path.join(folder, shard.name), "rb") as file:
            pairs += [record.decode_pair(data) for _, data in record.read_frames(file)]
    return pairs


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in pathlib.Path(folder).glob("*.tfrecord")}


def test_records_hold_the_files_bytes_and_splits_share_nobody(crowd, tmp_path):
    made, left_out = run(crowd, tmp_path, pairs=200)
    seen = {}
    for name in manifest.SPLITS:
        pairs = pairs_of(tmp_path, name)
        assert len(pairs) == made.split(name).pairs
        assert sum(pair[record.LABEL] for pair in pairs) * 2 == len(pairs)
        for side in "ab":
            for pair in pairs:
                path = pair[f"image_{side}/path"].decode()
                assert pair[f"image_{side}/encoded"] == (crowd / path).read_bytes()
                assert pair[f"image_{side}/identity"].decode() == path.split("/")[0]
        seen[name] = {pair[field].decode() for pair in pairs for field in (record.IDENTITY_A, record.IDENTITY_B)}
        assert seen[name] <= set(made.split(name).identities)
    assert sum(made.split(name).pairs for name in manifest.SPLITS) == 200
    assert not seen["train"] & seen["val"] and not seen["train"] & seen["test"] and not seen["val"] & seen["test"]
    assert left_out.empty
    assert not (tmp_path / "left_out.csv").exists()


def test_tensorflow_reads_the_shards(crowd, tmp_path):
    tf = pytest.importorskip("tensorflow")
    made, _ = run(crowd, tmp_path)
    files = sorted(str(path) for path in tmp_path.glob("train-*.tfrecord"))
    labels = []
    for example in tf.data.TFRecordDataset(files):
        features = tf.train.Example.FromString(example.numpy()).features.feature
        assert tf.io.decode_jpeg(features["image_a/encoded"].bytes_list.value[0]).shape == (24, 24, 3)
        labels += features["label"].int64_list.value
    assert (len(labels), sum(labels)) == (made.split("train").pairs, made.split("train").genuine)


def test_shards_do_not_depend_on_the_number_of_processes(crowd, tmp_path):
    for workers in (1, 2, 3):
        run(crowd, tmp_path / str(workers), workers=workers)
    assert digests(tmp_path / "1") == digests(tmp_path / "2") == digests(tmp_path / "3")
    made = manifest.load(str(tmp_path / "1"))
    assert digests(tmp_path / "1") == {shard.name: shard.sha256 for split in made.splits.values() for shard in split.shards}


def test_another_seed_gives_other_shards(crowd, tmp_path):
    run(crowd, tmp_path / "0", seed=0)
    run(crowd, tmp_path / "1", seed=1)
    assert not set(digests(tmp_path / "0").values()) & set(digests(tmp_path / "1").values())


def test_bad_images_are_left_out_with_their_reasons_and_the_rest_is_converted(tmp_path):
    images = making.crowd(tmp_path / "images", identities=20, images=4)
    (images / "p000" / "p000_0001.jpg").write_bytes(b"")
    (images / "p001" / "p001_0001.jpg").write_bytes(making.jpeg(1)[:-20])
    (images / "p002" / "text, of a kind.jpg").write_bytes(b"hello")
    Image.fromarray(making.pixels(5)).save(images / "p003" / "sound.png")
    made, left_out = run(images, tmp_path / "out")
    assert left_out["path"].tolist() == ["p000/p000_0001.jpg", "p001/p001_0001.jpg", "p002/text, of a kind.jpg"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "left_out.csv"), left_out, check_dtype=False)
    assert sum(split.images for split in made.splits.values()) == 20 * 4 + 1 - 2
    with pytest.raises(UserError, match="p000/p000_0001.jpg: empty file"):
        run(images, tmp_path / "strict", strict=True)


def test_a_normalised_image_is_one_jpeg_in_all_its_pairs(tmp_path):
    images = making.crowd(tmp_path / "images", identities=6, images=2)
    grey = Image.fromarray(making.pixels(7)).convert("L")
    grey.save(images / "p000" / "x.pgm")
    run(images, tmp_path / "out", val_fraction=0.0, test_fraction=0.0)
    found = {pair[record.IMAGE_A] for pair in pairs_of(tmp_path / "out") if pair[record.PATH_A] == b"p000/x.pgm"}
    assert len(found) == 1 and found.pop().startswith(b"\xff\xd8\xff")


def test_listed_pairs_are_converted_as_they_stand(crowd, tmp_path):
    (tmp_path / "pairs.txt").write_text("2\np000\t1\t2\np001\t3\t4\np000\t1\tp001\t1\np002\t1\tp003\t4\n")
    made, _ = run(crowd, tmp_path / "out", pairs_file=str(tmp_path / "pairs.txt"))
    assert list(made.splits) == ["test"]
    assert made.split("test").identities == ("p000", "p001", "p002", "p003")
    found = {(pair[record.PATH_A], pair[record.PATH_B], pair[record.LABEL]) for pair in pairs_of(tmp_path / "out", "test")}
    assert found == {
        (b"p000/p000_0001.jpg", b"p000/p000_0002.jpg", 1),
        (b"p001/p001_0003.jpg", b"p001/p001_0004.jpg", 1),
        (b"p000/p000_0001.jpg", b"p001/p001_0001.jpg", 0),
        (b"p002/p002_0001.jpg", b"p003/p003_0004.jpg", 0),
    }


def test_a_csv_goes_to_the_split_it_is_meant_for(crowd, tmp_path):
    (tmp_path / "pairs.csv").write_text("image_a,image_b,label\np000/p000_0001.jpg,p000/p000_0002.jpg,1\n")
    made, _ = run(crowd, tmp_path / "out", pairs_csv=str(tmp_path / "pairs.csv"), pairs_split="val")
    assert {name: split.pairs for name, split in made.splits.items()} == {"val": 1}


def test_a_refusal_leaves_a_finished_data_set_as_it_was(crowd, tmp_path):
    run(crowd, tmp_path, pairs=100)
    before = digests(tmp_path)
    with pytest.raises(UserError, match="more than"):
        run(crowd, tmp_path, pairs=10**6, overwrite=True)
    with pytest.raises(UserError, match="finished data set"):
        run(crowd, tmp_path, pairs=60)
    assert digests(tmp_path) == before
    assert manifest.load(str(tmp_path)).splits
    run(crowd, tmp_path, pairs=60, shards=2, overwrite=True)
    assert not set(digests(tmp_path)) & set(before) - {"val-00000-of-00001.tfrecord", "test-00000-of-00001.tfrecord"}


def test_manifest_keeps_the_flags(crowd, tmp_path):
    made, _ = run(crowd, tmp_path, pairs=100, seed=3)
    assert made.seed == 3
    assert {"--pairs=100", "--seed=3", f"--images={crowd}"} <= set(made.flags.splitlines())
