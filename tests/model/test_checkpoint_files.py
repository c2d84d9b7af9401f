import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv.errors import UserError
from fv.model import checkpoint_choice, checkpoint_files, model_record, siamese
from fv.training.options import AveragingOptions, OptimizerOptions, StrategyOptions
from fv.training.run import train
from tests.conftest import slow_case


def test_the_last_checkpoint_comes_back_with_its_step(trained):
    model, step = checkpoint_files.load_model(trained.workdir, model_record.load(trained.workdir))
    assert step == trained.steps and model.encoder.output_shape == (
        None,
        trained.model.embedding_size,
    )


def test_a_checkpoint_cut_short_is_named_and_passed_over_for_the_best_one_on_request_alone(
    trained, tmp_path, capsys
):
    workdir = shutil.copytree(trained.workdir, tmp_path / "run")
    (data,) = pathlib.Path(workdir, "checkpoints").glob("ckpt-30.data*")
    data.write_bytes(data.read_bytes()[:1000])
    record = model_record.load(str(workdir))
    with pytest.raises(UserError, match="holds no whole checkpoint"):
        checkpoint_files.load_model(str(workdir), record)
    said = capsys.readouterr().err
    assert "ckpt-30 is damaged" in said and said.count("\n") == 1
    assert checkpoint_files.load_model(str(workdir), record, checkpoint_choice.BEST)[1] == 30


def test_a_workdir_without_checkpoints_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match="holds no whole checkpoint"):
        checkpoint_files.load_model(str(tmp_path), model_record.load(trained.workdir))


MUCH_AT_ONCE = dict(
    optimization=OptimizerOptions(accumulate_steps=2, freeze_backbone_steps=3, clip_norm=1.0),
    compute=StrategyOptions(precision="mixed_float16"),
)


@pytest.mark.parametrize("beside", [{}, slow_case(MUCH_AT_ONCE)], ids=["alone", "much at once"])
def test_averages_are_what_comes_back_where_a_run_kept_them_statistics_included(
    tiny_run, tmp_path, beside
):
    options = dataclasses.replace(
        tiny_run,
        workdir=str(tmp_path / "run"),
        model=dataclasses.replace(tiny_run.model, image_size=16),  # a CPU is slow in float16
        averaging=AveragingOptions("ema"),
        steps=8,
        **beside,
    )
    train(options)
    tf_keras.mixed_precision.set_global_policy("float32")
    record = model_record.load(options.workdir)
    restored, step = checkpoint_files.load_model(options.workdir, record)
    raw = siamese.build_siamese(record.options, record.identities)
    path = tf.train.latest_checkpoint(f"{options.workdir}/checkpoints")
    tf.train.Checkpoint(model=raw).read(path).expect_partial()
    held = tf.train.load_checkpoint(path)
    names = [
        name for name in held.get_variable_to_shape_map() if name.startswith("averages/model/")
    ]
    averages = sorted(float(np.sum(held.get_tensor(name))) for name in names)
    assert step == 8 and averages == sorted(float(np.sum(each)) for each in _weights(restored))
    assert not any(
        np.array_equal(one, two) for one, two in zip(_weights(restored), _weights(raw), strict=True)
    )


def _weights(model: siamese.Siamese) -> list[np.ndarray]:
    return [each.numpy() for each in (*model.encoder.weights, *model.head.variables)]
