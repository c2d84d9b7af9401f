import csv
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from concurrent import futures
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from fv import detection, embedding_files, encoders, files, image_blocks, onnx_encoder
from fv import embed as embed_module
from fv.conversion import sources, storage, verification_sets
from fv.conversion.faces import FaceOptions
from fv.embed import EmbedOptions, embed
from fv.errors import UserError
from fv.evaluation import pair_sources, pairs, scores
from fv.model import checkpoint_files, model_record
from fv.preprocessing import Preprocessing
from tests import samples
from tests.conversion import making


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> str:
    """Twelve images of four people."""
    return str(samples.write_images(tmp_path_factory.mktemp("embed") / "faces", 4, 3))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(image_blocks, "IMAGES_PER_BLOCK", 5)


def write_onnx(path: pathlib.Path, side: int) -> str:
    """A float network [1, 3, side, side] whose embedding is the mean of each channel."""
    import onnx
    from onnx import TensorProto, helper

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side])
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3])
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["out"]),
    ]
    graph = helper.make_graph(nodes, "means", [image], [output])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return str(path)


def test_shards_are_embedded_as_fv_evaluate_embeds_them(trained, shards, tmp_path, small_blocks):
    output = str(tmp_path / "test.parquet")
    embed(EmbedOptions(output, tfrecords=str(shards), split="test", workdir=trained.workdir))
    found = embedding_files.read(output)
    record = model_record.load(trained.workdir)
    model, _ = checkpoint_files.load_model(trained.workdir, record)
    pairs = pair_sources.read_shard_pairs(str(shards), "test")
    expected = scores.extract_features(
        pairs.images, "test", model, record.options, untrained=None, flip=False
    )
    assert found.paths.tolist() == pairs.images.paths
    assert found.identities.tolist() == pairs.images.identities
    np.testing.assert_allclose(found.vectors, expected.embeddings, atol=1e-5)


def test_a_folder_gives_the_same_columns_in_both_formats(trained, faces, tmp_path, small_blocks):
    for name in ("a.parquet", "a.npz"):
        embed(EmbedOptions(str(tmp_path / name), images=faces, workdir=trained.workdir))
    table, arrays = pd.read_parquet(tmp_path / "a.parquet"), np.load(tmp_path / "a.npz")
    assert list(table) == list(arrays.files)
    for name in table:
        np.testing.assert_array_equal(np.stack(table[name].to_list()), arrays[name])
    assert table["path"].iloc[0] == "person_000/0000.jpg" and len(table) == 12
    assert set(table["width"]) == {samples.SIDE} and table["sharpness"].min() > 0
    one, other = (embedding_files.read(str(tmp_path / name)) for name in ("a.parquet", "a.npz"))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert not (tmp_path / ".fv").exists()


def test_an_interrupted_run_continues_and_writes_the_same_bytes(
    trained, faces, tmp_path, small_blocks, monkeypatch
):
    options = EmbedOptions(str(tmp_path / "a.npz"), images=faces, workdir=trained.workdir)
    embed(dataclasses.replace(options, output=str(tmp_path / "whole.npz")))
    done, real = [], embed_module.embed_block

    def stop_at_second(encoder, block, *rest):
        done.append(len(block.paths))
        if len(done) == 2:
            raise KeyboardInterrupt
        return real(encoder, block, *rest)

    monkeypatch.setattr(embed_module, "embed_block", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        embed(options)
    assert not (tmp_path / "a.npz").exists()
    embed(options)
    assert done == [5, 5, 5, 2]
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


@pytest.mark.slow
def test_a_run_killed_by_sigkill_continues_and_writes_the_same_bytes(trained, tmp_path):
    people = samples.write_images(tmp_path / "faces", 900, 4)
    whole, killed = tmp_path / "whole.parquet", tmp_path / "killed.parquet"
    flags = [f"--images={people}", f"--workdir={trained.workdir}", "--batch_size=8"]
    command = [sys.executable, "-m", "fv.embed", *flags]
    subprocess.run([*command, f"--output={whole}"], check=True)
    process = subprocess.Popen([*command, f"--output={killed}"])
    blocks = tmp_path / ".fv" / "embed-killed.parquet"
    while not list(blocks.glob("000001-*.npz")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = next(blocks.glob("000000-*.npz")).stat().st_mtime_ns
    assert not killed.exists() and len(list(blocks.glob("*.npz"))) < 4
    subprocess.run([*command, f"--output={killed}"], check=True)
    assert killed.read_bytes() == whole.read_bytes()
    assert killed.stat().st_mtime_ns > first and not blocks.exists()


def test_images_that_cannot_be_used_are_listed_beside_the_file(trained, tmp_path, capsys):
    folder = samples.write_images(tmp_path / "faces", 2, 2)
    (folder / "person_000" / "0000.jpg").write_bytes(b"\xff\xd8\xff no image")
    output = tmp_path / "a.npz"
    embed(EmbedOptions(str(output), images=str(folder), workdir=trained.workdir))
    assert len(embedding_files.read(str(output)).paths) == 3
    with open(tmp_path / "a-left_out.csv") as file:
        (row,) = csv.DictReader(file)
    assert row["path"] == "person_000/0000.jpg" and "damaged JPEG" in row["reason"]
    assert "1 left out" in capsys.readouterr().err
    # Once the image is mended, the list is gone.
    output.unlink()
    (folder / "person_000" / "0000.jpg").write_bytes(samples.image_bytes(0, 0))
    embed(EmbedOptions(str(output), images=str(folder), workdir=trained.workdir))
    assert len(embedding_files.read(str(output)).paths) == 4
    assert not (tmp_path / "a-left_out.csv").exists()


def write_source(folder: pathlib.Path, faces: str, format: str) -> tuple[str, str | None]:
    """Writes the images of a folder in another format; returns --images and --labels."""
    paths = sorted(pathlib.Path(faces).glob("*/*.jpg"))
    images = [(number // 3, path.read_bytes()) for number, path in enumerate(paths)]
    if format == "rec":
        return str(making.records(folder / "train.rec", images)), None
    if format == "bin":
        encoded = [data for _, data in images]
        verification_sets.write(str(folder / "a.bin"), encoded, [True] * (len(images) // 2))
        return str(folder / "a.bin"), None
    if format == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet")
        rows = [{"bytes": data, "path": None} for _, data in images]
        table = pyarrow.table({"image": rows, "who": [person for person, _ in images]})
        pyarrow.parquet.write_table(table, folder / "a.parquet", row_group_size=5)
        return str(folder / "a.parquet"), "who"
    for number, path in enumerate(paths):
        (folder / f"{number:02d}.jpg").write_bytes(path.read_bytes())
    rows = [f"{number:02d}.jpg,{path.parent.name}\n" for number, path in enumerate(paths)]
    (folder / "list.csv").write_text("".join(rows))
    return str(folder), str(folder / "list.csv")


@pytest.mark.parametrize("format", ["rec", "bin", "parquet", "list"])
def test_every_data_source_gives_the_embeddings_of_folders(
    format, trained, faces, tmp_path, small_blocks, monkeypatch
):
    whole = str(tmp_path / "whole.npz")
    embed(EmbedOptions(whole, images=faces, workdir=trained.workdir))
    (tmp_path / "source").mkdir()
    images, labels = write_source(tmp_path / "source", faces, format)
    output = str(tmp_path / "a.npz")
    options = EmbedOptions(output, images=images, labels=labels, workdir=trained.workdir)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(embedding_files, "write", interrupt)
        embed(options)
    monkeypatch.setattr(embed_module, "embed_block", interrupt)
    embed(options)
    found, expected = embedding_files.read(output), embedding_files.read(whole)
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-6)
    images_of_one = 2 if format == "bin" else 3  # genuine pairs make the people of a .bin
    people = np.unique(found.identities, return_inverse=True)[1]
    np.testing.assert_array_equal(people, np.arange(12) // images_of_one)
    assert not (tmp_path / ".fv").exists()


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_verification_set_that_is_replaced_is_not_mixed_with_the_first(
    faces, tmp_path, small_blocks, monkeypatch
):
    onnx, output = write_onnx(tmp_path / "net.onnx", 16), str(tmp_path / "a.npz")
    encoded = [path.read_bytes() for path in sorted(pathlib.Path(faces).glob("*/*.jpg"))]
    options = EmbedOptions(output, images=str(tmp_path / "a.bin"), onnx=onnx)
    verification_sets.write(options.images, encoded[:6], [True] * 3)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(embedding_files, "write", interrupt)
        embed(options)
    verification_sets.write(options.images, encoded[6:], [True] * 3)
    embed(options)
    assert len(embedding_files.read(output).paths) == 6


def test_a_second_run_is_refused_before_it_unpacks_images(faces, tmp_path, monkeypatch):
    onnx, output = write_onnx(tmp_path / "net.onnx", 16), str(tmp_path / "a.npz")
    images, _ = write_source(tmp_path, faces, "bin")
    options = EmbedOptions(output, images=images, onnx=onnx)
    kept = embed_module._kept(options)[1]
    files.make_folder(kept)
    monkeypatch.setattr(verification_sets, "unpack", interrupt)
    with files.lock_folder(kept, ""), pytest.raises(UserError, match="another run writes"):
        embed(options)


def test_images_of_zero_or_nan_embeddings_are_listed_before_the_file(faces, tmp_path, monkeypatch):
    encoder = encoders.load_onnx(write_onnx(tmp_path / "net.onnx", 16))

    def embed_badly(pixels) -> np.ndarray:
        vectors = np.ones((len(pixels), 3), np.float32)
        vectors[1], vectors[3, 0] = 0.0, np.nan
        return vectors

    bad = encoder._replace(embed=embed_badly)
    monkeypatch.setattr(embed_module, "load_encoder", lambda options: bad)
    output = str(tmp_path / "a.npz")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(embedding_files, "write", interrupt)
        embed(EmbedOptions(output, images=faces, onnx="unread"))
    with open(tmp_path / "a-left_out.csv") as file:
        rows = [(row["path"], row["reason"]) for row in csv.DictReader(file)]
    reason = "its embedding is zero or not finite"
    assert rows == [("person_000/0001.jpg", reason), ("person_001/0000.jpg", reason)]
    embed(EmbedOptions(output, images=faces, onnx="unread"))
    assert len(embedding_files.read(output).paths) == 10


def test_another_detector_embeds_finished_blocks_again(tmp_path, monkeypatch):
    none = pd.DataFrame({"path": [], "reason": []})
    found = (1, none, [image_blocks.Block(["a.jpg"], ["a"], interrupt, {}, 0)])
    column = {"path": np.array(["a.jpg"]), "embedding": np.ones((1, 2))}
    empty = {"left_out": np.array([], str), "reasons": np.array([], str)}
    done = []
    monkeypatch.setattr(embed_module, "load_encoder", lambda _: mock.Mock(digest="d"))
    monkeypatch.setattr(embed_module, "find_images", lambda *_: found)
    monkeypatch.setattr(embed_module, "embed_block", lambda *_: done.append(1) or column | empty)
    monkeypatch.setattr(embedding_files, "write", interrupt)
    chosen = FaceOptions(detector="yunet", detector_model="m.onnx")
    for name, expected in (("yunet a", 1), ("yunet a", 1), ("yunet b", 2)):
        monkeypatch.setattr(detection, "require", lambda *_, name=name: name)
        with pytest.raises(KeyboardInterrupt):
            embed(EmbedOptions(str(tmp_path / "a.npz"), images="x", onnx="y", faces=chosen))
        assert len(done) == expected


def test_a_folder_whose_name_is_not_utf_8_is_embedded(faces, tmp_path):
    images = os.path.join(tmp_path, os.fsdecode(b"im\xff"))
    shutil.copytree(faces, images)
    onnx, output = write_onnx(tmp_path / "net.onnx", 16), str(tmp_path / "a.npz")
    embed(EmbedOptions(output, images=images, onnx=onnx))
    assert len(embedding_files.read(output).paths) == 12


def test_threads_find_the_faces_of_a_block_once(faces, tmp_path):
    calls = []

    def find(places) -> None:
        calls.append(len(places))
        time.sleep(0.1)

    catalog = sources.find_images(faces, None, None, merge_names=False)
    rules = pairs.storage_rules(storage.parse_crop("none"), None, 95)
    _, _, blocks = image_blocks.read_source(catalog, faces, str(tmp_path), rules, find)
    with futures.ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(next(blocks).read, range(12)))) == 12
    assert calls == [12]


def test_an_export_embeds_as_its_workdir(trained, exported, faces, tmp_path):
    chosen = EmbedOptions("", images=faces, workdir=trained.workdir)
    found = []
    for name, model in (("w", {}), ("e", {"workdir": None, "model": str(exported)})):
        output = str(tmp_path / f"{name}.npz")
        embed(dataclasses.replace(chosen, output=output, **model))
        found.append(embedding_files.read(output).vectors)
    np.testing.assert_allclose(*found, atol=1e-5)


def test_a_foreign_onnx_file_gets_rgb_pixels_from_minus_one_to_one(tmp_path):
    network = onnx_encoder.OnnxEncoder(write_onnx(tmp_path / "net.onnx", 16))
    assert (network.image_size, network.embedding_size) == (16, 3)
    pixels = np.zeros((2, 16, 16, 3), np.uint8)
    pixels[0] = (255, 0, 0)
    expected = np.array([[1, -1, -1], [-1, -1, -1]]) / np.sqrt(3)
    np.testing.assert_allclose(network(pixels), expected, atol=1e-6)


def test_the_digest_of_an_onnx_file_covers_its_external_data(tmp_path):
    import onnx
    from onnx import numpy_helper

    path = tmp_path / "net.onnx"
    model = onnx.load(write_onnx(path, 16))
    weights = numpy_helper.from_array(np.full(300, 2.0, np.float32), "unused")
    model.graph.initializer.append(weights)
    where = dict(save_as_external_data=True, location="weights.data", size_threshold=0)
    onnx.save(model, path, **where)
    first = encoders.load_onnx(str(path)).digest
    (tmp_path / "weights.data").write_bytes(bytes(1200))
    second = encoders.load_onnx(str(path)).digest
    assert first != second and encoders.load_onnx(str(path)).digest == second


def test_another_programs_model_card_says_nothing_of_a_foreign_onnx_file(tmp_path):
    (tmp_path / "1").mkdir()
    path = write_onnx(tmp_path / "1" / "net.onnx", 16)
    for card in ({"model": "resnet"}, {"name": "x"}, {"model": {"image_size": 99}}):
        files.save_json(card, str(tmp_path / "model_card.json"))
        record = encoders.load_onnx(path).record
        assert record.options.image_size == 16 and record.preprocessing == Preprocessing()


def test_a_foreign_onnx_file_embeds_aligned_faces(faces, tmp_path):
    points = tmp_path / "faces.csv"
    points.write_text("path,x,y,width,height\nperson_000/0000.jpg,4,4,30,30\n")
    onnx, output = write_onnx(tmp_path / "net.onnx", 16), str(tmp_path / "a.npz")
    faces_given = FaceOptions(face_points=str(points))
    embed(EmbedOptions(output, images=faces, onnx=onnx, faces=faces_given, dtype="float16"))
    found = embedding_files.read(output)
    assert found.paths.tolist() == ["person_000/0000.jpg"] and found.vectors.shape == (1, 3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"images": None, "tfrecords": "x", "labels": "y"},
            "--labels is for --images: leave it out",
        ),
        ({"images": None, "tfrecords": "x", "crop": "0.5"}, "--crop is for --images: leave it out"),
        (
            {"images": None, "tfrecords": "x", "faces": FaceOptions("f.csv")},
            "--face_points and --detector are for --images",
        ),
        ({"split": "test"}, "--split is for --tfrecords: leave it out"),
        ({"tfrecords": "x"}, "give one of --images and --tfrecords"),
        ({"workdir": None}, "give one of --workdir, --model and --onnx"),
        ({"output": "a.csv"}, r"a\.csv is neither a \.parquet nor a \.npz file"),
        ({"workdir": None, "onnx": __file__}, "cannot be loaded as an ONNX file"),
        (
            {"images": str(pathlib.Path(__file__).parent / "training")},
            "no image in any identity's folder",
        ),
    ],
)
def test_what_cannot_be_embedded_is_refused(flags, message, trained, faces, tmp_path):
    options = EmbedOptions(str(tmp_path / "a.npz"), images=faces, workdir=trained.workdir)
    with pytest.raises(UserError, match=message):
        embed(dataclasses.replace(options, **flags))


def test_a_file_that_exists_is_not_replaced(trained, faces, tmp_path):
    output = tmp_path / "a.npz"
    output.write_text("mine")
    with pytest.raises(UserError, match=r"a\.npz exists: remove it"):
        embed(EmbedOptions(str(output), images=faces, workdir=trained.workdir))


def test_another_programs_list_of_what_is_left_out_is_refused_before_embedding(faces, tmp_path):
    (tmp_path / "a-left_out.csv").write_text("mine")
    with pytest.raises(UserError, match=r"did not write.*a-left_out\.csv"):
        embed(EmbedOptions(str(tmp_path / "a.npz"), images=faces, workdir="unread"))
    assert not (tmp_path / "a.npz").exists()
