import concurrent.futures
import csv
import errno
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import fv
from fv.conversion import image_files
from fv.errors import TemporaryError, UserError
from fv.serving import image_inputs, versions
from tests import samples
from tests.conftest import slow_case
from tests.serving import making

WITHOUT_FV = """
import sys
sys.modules['fv'] = None  # importing fv would fail
import numpy, tensorflow as tf
folder, *inputs, outputs = sys.argv[1:]
"""
LOADED = """
model = tf.saved_model.load(folder)
images = {name: tf.constant(numpy.load(path)) for name, path in (one.split('=') for one in inputs)}
for name, value in model.signatures['serving_default'](**images).items():
    numpy.save(f'{outputs}/{name}.npy', value.numpy())
"""
COMMAND_LINE = """
from tensorflow.python.tools import saved_model_cli
command = ['run', '--dir', folder, '--tag_set', 'serve', '--signature_def', 'serving_default']
sys.argv[1:] = [*command, '--outdir', outputs, '--inputs', ';'.join(inputs)]
saved_model_cli.main()
"""


@pytest.fixture
def evaluated(trained):
    """The evaluator's similarities of the test pairs, and its decisions."""
    with open(f"{trained.workdir}/scores.csv") as file:
        scores = np.array([float(row["similarity"]) for row in csv.DictReader(file)])
    return scores, scores >= json.loads(pathlib.Path(trained.workdir, "metrics.json").read_text())[
        "threshold"
    ]


@pytest.mark.parametrize("script", [LOADED, slow_case(COMMAND_LINE)], ids=["loaded", "cli"])
def test_a_process_without_fv_scores_and_decides_as_the_evaluator(
    exported, evaluated, shards, tmp_path, script
):
    paths = sorted(map(str, shards.glob("test-*")))
    pairs = [
        tf.train.Example.FromString(data.numpy()).features.feature
        for data in tf.data.TFRecordDataset(paths)
    ]
    for name in ("image_a", "image_b"):
        images = np.array([pair[f"{name}/encoded"].bytes_list.value[0] for pair in pairs], object)
        np.save(tmp_path / f"{name}.npy", images.astype("S"))
    inputs = [f"{name}={tmp_path / name}.npy" for name in ("image_a", "image_b")]
    command = [sys.executable, "-c", WITHOUT_FV + script, exported, *inputs, tmp_path]
    subprocess.run(list(map(str, command)), capture_output=True, check=True)
    found = {name: np.load(tmp_path / f"{name}.npy") for name in ("similarity", "same")}
    np.testing.assert_allclose(found["similarity"], evaluated[0], atol=1e-5)
    np.testing.assert_array_equal(found["same"], evaluated[1])


def test_every_source_of_the_same_pixels_gets_the_same_verdict(verifier, tmp_path):
    image = making.picture()
    path = tmp_path / "a.png"
    image.save(path)
    others = [path.read_bytes(), str(path), path, np.asarray(image), image]
    verdicts = [verifier.verify(other, samples.image_bytes(12, 1)) for other in others]
    assert len(set(verdicts)) == 1
    assert (
        verdicts[0].same == (verdicts[0].similarity >= verdicts[0].threshold)
        and 0 <= verdicts[0].probability <= 1
    )


def test_batches_get_the_verdicts_of_their_pairs_in_order(verifier):
    images = [samples.image_bytes(12, 0), making.picture(), samples.image_bytes(14, 0)]
    verdicts = verifier.verify(images, images[::-1])
    singles = [verifier.verify(a, b) for a, b in zip(images, images[::-1], strict=True)]
    np.testing.assert_allclose(
        [one.similarity for one in verdicts], [one.similarity for one in singles], atol=1e-6
    )
    assert verdicts[1].similarity == pytest.approx(1.0, abs=1e-5)
    stacked = np.stack([np.asarray(making.picture())] * 2)
    assert [one.same for one in verifier.verify(stacked, stacked)] == [True, True]
    assert verifier.verify([], []) == []


def test_embeddings_compare_as_their_images(verifier):
    images = [samples.image_bytes(12, 0), samples.image_bytes(13, 0)]
    a, b = verifier.embed(images)
    verdict = verifier.verify(*images)
    assert verifier.compare(a, b).similarity == pytest.approx(verdict.similarity, abs=1e-6)
    assert [one.same for one in verifier.compare(np.stack([a, b]), np.stack([a, b]))] == [
        True,
        True,
    ]
    assert verifier.embed(images[0]).shape == (16,)
    with pytest.raises(UserError, match="embeddings .* do not fit"):
        verifier.compare(a[:5], b[:5])
    with pytest.raises(UserError, match=r"embedding_a\[0\] has length"):
        verifier.compare(3 * a, b)


def test_the_threshold_can_be_given_to_the_verifier_and_to_a_call(exported, verifier):
    pair = samples.image_bytes(12, 0), samples.image_bytes(13, 0)
    similarity = verifier.verify(*pair).similarity
    assert (
        verifier.verify(*pair, threshold=similarity).same
        and not verifier.verify(*pair, threshold=similarity + 1e-6).same
    )
    strict = fv.Verifier(str(exported.parent), threshold=1.0)
    assert strict.verify(*pair).threshold == 1.0 and strict.path == str(exported)
    with pytest.raises(UserError, match="1.5 is no similarity"):
        verifier.verify(*pair, threshold=1.5)


def test_threads_get_their_own_answers(verifier):
    images = [samples.image_bytes(identity, 0) for identity in range(12, 18)]
    wanted = [verifier.verify(images[0], image).similarity for image in images]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(
                lambda index: verifier.verify(images[0], images[index % 6]).similarity, range(96)
            )
        )
    np.testing.assert_allclose(found, wanted * 16, atol=1e-6)


def test_a_bad_image_is_named_as_the_caller_named_it(verifier, tmp_path):
    good, broken = tmp_path / "good.jpg", tmp_path / "broken.jpg"
    good.write_bytes(samples.image_bytes(12, 0))
    broken.write_bytes(samples.image_bytes(12, 0)[:400])
    for call in (
        lambda: verifier.verify(str(good), str(broken)),
        lambda: verifier.embed([good, broken]),
    ):
        with pytest.raises(UserError, match=r"broken\.jpg is no whole JPEG"):
            call()
    with pytest.raises(UserError, match=r"none\.jpg is no file"):
        verifier.verify(str(tmp_path / "none.jpg"), str(good))
    with pytest.raises(UserError, match="an image of 5 bytes cannot be used: not an image"):
        verifier.verify(good, b"hello")


@pytest.mark.parametrize(
    "image",
    [None, 7, np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_no_image_is_refused_with_what_would_be(verifier, image):
    with pytest.raises(UserError, match="is no image: give a path, bytes"):
        verifier.verify(image, samples.image_bytes(12, 0))


def test_batches_that_are_no_pairs_are_refused(verifier):
    image = samples.image_bytes(12, 0)
    with pytest.raises(UserError, match="2 and 1 images are no pairs"):
        verifier.verify([image, image], [image])
    with pytest.raises(UserError, match="one image and a batch"):
        verifier.verify(image, [image])


def test_a_folder_that_holds_no_saved_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no SavedModel"):
        fv.Verifier(str(tmp_path))
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(UserError, match="holds no SavedModel that fv.export wrote"):
        fv.Verifier(str(tmp_path))


def test_another_saved_model_is_refused_after_a_warning_about_code(tmp_path, capsys):
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    with pytest.raises(UserError, match="holds no SavedModel that fv.export wrote"):
        fv.Verifier(str(tmp_path / "other"))
    assert "a SavedModel is code" in capsys.readouterr().err


def test_a_changed_export_is_refused_before_it_is_loaded(exported, tmp_path, capsys):
    changed = shutil.copytree(exported, tmp_path / "1")
    graph = bytearray((changed / "saved_model.pb").read_bytes())
    graph[len(graph) // 2] ^= 1
    (changed / "saved_model.pb").write_bytes(graph)
    with pytest.raises(UserError, match=r"saved_model\.pb is not what fv\.export wrote"):
        fv.Verifier(str(changed))
    assert capsys.readouterr().err == ""


def test_a_similarity_that_is_no_number_is_no_verdict():
    broken = fv.Verifier.__new__(fv.Verifier)
    broken.path, broken.threshold = "export/1", 0.5
    answer = {
        name: np.array([0.5, float("nan")]) for name in ("similarity", "probability", "distance")
    }
    with pytest.raises(UserError, match="export/1 gives a similarity that is no finite number"):
        broken._verdicts(answer, None)


def test_a_pil_image_that_cannot_be_used_is_refused_in_one_line(verifier):
    data = making.encode(making.picture(), "JPEG")
    closed = Image.open(io.BytesIO(data))
    closed.close()
    for image, reason in (
        (Image.open(io.BytesIO(data[:-300])), "damaged: image file is truncated"),
        (closed, "damaged"),
        (Image.new("RGB", (0, 5)), "0 × 5 pixels"),
        (Image.new("1", (30_000, 2_000)), "30000 × 2000 pixels, more"),
    ):
        with pytest.raises(UserError, match=f"^a PIL image cannot be used: {reason}"):
            verifier.embed(image)


def test_premultiplied_opacity_shows_white_as_opacity_does():
    grey = Image.new("LA", (4, 4), (0, 51))
    for image in (grey.convert("La"), Image.new("RGBA", (4, 4), (0, 0, 0, 51)).convert("RGBa")):
        assert np.all(image_files.to_rgb(image) == 204)


def test_an_export_that_does_not_say_how_images_were_stored_is_refused(exported, tmp_path):
    changed = shutil.copytree(exported, tmp_path / "1")
    card = json.loads((changed / "model_card.json").read_text())
    del card["preprocessing"]
    (changed / "model_card.json").write_text(json.dumps(card))
    versions.write_checksums(str(changed))
    with pytest.raises(UserError, match="exported by an earlier fv: export it again"):
        fv.Verifier(str(changed))


@pytest.mark.parametrize("place", [os, image_inputs], ids=["stat", "open"])
def test_a_file_on_a_disk_that_fails_is_a_temporary_error(tmp_path, monkeypatch, place):
    path = str(tmp_path / "a.jpg")
    pathlib.Path(path).write_bytes(samples.image_bytes(1, 1))
    stat = os.stat

    def stale(given, *arguments, **named):
        if given == path:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return stat(given, *arguments, **named)

    monkeypatch.setattr(place, "stat" if place is os else "open", stale, raising=False)
    with pytest.raises(TemporaryError, match="a.jpg"):
        image_inputs.encode(path, 10**6)


@pytest.mark.parametrize("name", ["none.jpg", "a.jpg/b.jpg", "zero\0.jpg", ""])
def test_a_path_that_is_no_file_is_named(tmp_path, name):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="is no file$"):
        image_inputs.encode(str(tmp_path / name), 10**6)
