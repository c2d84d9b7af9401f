import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import fv
from fv.errors import UserError
from tests import samples

WITHOUT_FV = """
import json, sys
sys.modules['fv'] = None  # importing fv would fail
import tensorflow as tf
from tensorflow.core.example import example_pb2
model = tf.saved_model.load(sys.argv[1])
pairs = [example_pb2.Example.FromString(data.numpy()).features.feature
         for data in tf.data.TFRecordDataset(sorted(tf.io.gfile.glob(sys.argv[2] + '/test-*')))]
images = [[pair[name].bytes_list.value[0] for pair in pairs] for name in ('image_a/encoded', 'image_b/encoded')]
answer = model.signatures['serving_default'](image_a=tf.constant(images[0]), image_b=tf.constant(images[1]))
print(json.dumps({name: value.numpy().tolist() for name, value in answer.items()}))
"""


def test_a_process_without_fv_gets_the_evaluator_s_scores_and_decisions(exported, trained, shards):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FV, str(exported), str(shards)], capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    with open(f"{trained.workdir}/scores.csv") as file:
        scores = np.array([float(row["similarity"]) for row in csv.DictReader(file)])
    with open(f"{trained.workdir}/metrics.json") as file:
        threshold = json.load(file)["threshold"]
    np.testing.assert_allclose(answer["similarity"], scores, atol=1e-5)
    np.testing.assert_array_equal(answer["same"], scores >= threshold)


def test_the_signatures_have_the_documented_inputs_and_outputs(exported):
    signatures = tf.saved_model.load(str(exported)).signatures
    serve, embed = signatures["serving_default"], signatures["embed"]
    assert serve.structured_input_signature[1] == {
        name: tf.TensorSpec([None], tf.string, name) for name in ("image_a", "image_b")
    }
    outputs = {name: (spec.shape.as_list(), spec.dtype) for name, spec in serve.structured_outputs.items()}
    assert outputs == {"similarity": ([None], tf.float32), "same": ([None], tf.bool)}
    assert embed.structured_outputs["embedding"].shape.as_list() == [None, 16]


def test_a_verdict_agrees_with_the_threshold_and_takes_paths_and_bytes(exported, tmp_path):
    verifier = fv.Verifier(str(exported))
    path = tmp_path / "a.jpg"
    path.write_bytes(samples.image_bytes(12, 0))
    verdict = verifier.verify(str(path), samples.image_bytes(12, 1))
    assert verdict.same == (verdict.similarity >= verdict.threshold)
    assert verifier.verify(samples.image_bytes(12, 0), samples.image_bytes(12, 1)) == verdict
    assert verifier.verify(str(path), str(path)).similarity == pytest.approx(1.0, abs=1e-5)


def test_other_formats_of_the_same_pixels_score_alike(exported):
    verifier = fv.Verifier(str(exported))
    png, bmp = samples.image_bytes(12, 0, form="PNG"), samples.image_bytes(12, 0, form="BMP")
    assert verifier.verify(png, bmp).similarity == pytest.approx(1.0, abs=1e-5)


def test_a_broken_image_is_named(exported, tmp_path):
    good, broken = tmp_path / "good.jpg", tmp_path / "broken.jpg"
    good.write_bytes(samples.image_bytes(12, 0))
    broken.write_bytes(samples.image_bytes(12, 0)[:400])
    verifier = fv.Verifier(str(exported))
    with pytest.raises(UserError, match=r"broken\.jpg is no whole JPEG"):
        verifier.verify(str(good), str(broken))
    with pytest.raises(UserError, match=r"none\.jpg is no file"):
        verifier.verify(str(tmp_path / "none.jpg"), str(good))


def test_a_folder_that_holds_no_saved_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no SavedModel"):
        fv.Verifier(str(tmp_path))
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(UserError, match="holds no SavedModel that fv.export wrote"):
        fv.Verifier(str(tmp_path))


def test_a_saved_model_of_something_else_is_refused(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    with pytest.raises(UserError, match="holds no SavedModel that fv.export wrote"):
        fv.Verifier(str(tmp_path / "other"))
