import errno
import io
import os
import pathlib
import re
import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image

from fv import manifest, record
from fv.conversion import convert, inspection, options, verification_sets
from fv.errors import TemporaryError, UserError
from tests.conversion import making
from tests.samples import digests

SHARES = dict(val_fraction=0.2, test_fraction=0.2, workers=2)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """30 people of 4 images each."""
    return making.crowd(tmp_path_factory.mktemp("crowd"), identities=30, images=4)


def run(images, output, **flags):
    return convert.convert(
        options.ConvertOptions(images=str(images), output=str(output), **{**SHARES, **flags})
    )


def pairs_of(folder, split="train"):
    pairs = []
    for shard in manifest.load(str(folder)).split(split).shards:
        with open(os.path.join(folder, shard.name), "rb") as file:
            pairs += [record.decode_pair(data) for _, data in record.read_frames(file)]
    return pairs


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
        seen[name] = {
            pair[field].decode()
            for pair in pairs
            for field in (record.IDENTITY_A, record.IDENTITY_B)
        }
        assert seen[name] <= set(made.split(name).identities)
    assert sum(made.split(name).pairs for name in manifest.SPLITS) == 200
    assert (
        not seen["train"] & seen["val"]
        and not seen["train"] & seen["test"]
        and not seen["val"] & seen["test"]
    )
    assert left_out.empty
    assert not (tmp_path / "left_out.csv").exists()


def test_tensorflow_reads_the_shards(crowd, tmp_path):
    tf = pytest.importorskip("tensorflow")
    made, _ = run(crowd, tmp_path)
    files = sorted(str(path) for path in tmp_path.glob("train-*.tfrecord"))
    labels = []
    for example in tf.data.TFRecordDataset(files):
        features = tf.train.Example.FromString(example.numpy()).features.feature
        assert tf.io.decode_jpeg(features["image_a/encoded"].bytes_list.value[0]).shape == (
            24,
            24,
            3,
        )
        labels += features["label"].int64_list.value
    assert (len(labels), sum(labels)) == (made.split("train").pairs, made.split("train").genuine)


def test_shards_do_not_depend_on_the_number_of_processes(crowd, tmp_path):
    for workers in (1, 2, 3):
        run(crowd, tmp_path / str(workers), workers=workers)
    assert digests(tmp_path / "1") == digests(tmp_path / "2") == digests(tmp_path / "3")
    made = manifest.load(str(tmp_path / "1"))
    assert digests(tmp_path / "1") == {
        shard.name: shard.sha256 for split in made.splits.values() for shard in split.shards
    }


def test_another_seed_gives_other_shards(crowd, tmp_path):
    run(crowd, tmp_path / "0", seed=0)
    run(crowd, tmp_path / "1", seed=1)
    assert not set(digests(tmp_path / "0").values()) & set(digests(tmp_path / "1").values())


def test_bad_images_are_left_out_and_the_rest_is_converted(tmp_path):
    images = making.crowd(tmp_path / "images", identities=20, images=4)
    (images / "p000" / "p000_0001.jpg").write_bytes(b"")
    (images / "p001" / "p001_0001.jpg").write_bytes(making.jpeg(1)[:-20])
    (images / "p002" / "text, of a kind.jpg").write_bytes(b"hello")
    Image.fromarray(making.pixels(5)).save(images / "p003" / "sound.png")
    made, left_out = run(images, tmp_path / "out")
    assert left_out["path"].tolist() == [
        "p000/p000_0001.jpg",
        "p001/p001_0001.jpg",
        "p002/text, of a kind.jpg",
    ]
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "out" / "left_out.csv"), left_out, check_dtype=False
    )
    assert sum(split.images for split in made.splits.values()) == 20 * 4 + 1 - 2
    with pytest.raises(UserError, match="p000/p000_0001.jpg: empty file"):
        run(images, tmp_path / "strict", strict=True)


def test_a_normalised_image_is_one_jpeg_in_all_its_pairs(tmp_path):
    images = making.crowd(tmp_path / "images", identities=6, images=2)
    grey = Image.fromarray(making.pixels(7)).convert("L")
    grey.save(images / "p000" / "x.pgm")
    run(images, tmp_path / "out", val_fraction=0.0, test_fraction=0.0)
    found = {
        pair[record.IMAGE_A]
        for pair in pairs_of(tmp_path / "out")
        if pair[record.PATH_A] == b"p000/x.pgm"
    }
    assert len(found) == 1 and found.pop().startswith(b"\xff\xd8\xff")


def test_listed_pairs_are_converted_as_they_stand(crowd, tmp_path):
    (tmp_path / "pairs.txt").write_text(
        "2\np000\t1\t2\np001\t3\t4\np000\t1\tp001\t1\np002\t1\tp003\t4\n"
    )
    made, _ = run(crowd, tmp_path / "out", pairs_file=str(tmp_path / "pairs.txt"))
    assert list(made.splits) == ["test"]
    assert made.split("test").identities == ("p000", "p001", "p002", "p003")
    found = {
        (pair[record.PATH_A], pair[record.PATH_B], pair[record.LABEL])
        for pair in pairs_of(tmp_path / "out", "test")
    }
    assert found == {
        (b"p000/p000_0001.jpg", b"p000/p000_0002.jpg", 1),
        (b"p001/p001_0003.jpg", b"p001/p001_0004.jpg", 1),
        (b"p000/p000_0001.jpg", b"p001/p001_0001.jpg", 0),
        (b"p002/p002_0001.jpg", b"p003/p003_0004.jpg", 0),
    }


def test_a_csv_goes_to_the_split_it_is_meant_for(crowd, tmp_path):
    (tmp_path / "pairs.csv").write_text(
        "image_a,image_b,label\np000/p000_0001.jpg,p000/p000_0002.jpg,1\n"
    )
    made, _ = run(crowd, tmp_path / "out", pairs_csv=str(tmp_path / "pairs.csv"), pairs_split="val")
    assert {name: split.pairs for name, split in made.splits.items()} == {"val": 1}


BINS = pathlib.Path(__file__).parent / "bins"


def test_a_verification_set_is_converted_pair_by_pair(tmp_path):
    source = BINS / "python2-2-arrays.bin"
    made, left_out = run(source, tmp_path / "out")
    assert left_out.empty and (made.split("test").genuine, made.split("test").impostor) == (2, 2)
    assert f"--images={source}" in made.flags and "scratch" not in made.flags
    files = [(BINS / f"{number}.jpg").read_bytes() for number in range(8)]
    found = {
        (pair[record.IMAGE_A], pair[record.IMAGE_B], pair[record.LABEL])
        for pair in pairs_of(tmp_path / "out", "test")
    }
    assert found == {(files[2 * n], files[2 * n + 1], 1 - n % 2) for n in range(4)}
    assert inspection.inspect(str(tmp_path / "out"))[1] == []
    assert sorted(os.listdir(tmp_path / "out" / ".fv")) == ["written.json"]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(0, 1, 1), (2, 3, 0), (0, 1, 1)], "pair 3: the pair of .*x.bin, pair 1 again"),
        ([(0, 1, 1), (2, 2, 1)], "pair 2: a pair of x-00002/00002-.*.jpg with itself"),
        ([(0, 1, 1), (1, 2, 1), (0, 2, 0)], "pair 3: labelled different, but .* of one identity"),
        ([(0, 1, 1), (2, "cut", 0)], "pair 2: .*: damaged JPEG"),
    ],
)
def test_a_verification_set_that_cannot_be_true_names_the_pair(tmp_path, pairs, message):
    files = {number: (BINS / f"{number}.jpg").read_bytes() for number in range(4)}
    files["cut"] = files[1][:200]
    images = [files[end] for pair in pairs for end in pair[:2]]
    path = str(tmp_path / "x.bin")
    verification_sets.write(path, images, [label == 1 for _, _, label in pairs])
    with pytest.raises(UserError, match=rf"x\.bin, {message}"):
        run(path, tmp_path / "out")


def test_a_verification_set_lists_its_own_pairs(tmp_path):
    with pytest.raises(UserError, match="x.bin lists its own pairs: leave out --pairs"):
        run("x.bin", tmp_path / "out", pairs=10)


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
    assert not set(digests(tmp_path)) & set(before) - {
        "val-00000-of-00001.tfrecord",
        "test-00000-of-00001.tfrecord",
    }


def test_manifest_keeps_the_flags(crowd, tmp_path):
    made, _ = run(crowd, tmp_path, pairs=100, seed=3)
    assert made.seed == 3
    assert {"--pairs=100", "--seed=3", f"--images={crowd}"} <= set(made.flags.splitlines())


def test_a_run_that_broke_off_goes_on_where_it_was(crowd, tmp_path, monkeypatch):
    run(crowd, tmp_path / "whole", shards=6)
    chosen = options.ConvertOptions(
        images=str(crowd), output=str(tmp_path / "broken"), shards=6, **SHARES
    )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(convert.manifest, "save", interrupt)
        convert.convert(chosen)
    os.remove(tmp_path / "broken" / "train-00003-of-00006.tfrecord")
    before = {path: path.stat().st_ino for path in (tmp_path / "broken").glob("*.tfrecord")}
    convert.convert(chosen)
    assert digests(tmp_path / "broken") == digests(tmp_path / "whole")
    assert all(path.stat().st_ino == number for path, number in before.items())
    assert sorted(os.listdir(tmp_path / "broken")) == sorted(os.listdir(tmp_path / "whole"))


def interrupt(*_):
    raise KeyboardInterrupt


def test_other_flags_leave_nothing_of_a_run_that_broke_off(crowd, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(convert.manifest, "save", interrupt)
        run(crowd, tmp_path / "out", shards=6, seed=5)
    run(crowd, tmp_path / "out", shards=3)
    run(crowd, tmp_path / "new", shards=3)
    assert digests(tmp_path / "out") == digests(tmp_path / "new")


WHOLE = (
    r"; \d+ of 16 shards are whole in .*, "
    r"and the same command \(without --overwrite\) writes the others"
)


@pytest.fixture
def before_writing(monkeypatch):
    """A function that has another called between the choice of pairs and the first shard."""
    select = convert.select

    def patch(action):
        def select_and_act(*arguments):
            selected = select(*arguments)
            action(selected)
            return selected

        monkeypatch.setattr(convert, "select", select_and_act)

    return patch


def test_an_image_that_vanishes_is_one_line_with_what_is_whole(tmp_path, before_writing):
    images = making.crowd(tmp_path / "images", identities=30, images=4)
    before_writing(
        lambda chosen: os.remove(
            images / chosen.images["path"].loc[chosen.tables["test"]["a"].iloc[0]]
        )
    )
    with pytest.raises(UserError, match=r"No such file or directory: .*\.jpg" + WHOLE):
        run(images, tmp_path / "out", shards=8)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_an_images_folder_that_vanishes_is_one_line_with_what_is_whole(tmp_path, before_writing):
    images = making.crowd(tmp_path / "images", identities=30, images=4)
    before_writing(lambda _: images.rename(tmp_path / "elsewhere"))
    with pytest.raises(UserError, match="--images=.* has vanished" + WHOLE):
        run(images, tmp_path / "out", shards=8)


def test_a_network_disk_that_fails_for_a_moment_asks_for_the_same_command(
    crowd, tmp_path, monkeypatch
):
    def fail(*_):
        stale = OSError(errno.ESTALE, os.strerror(errno.ESTALE), "a.jpg")
        raise convert.UnfinishedError(stale, 16, str(crowd))

    monkeypatch.setattr(convert, "write_shards", fail)
    with pytest.raises(TemporaryError, match=r"Stale file handle: a\.jpg" + WHOLE):
        run(crowd, tmp_path / "out")


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_full_disk_is_one_line_and_the_next_run_writes_the_rest(crowd, tmp_path):
    out = tmp_path / "out"
    command = ["tools/make_tfrecords.py", f"--images={crowd}", f"--output={out}", "--shards=3"]
    where = dict(
        cwd=pathlib.Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": "."},
        capture_output=True,
    )
    full = subprocess.run(
        [sys.executable, "-c", LIMITED, *command], **where, text=True, check=False
    )
    assert full.returncode == 2
    assert re.fullmatch(
        r".*error: File too large: .*; \d of \d shards are whole in .*\n", full.stderr
    )
    subprocess.run([sys.executable, *command], **where, check=True)
    run(crowd, tmp_path / "undisturbed", shards=3, val_fraction=0.1, test_fraction=0.1)
    assert digests(out) == digests(tmp_path / "undisturbed")


def test_a_picture_under_two_names_is_in_no_pair_unless_it_is_kept(tmp_path):
    images = making.crowd(tmp_path / "images", identities=20, images=4)
    (images / "p007" / "copy.jpg").write_bytes((images / "p003" / "p003_0001.jpg").read_bytes())
    (images / "p004" / "again.jpg").write_bytes((images / "p004" / "p004_0002.jpg").read_bytes())
    _, left_out = run(images, tmp_path / "out")
    reasons = dict(left_out.to_numpy())
    assert set(reasons) == {"p003/p003_0001.jpg", "p007/copy.jpg", "p004/p004_0002.jpg"}
    assert (
        reasons["p007/copy.jpg"]
        == "the same picture as 'p003/p003_0001.jpg', and two identities have it"
    )
    assert reasons["p004/p004_0002.jpg"] == "the same bytes as 'p004/again.jpg'"
    used = {
        pair[f"image_{side}/path"].decode() for pair in pairs_of(tmp_path / "out") for side in "ab"
    }
    assert not used & set(reasons)
    _, left_out = run(images, tmp_path / "kept", keep_duplicates=True)
    assert left_out.empty


def test_a_stored_size_is_in_the_records_and_in_the_manifest(crowd, tmp_path):
    made, _ = run(crowd, tmp_path / "small", store_size=16, crop="0.75")
    sizes = {
        Image.open(io.BytesIO(pair[record.IMAGE_A])).size for pair in pairs_of(tmp_path / "small")
    }
    assert sizes == {(16, 16)} and made.image_side == 16
    assert run(crowd, tmp_path / "whole")[0].image_side == 24
    assert digests(tmp_path / "small").keys() == digests(tmp_path / "whole").keys()


def test_images_of_two_sizes_have_no_side_in_the_manifest(tmp_path):
    images = making.crowd(tmp_path / "images", identities=20, images=3)
    (images / "p000" / "large.jpg").write_bytes(making.jpeg(4000, 30))
    assert run(images, tmp_path / "out", val_fraction=0.0, test_fraction=0.0)[0].image_side is None


def test_an_image_without_a_box_is_left_out(crowd, tmp_path):
    boxes = tmp_path / "boxes.csv"
    paths = sorted(str(path.relative_to(crowd)) for path in crowd.rglob("*.jpg"))
    rows = [f"{path},2,2,16,16\n" for path in paths[1:]]
    boxes.write_text("path,left,top,width,height\n" + "".join(rows))
    made, left_out = run(crowd, tmp_path / "out", crop=str(boxes), store_size=16)
    assert left_out.to_numpy().tolist() == [[paths[0], f"no box in {boxes}"]]
    assert made.image_side == 16


def test_a_crop_without_a_stored_size_is_refused(crowd, tmp_path):
    with pytest.raises(
        UserError, match="--crop=0.5 cuts images as they are stored small: give --store_size too"
    ):
        run(crowd, tmp_path, crop="0.5")


def test_an_image_longer_than_a_jpeg_may_be_is_stored_small(tmp_path):
    images = making.crowd(tmp_path / "images", identities=20, images=4)
    Image.new("L", (70_000, 8), 90).save(images / "p000" / "long.png")
    _, left_out = run(images, tmp_path / "small", store_size=8, crop="1")
    assert left_out.empty
    _, left_out = run(images, tmp_path / "whole")
    assert left_out["reason"].tolist() == ["a side longer than the 65,500 pixels of a JPEG"]
