import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv import workdir as workdirs
from fv.errors import UserError
from fv.model import checkpoint_files, model_record, siamese
from fv.training.options import AveragingOptions, OptimizerOptions, StrategyOptions
from fv.training.run import train
from tests.conftest import slow_case

AVERAGES = "averages/model/"  # in a checkpoint
# Accumulation, a frozen backbone and a loss scale beside the averages.
MANY_OPTIONS = dict(
    optimization=OptimizerOptions(accumulate_steps=2, freeze_backbone_steps=3, clip_norm=1.0),
    compute=StrategyOptions(precision="mixed_float16"),
)


def test_the_last_checkpoint_is_loaded_with_its_step(trained):
    model, step = checkpoint_files.load_model(trained.workdir, model_record.load(trained.workdir))
    assert step == trained.steps
    assert model.encoder.output_shape == (None, trained.model.embedding_size)


def test_a_damaged_checkpoint_is_named_and_the_best_only_on_request(trained, tmp_path, capsys):
    workdir = str(shutil.copytree(trained.workdir, tmp_path / "run"))
    (data,) = pathlib.Path(workdir, "checkpoints").glob("ckpt-30.data*")
    data.write_bytes(data.read_bytes()[:1000])
    record = model_record.load(workdir)
    with pytest.raises(UserError, match="holds no whole checkpoint"):
        checkpoint_files.load_model(workdir, record)
    printed = capsys.readouterr().err
    assert "ckpt-30 is damaged" in printed and printed.count("\n") == 1
    assert checkpoint_files.load_model(workdir, record, workdirs.BEST)[1] == 30


def test_a_workdir_without_checkpoints_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match="holds no whole checkpoint"):
        checkpoint_files.load_model(str(tmp_path), model_record.load(trained.workdir))


@pytest.mark.parametrize("more", [{}, slow_case(MANY_OPTIONS)], ids=["alone", "many options"])
def test_averages_are_loaded_if_the_run_kept_them(tiny_run, tmp_path, more):
    options = dataclasses.replace(
        tiny_run,
        workdir=str(tmp_path / "run"),
        model=dataclasses.replace(tiny_run.model, image_size=16),  # a CPU is slow in float16
        averaging=AveragingOptions("ema"),
        steps=8,
        **more,
    )
    train(options)
    tf_keras.mixed_precision.set_global_policy("float32")
    record = model_record.load(options.workdir)
    restored, step = checkpoint_files.load_model(options.workdir, record)
    raw = siamese.build_siamese(record.options, record.identities)
    path = tf.train.latest_checkpoint(f"{options.workdir}/checkpoints")
    tf.train.Checkpoint(model=raw).read(path).expect_partial()
    reader = tf.train.load_checkpoint(path)
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith(AVERAGES)]
    averages = sorted(float(np.sum(reader.get_tensor(name))) for name in names)
    assert step == 8 and averages == sorted(float(np.sum(each)) for each in weights(restored))
    pairs = zip(weights(restored), weights(raw), strict=True)
    assert not any(np.array_equal(one, two) for one, two in pairs)


def weights(model: siamese.Siamese) -> list[np.ndarray]:
    return [each.numpy() for each in (*model.encoder.weights, *model.head.variables)]


def test_a_checkpoint_that_may_not_be_read_is_not_damaged(trained, monkeypatch):
    def refuse(path):
        raise tf.errors.PermissionDeniedError(None, None, f"{path}; Permission denied")

    monkeypatch.setattr(tf.train, "load_checkpoint", refuse)
    folder = workdirs.checkpoint_folder(trained.workdir, workdirs.LAST)
    with pytest.raises(tf.errors.PermissionDeniedError):
        checkpoint_files.find_last_whole(folder, pytest.fail)
