import dataclasses
import json
import pathlib
import shutil

import pytest
import tensorflow as tf

from fv.errors import UserError
from fv.serving.export import ExportOptions, export


def test_versions_count_up_and_leave_nothing_else(trained, tmp_path):
    options = ExportOptions(workdir=trained.workdir, output=str(tmp_path))
    export(options)
    export(options)
    (tmp_path / "7").mkdir()
    export(options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "7", "8"]


def test_the_threshold_is_the_evaluator_s_unless_one_is_given(trained, tmp_path):
    options = ExportOptions(workdir=trained.workdir, output=str(tmp_path))
    export(options)
    export(dataclasses.replace(options, threshold=0.25))
    measured = json.loads(pathlib.Path(trained.workdir, "metrics.json").read_text())["threshold"]
    thresholds = [tf.saved_model.load(str(tmp_path / version)).threshold.numpy() for version in ("1", "2")]
    assert thresholds == pytest.approx([measured, 0.25])


def test_a_threshold_of_another_checkpoint_is_refused(trained, tmp_path):
    workdir = shutil.copytree(trained.workdir, tmp_path / "run")
    metrics = json.loads((workdir / "metrics.json").read_text())
    (workdir / "metrics.json").write_text(json.dumps(metrics | {"step": 1}))
    with pytest.raises(UserError, match="of step 1, the last checkpoint of step 30"):
        export(ExportOptions(workdir=str(workdir), output=str(tmp_path / "export")))
    (workdir / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"run fv\.evaluate first"):
        export(ExportOptions(workdir=str(workdir), output=str(tmp_path / "export")))


def test_an_export_that_fails_leaves_no_version(trained, tmp_path, monkeypatch):
    save = tf.saved_model.save

    def save_and_fail(*arguments, **options):
        save(*arguments, **options)
        raise OSError("no space left on device")

    monkeypatch.setattr(tf.saved_model, "save", save_and_fail)
    with pytest.raises(OSError, match="no space"):
        export(ExportOptions(workdir=trained.workdir, output=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_the_saved_model_holds_no_more_weights_than_scoring_needs(trained, tmp_path):
    export(ExportOptions(workdir=trained.workdir, output=str(tmp_path)))
    names = [name for name, _ in tf.train.list_variables(str(tmp_path / "1" / "variables" / "variables"))]
    assert not any("centres" in name for name in names) and any("weights" in name for name in names)
