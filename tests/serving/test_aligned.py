"""A model of aligned faces takes photographs: found, aligned and compared as in training."""

import concurrent.futures
import dataclasses
import io
import json
import pathlib
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import fv
from fv import alignment, detection, face_files, image_ops, manifest, mtcnn, verify
from fv.alignment import TEMPLATE, Alignment, Face
from fv.conversion import convert, storage
from fv.conversion.faces import FaceOptions
from fv.conversion.options import ConvertOptions
from fv.errors import UserError
from fv.evaluation import pair_sources
from fv.evaluation.options import EvaluateOptions
from fv.mining import MineOptions, restore_conversion
from fv.model import model_record
from fv.preprocessing import Preprocessing
from fv.serving.image_inputs import FinderOptions
from tests import samples, waiting
from tests.serving import making

ALIGNED = making.ALIGNED
POINTS = TEMPLATE @ np.array([[0.5, 0.2], [-0.2, 0.5]]) + (40, 30)  # smaller and turned


def picture(identity):
    """A photograph with much detail, which differs from person to person."""
    return Image.open(io.BytesIO(samples.image_bytes(identity, 0, 160)))


@pytest.fixture(scope="module")
def verifier(aligned_version):
    return fv.Verifier(str(aligned_version))


@pytest.fixture
def serve(aligned_version, verifier, monkeypatch):
    """Starts services whose detector finds `face()` in all that is not of one colour."""
    test_server = pytest.importorskip("tests.serving.test_server", reason="pip install 'fv[serve]'")
    from fv.serving import limits, served_model

    running, held = [], threading.Event()
    held.set()

    class Fake:
        def detect(self, images):
            assert held.wait(20)
            return [[face()] if image.std() > 1 else [] for image in images]

    monkeypatch.setattr(detection, "load", lambda *_: Fake())

    def begin(seconds=20.0, **options):
        metrics = limits.Monitor()
        engine = verifier._engine
        faces = FinderOptions(**options)
        model = served_model.ServedModel(str(aligned_version), lambda path: engine, metrics, faces)
        bounds = limits.Limits(200_000, 8, seconds)
        running.append(test_server.Running(model, metrics, bounds))
        return running[-1]

    begin.held = held
    yield begin
    held.set()
    for service in running:
        service.stop()


@pytest.fixture
def found(monkeypatch):
    """Lets the detector find these faces, one after the other; None for no face."""
    faces = []

    class Fake:
        name = "mtcnn 1.0.0"

        def detect(self, images):
            return [[face] if face else [] for face in (faces.pop(0) for _ in images)]

    monkeypatch.setattr(detection, "load", lambda *_: Fake())
    return faces


def face(points=POINTS):
    return Face(points, (40.0, 30.0, 70.0, 80.0), 0.95)


def test_the_record_names_template_margin_and_detector(aligned_run, aligned_version):
    record = model_record.load(str(aligned_run)).preprocessing
    assert record == ALIGNED and record.cuts
    assert str(record) == "--align_margin=0.1, points of mtcnn 1.0.0 --store_size=40"
    card = json.loads((aligned_version / "model_card.json").read_text())
    assert Preprocessing.from_json(card["preprocessing"], "card") == ALIGNED
    text = (aligned_version / "model_card.md").read_text()
    assert "`serving_default` expects images that are already cut to one face and aligned" in text
    assert "margin of 0.1. The training faces were found by mtcnn 1.0.0." in text


def test_only_equally_aligned_images_fit_a_model():
    other = dataclasses.replace(ALIGNED, alignment=Alignment(0.1, "given points"))
    margin = dataclasses.replace(ALIGNED, alignment=Alignment(0.2))
    assert ALIGNED.fits(other, 32, 1.0) and not ALIGNED.fits(margin, 32, 1.0)
    for plain in (Preprocessing(store_size=40), Preprocessing(boxes="b", store_size=40)):
        assert not plain.fits(ALIGNED, 32, 1.0) and not ALIGNED.fits(plain, 32, 1.0)
    assert "alignment" not in Preprocessing(store_size=40).to_json()


def test_the_graph_embeds_an_aligned_photograph_as_the_stored_face(verifier):
    signatures = verifier._engine._model.signatures
    for form in ("JPEG", "PNG"):
        data = samples.encode(picture(3), form)
        rules = storage.StorageRules(10**7, ALIGNED)
        stored = storage.prepare_image(data, rules, POINTS).stored
        points = tf.constant(POINTS[np.newaxis], tf.float32)
        photo = signatures["embed_aligned"](image=tf.constant([data]), points=points)["embedding"]
        crop = signatures["embed"](image=tf.constant([stored]))["embedding"]
        assert float(np.dot(photo[0], crop[0])) > 0.995
        one = tf.constant([data])
        answer = signatures["serve_aligned"](
            image_a=one, image_b=one, points_a=points, points_b=points
        )
        assert answer["similarity"].shape == (1,) and answer["distance"][0] < 1e-3


def test_host_and_graph_agree_within_one_level_on_a_photograph():
    pixels = np.asarray(picture(5))
    for side in (20, 40, 100):
        matrix = Alignment(0.1).matrix(POINTS, side)
        host = alignment.warp(pixels, matrix, side).astype(int)
        graph = image_ops.warp(tf.constant(pixels), tf.constant(matrix), side)
        assert np.abs(graph.numpy() - host).max() <= 1


def test_points_that_are_no_faces_name_their_image(verifier):
    served = verifier._engine._model.signatures["embed_aligned"]
    images = tf.constant([samples.encode(picture(3), "JPEG")] * 2)
    points = np.stack([POINTS, np.full((5, 2), 7.0)]).astype(np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image\[1\] has points that are no"):
        served(image=images, points=tf.constant(points))
    with pytest.raises(tf.errors.InvalidArgumentError, match="image and points differ in length"):
        served(image=images, points=tf.constant(points[:1]))


def test_the_verifier_finds_aligns_and_reports_faces(verifier, found):
    found += [face(), face(POINTS + 2)]
    verdict = verifier.verify(picture(3), picture(4))
    assert verdict.face_a.box == (40, 30, 70, 80) and verdict.face_b.confidence == 0.95
    assert "first face: 70 × 80 pixels at (40, 30), confidence 0.950" in verdict.sentence()
    assert verdict.to_json()["face_b"]["points"] == np.round(POINTS + 2, 1).tolist()
    by_caller = verifier.verify(picture(3), picture(4), points_a=POINTS, points_b=POINTS + 2)
    assert by_caller.similarity == pytest.approx(verdict.similarity, abs=1e-6)
    found += [face(), face(POINTS + 2)]
    both = verifier.verify([picture(3)], [picture(4)])
    assert both[0].similarity == pytest.approx(verdict.similarity, abs=1e-6)
    assert verifier.embed([picture(3)] * 2, np.stack([POINTS] * 2)).shape == (2, 16)
    with pytest.raises(UserError, match=r"points \[4, 2\] do not fit: give \[5, 2\]"):
        verifier.embed(picture(3), POINTS[:4])


@pytest.mark.slow
def test_an_image_without_a_face_is_refused_or_its_centre_is_taken(aligned_version, found):
    found += [face(), None]
    with pytest.raises(UserError, match="a PIL image shows no face that mtcnn finds: give its"):
        fv.Verifier(str(aligned_version)).verify(picture(3), picture(4))
    found += [None]
    centre = fv.Verifier(str(aligned_version), no_face="crop").embed(picture(3))
    crop = fv.Verifier(str(aligned_version), detector="none").embed(picture(3))
    assert float(np.dot(centre, crop)) > 0.99


def test_without_the_extra_one_line_names_it(verifier, monkeypatch):
    detection.load.cache_clear()
    monkeypatch.setitem(sys.modules, "mtcnn", None)
    monkeypatch.setattr(mtcnn.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'fv\[align\]'"):
        verifier.verify(picture(3), picture(4))


def test_a_model_of_crops_takes_no_points(exported):
    verifier = fv.Verifier(str(exported))
    with pytest.raises(UserError, match="takes images that are cut already: leave out the points"):
        verifier.embed(picture(3), POINTS)
    assert "serve_aligned" not in verifier._engine._model.signatures
    assert set(verifier.verify(picture(3), picture(4)).to_json()) == {
        "same", "similarity", "threshold", "probability", "distance",
    }  # fmt: skip


@pytest.mark.slow
def test_the_command_reads_points_from_a_file_and_draws_them(aligned_version, tmp_path, capsys):
    paths = [str(tmp_path / f"{name}.png") for name in "ab"]
    for number, path in enumerate(paths):
        picture(number).save(path)
    faces = {f"{name}.png": face() for name in "ab"}
    face_files.write(str(tmp_path / "faces.csv"), faces, "given points")
    options = verify.VerifyOptions(
        model=str(aligned_version),
        face_points=str(tmp_path / "faces.csv"),
        picture=str(tmp_path / "verdict.png"),
        json=True,
    )
    assert verify.verify(options, *paths) in (0, 1)
    answer = json.loads(capsys.readouterr().out)
    assert answer["face_a"]["box"] == [40, 30, 70, 80]
    drawn = np.asarray(Image.open(tmp_path / "verdict.png").convert("RGB")).astype(int)
    assert ((drawn[..., :2] > 230).all(axis=2) & (drawn[..., 2] < 60)).sum() > 100  # yellow


def test_a_list_is_aligned_as_the_converter_aligns_shards(aligned_run, tmp_path):
    folder = samples.write_images(tmp_path / "faces", 3, 2, 120)
    paths = sorted(str(each.relative_to(folder)) for each in folder.rglob("*.jpg"))
    points = str(tmp_path / "points.csv")
    face_files.write(points, {path: face() for path in paths[:-1]}, "given points")
    listed = tmp_path / "pairs.csv"
    listed.write_text(f"image_a,image_b,label\n{paths[0]},{paths[1]},1\n{paths[0]},{paths[5]},0\n")
    others = tmp_path / "others.csv"
    others.write_text(f"image_a,image_b,label\n{paths[2]},{paths[3]},1\n")
    options = EvaluateOptions(
        workdir=str(aligned_run), images=str(folder), pairs_csv=str(listed),
        threshold_pairs=str(others), faces=FaceOptions(face_points=points),
    )  # fmt: skip
    record = model_record.load(str(aligned_run))
    filled = pair_sources.with_training_crop(options, record.preprocessing)
    pairs = pair_sources.read_pairs(filled, record).scored
    rules = storage.StorageRules(10**8, ALIGNED)
    data = pathlib.Path(folder, paths[1]).read_bytes()
    stored = storage.prepare_image(data, rules, POINTS.round(2)).stored
    assert pairs.images.read(pairs.images.paths.index(paths[1])) == stored
    with pytest.raises(storage.BadImage, match="no face"):
        pairs.images.read(pairs.images.paths.index(paths[5]))
    unsaid = dataclasses.replace(options, faces=FaceOptions())
    assert pair_sources.with_training_crop(unsaid, record.preprocessing).faces.detector == "mtcnn"
    plain = dataclasses.replace(record, preprocessing=Preprocessing(store_size=40))
    with pytest.raises(UserError, match="was not trained on aligned faces: leave out"):
        pair_sources.with_training_crop(options, plain.preprocessing)


def test_mining_takes_the_faces_that_were_found(tmp_path):
    flags = "--images=faces\n--detector=mtcnn\n--store_size=40\n"
    split = manifest.Split(1, 1, 4, ("a", "b"), ())
    made = manifest.Manifest(0, flags, {"train": split}, preprocessing=ALIGNED)
    options = MineOptions(tfrecords=str(tmp_path), workdir="w", output=str(tmp_path / "out"))
    assert restore_conversion(options, made).faces.detector == "mtcnn"
    (tmp_path / "faces.csv").write_text("path\n")
    chosen = restore_conversion(options, made).faces
    assert chosen == FaceOptions(face_points=str(tmp_path / "faces.csv"))


def test_conversion_without_faces_records_no_alignment(tmp_path):
    folder = samples.write_images(tmp_path / "faces", 3, 3)
    output = str(tmp_path / "shards")
    convert.convert(
        ConvertOptions(
            images=str(folder), output=output, workers=1, val_fraction=0.0, test_fraction=0.0
        )
    )
    text = pathlib.Path(output, "manifest.json").read_text()
    assert "alignment" not in text and not pathlib.Path(output, "faces.csv").exists()


@pytest.mark.slow
def test_a_warm_up_calls_the_signatures_of_aligned_faces(verifier, monkeypatch):
    called, run = set(), verifier._engine.run

    def note(signature, inputs):
        called.add(signature)
        return run(signature, inputs)

    monkeypatch.setattr(verifier._engine, "run", note)
    verifier._engine.warm_up()
    assert called == set(verifier._engine._model.signatures)


@pytest.mark.parametrize("flags", [{}, {"faces": FaceOptions(detector="yunet")}])
def test_faces_are_not_looked_for_in_a_verification_set(aligned_run, flags):
    record = model_record.load(str(aligned_run))
    options = EvaluateOptions(workdir=str(aligned_run), pairs_bin="lfw.bin", folds=10, **flags)
    with pytest.raises(UserError, match="verification set such as lfw.bin: give --crop=none"):
        pair_sources.with_training_crop(options, record.preprocessing)
    unnamed = dataclasses.replace(options, pairs_bin="lfw")  # no name that ends in .bin
    with pytest.raises(UserError, match="verification set such as lfw: give --crop=none"):
        pair_sources.with_training_crop(unnamed, record.preprocessing)
    cropped = EvaluateOptions(workdir=str(aligned_run), pairs_bin="lfw.bin", folds=10, crop="none")
    assert not pair_sources.with_training_crop(cropped, record.preprocessing).faces.given


BLACK = Image.new("RGB", (160, 160))
A, B, WALL = (samples.encode(each, "JPEG") for each in (picture(3), picture(4), BLACK))


def test_the_service_and_its_client_find_the_face_in_each_photograph(serve, verifier, tmp_path):
    service = serve()
    wanted = verifier.verify(A, B, points_a=POINTS, points_b=POINTS)
    answer = service.post("/verify", files={"b": B, "a": A}).json()
    assert answer["similarity"] == pytest.approx(wanted.similarity, abs=1e-6)
    assert answer["face_a"] == answer["face_b"] == face().to_json()
    answer = service.post("/embed", files=[("image", A), ("image", B)] * 4).json()  # at most 8
    np.testing.assert_allclose(answer["embeddings"][0], verifier.embed(A, POINTS), atol=1e-6)
    assert answer["faces"] == [face().to_json()] * 8
    assert not [text for text in service.get("/model").json()["limits"] if "detect faces" in text]
    client = fv.Client(service.url)
    verdict = client.verify(A, B)
    assert verdict.similarity == pytest.approx(wanted.similarity, abs=1e-5)
    assert verdict.face_b.to_json() == face().to_json()
    given = client.verify([A], [B], points_a=POINTS, points_b=POINTS)
    assert given[0].similarity == pytest.approx(wanted.similarity, abs=1e-6)
    np.testing.assert_allclose(client.embed([A, B])[1], verifier.embed(B, POINTS), atol=1e-6)
    with pytest.raises(UserError, match="give the points of both images, or of none"):
        client.verify(A, B, points_a=POINTS)
    (tmp_path / "wall.jpg").write_bytes(WALL)
    with pytest.raises(UserError, match="wall.jpg shows no face that mtcnn finds"):
        client.verify(A, tmp_path / "wall.jpg")


def test_the_service_refuses_a_photograph_without_a_face_by_name(serve):
    service = serve()
    answer = service.post("/verify", files={"a": A, "b": WALL})
    said = "b shows no face that mtcnn finds: turn it upright, or send one with a larger face"
    assert (answer.status_code, answer.json()) == (400, {"error": said})
    files = [("image", A), ("image", WALL)]
    assert service.post("/embed", files=files).json()["error"].startswith("image[1] shows no face")
    assert service.post("/verify", files={"a": A, "b": B}).ok
    for bad, reason in ((b"", "a is empty"), (A[:400], "a cannot be used: damaged"), (b"x", "a c")):
        answer = service.post("/verify", files={"a": ("a", bad), "b": B})
        assert answer.status_code == 400 and answer.json()["error"].startswith(reason)
    metrics = service.get("/metrics").text
    for reason, count in (("no_face", 2), ("empty", 1), ("damaged", 1), ("format", 1)):
        assert f'fv_refused_inputs_total{{reason="{reason}"}} {count}.0' in metrics
    centre = serve(no_face="crop").post("/verify", files={"a": A, "b": WALL}).json()
    assert centre["face_b"]["box"] is None


def test_a_slow_search_for_faces_ends_at_the_time_limit_and_blocks_nobody(serve):
    service = serve(seconds=0.5)
    serve.held.clear()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(service.post, "/verify", files={"a": A, "b": B}) for _ in range(4)]
        assert service.get("/healthz").ok
        assert [one.result().status_code for one in asked] == [504] * 4
    serve.held.set()
    waiting.until(lambda: service.post("/verify", files={"a": A, "b": B}).ok)


def test_without_a_detector_the_service_takes_crops(serve, verifier):
    service = serve(detector="none")
    assert not service.get("/model").json()["finds_faces"]
    answer = service.post("/verify", files={"a": A, "b": WALL}).json()
    crops = verifier._engine.run("serving_default", {"image_a": [A], "image_b": [WALL]})
    assert answer["similarity"] == pytest.approx(crops["similarity"][0], abs=1e-6)
    assert "face_a" not in answer
    assert fv.Client(service.url).verify(A, WALL).face_a is None


def test_a_service_that_lacks_its_detector_does_not_start(serve, monkeypatch):
    def missing(*_):
        raise UserError("--detector=mtcnn needs the package mtcnn: pip install 'fv[align]'")

    monkeypatch.setattr(detection, "load", missing)
    with pytest.raises(UserError, match=r"'fv\[align\]'; --detector=none takes aligned crops"):
        serve()
