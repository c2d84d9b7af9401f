import dataclasses
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from fv.errors import UserError
from fv.preprocessing import Preprocessing
from fv.serving import decoding, export, versions
from fv.serving.export import ExportOptions


def options(trained, tmp_path, **changes) -> ExportOptions:
    return ExportOptions(workdir=trained.workdir, output=str(tmp_path / "export"), **changes)


def test_the_threshold_is_the_evaluator_s_by_default(exported, trained, model):
    measured = json.loads(pathlib.Path(trained.workdir, "metrics.json").read_text())["threshold"]
    card = json.loads((exported / "model_card.json").read_text())
    assert (
        card["operating_point"]["threshold"] == measured
        and card["operating_point"]["chosen_by"] == "best accuracy"
    )
    assert model.threshold.numpy() == pytest.approx(measured)


@pytest.mark.slow
def test_a_target_far_is_kept_and_stored_with_its_counts(trained, tmp_path):
    chosen = options(trained, tmp_path, target_far=0.2, keep=1, merge_images=0)
    export.export(chosen)
    folder = pathlib.Path(chosen.output, "1")
    card = json.loads((folder / "model_card.json").read_text())
    point = card["operating_point"]
    assert (
        point["far"] == point["impostors_accepted"] / point["impostors"] <= 0.2
        and point["split"] == "val"
    )
    assert tf.saved_model.load(str(folder)).threshold.numpy() == np.float32(point["threshold"])
    text = (folder / "model_card.md").read_text()
    assert (
        f"{point['impostors_accepted']:,} of {point['impostors']:,} impostor pairs" in text
        and "must not" not in text
    )
    assert card["images"]["merge_images"] == 0
    assert b"BatchFunction" not in (folder / "saved_model.pb").read_bytes()


def test_the_card_says_what_the_model_was_trained_and_measured_on(exported, trained, shards):
    card = json.loads((exported / "model_card.json").read_text())
    digest = hashlib.sha256((shards / "manifest.json").read_bytes()).hexdigest()
    assert (
        card["data"]["training"]["manifest_sha256"]
        == card["data"]["validation"]["manifest_sha256"]
        == digest
    )
    assert card["training_flags"] == pathlib.Path(trained.workdir, "train.flags").read_text()
    assert card["metrics"] == json.loads(pathlib.Path(trained.workdir, "metrics.json").read_text())
    assert card["calibration"]["held_out"]["pairs"] == card["metrics"]["pairs"] == 30
    assert (card["checkpoint"], card["weights_averaged_by"]) == ("last", "none")
    assert card["step"] == 30 and card["intended_use"] and len(card["limits"]) >= 5


@pytest.mark.slow
def test_two_exports_of_one_checkpoint_are_the_same_bytes(trained, tmp_path):
    outputs = [tmp_path / name for name in ("first", "second")]
    # In processes of their own: TensorFlow counts the functions it has ever made.
    command = [sys.executable, "-m", "fv.export", f"--workdir={trained.workdir}"]
    running = [
        subprocess.Popen([*command, f"--output={output}"], stdout=subprocess.DEVNULL)
        for output in outputs
    ]
    assert [process.wait() for process in running] == [0, 0]
    digests = [(output / "1" / versions.FILE_NAME).read_text() for output in outputs]
    assert (
        digests[0] == digests[1]
        and "saved_model.pb" in digests[0]
        and "variables.data" in digests[0]
    )


def test_a_threshold_of_another_checkpoint_is_refused(trained, tmp_path):
    workdir = shutil.copytree(trained.workdir, tmp_path / "run")
    metrics = json.loads((workdir / "metrics.json").read_text())
    (workdir / "metrics.json").write_text(json.dumps(metrics | {"step": 1}))
    chosen = dataclasses.replace(options(trained, tmp_path), workdir=str(workdir))
    with pytest.raises(UserError, match="of step 1, the last checkpoint of step 30"):
        export.export(chosen)
    (workdir / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"run fv\.evaluate first, or give --tfrecords"):
        export.export(chosen)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"threshold": 0.5, "target_far": 0.1}, "exclude each other"),
        ({"target_far": 0.001}, "cannot be measured"),
        ({"formats": "saved_model,caffe"}, "'caffe' is none of saved_model, tflite, onnx"),
        ({"tfrecords": "no/such/folder"}, "the export is calibrated on these pairs"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(trained, tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        export.export(options(trained, tmp_path, **changes))
    assert not (tmp_path / "export").exists()


@pytest.mark.slow
def test_a_graph_that_scores_unlike_the_evaluator_is_not_exported(trained, tmp_path, monkeypatch):
    embed = export.embedding.embed
    monkeypatch.setattr(export.embedding, "embed", lambda *given: np.roll(embed(*given), 1, axis=0))
    with pytest.raises(UserError, match="off the evaluator's similarity"):
        export.export(options(trained, tmp_path))


def test_the_saved_model_holds_no_more_weights_than_scoring_needs(exported):
    names = [name for name, _ in tf.train.list_variables(str(exported / "variables" / "variables"))]
    assert not any("centres" in name for name in names) and any("weights" in name for name in names)


def test_the_scored_pairs_may_not_calibrate_an_export(trained, tmp_path):
    held = json.loads(pathlib.Path(trained.tfrecords, "manifest.json").read_text())
    held["splits"]["val"] = held["splits"].pop("test")
    shutil.copytree(trained.tfrecords, tmp_path / "copy")
    (tmp_path / "copy" / "manifest.json").write_text(json.dumps(held))
    with pytest.raises(UserError, match="holds as its val split the pairs that fv.evaluate scored"):
        export.export(options(trained, tmp_path, tfrecords=str(tmp_path / "copy")))
    assert not (tmp_path / "export").exists()


def test_a_graph_that_answers_no_number_is_not_exported(monkeypatch):
    served = types.SimpleNamespace(similarities_of_stored=lambda *_: tf.constant([np.nan]))
    images = types.SimpleNamespace(read=lambda _: b"")
    pairs = types.SimpleNamespace(images=images, first=[0], second=[1])
    with pytest.raises(UserError, match="scores validation pairs up to nan off"):
        export._check_similarities(served, pairs, np.array([0.5]))
    rules = decoding.DecodingRules(32, 1.0, 10**6, Preprocessing(store_size=40))
    blank = tf.fill((1, 32, 32, 3), np.nan)
    monkeypatch.setattr(decoding, "batch_loader", lambda *_: lambda *_: blank)
    with pytest.raises(UserError, match="makes a whole image nan levels unlike"):
        export._check_preprocessing(rules)
