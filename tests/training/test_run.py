import dataclasses
import functools
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util import event_pb2

import fv.train
from fv import workdir
from fv.errors import UserError
from fv.training import optimizers
from fv.training.optimizers import LossScale
from fv.training.options import OptimizerOptions, StrategyOptions
from fv.training.run import train
from tests.conftest import TINY


def logged_losses(folder: str) -> dict[int, float]:
    """Step → loss, from TensorBoard's files."""
    found = {}
    for path in sorted(pathlib.Path(folder, workdir.TENSORBOARD).iterdir()):
        for data in tf.data.TFRecordDataset(str(path)):
            event = event_pb2.Event.FromString(data.numpy())
            for value in event.summary.value:
                if value.tag == "loss":
                    found[event.step] = float(tf.make_ndarray(value.tensor))
    return found


def final_weights(folder: str) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(f"{folder}/{workdir.CHECKPOINTS}")
    names = (
        name
        for name in reader.get_variable_to_shape_map()
        if "VARIABLE_VALUE" in name and "save_counter" not in name
    )
    return {name: reader.get_tensor(name) for name in names}


def test_a_run_learns_and_leaves_flags_model_checkpoint_and_scalars(trained):
    left = pathlib.Path(trained.workdir)
    assert {"train.flags", "model.json", "checkpoints", "tensorboard", "metrics.json"} <= {
        path.name for path in left.iterdir()
    }
    found = logged_losses(trained.workdir)
    assert sorted(found) == [10, 20, 30] and found[30] < found[10]


def test_a_workdir_of_another_model_is_refused_and_left_alone(trained):
    before = final_weights(trained.workdir)
    other = dataclasses.replace(trained, model=dataclasses.replace(TINY, embedding_size=8))
    with pytest.raises(UserError, match="another model.*embedding_size"):
        train(other)
    after = final_weights(trained.workdir)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_weights_that_an_update_breaks_at_a_save_step_are_not_saved(trained, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "run")
    before = final_weights(tmp_path / "run")
    huge = OptimizerOptions(learning_rate=3e38, warmup_steps=0, weight_decay=10.0, decay="constant")
    options = dataclasses.replace(
        trained, workdir=str(tmp_path / "run"), steps=31, optimization=huge
    )
    with pytest.raises(
        UserError,
        match="is not finite after step 31: lower --learning_rate.* checkpoint at step 30",
    ):
        train(options)
    after = final_weights(tmp_path / "run")
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_float16_step_that_is_skipped_is_no_reason_not_to_save(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        optimizers, "LossScale", lambda: LossScale(initial=2.0**60)
    )  # every gradient overflows
    compute = StrategyOptions(precision="mixed_float16")
    workdir = str(tmp_path / "run")
    train(dataclasses.replace(tiny_run, workdir=workdir, steps=2, compute=compute))
    assert (
        final_weights(workdir)["optimizer/loss_scale/scale/.ATTRIBUTES/VARIABLE_VALUE"] == 2.0**58
    )


@pytest.mark.parametrize(
    "name",
    [
        "train.flags",
        "run.json",
        "model.json",
        "checkpoints/checkpoint",
        "best/validation.json",
        "best/ckpt-7.index",
    ],
)
def test_a_workdir_with_files_that_fv_did_not_write_is_refused(tiny_run, tmp_path, name):
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(UserError, match=name):
        train(dataclasses.replace(tiny_run, workdir=str(tmp_path / "run")))
    assert [left for left in (tmp_path / "run").rglob("*") if left.is_file()] == [
        path
    ] and path.read_text() == "{}"


def test_a_copy_without_its_hidden_folder_goes_on_but_not_when_changed(trained, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / ".fv")
    options = dataclasses.replace(trained, workdir=str(tmp_path / "run"), steps=31)
    train(options)
    assert (tmp_path / "run" / "checkpoints" / "ckpt-31.index").exists()
    with open(tmp_path / "run" / "train.flags", "a") as file:
        file.write("# mine\n")
    with pytest.raises(UserError, match=r"changed since: train\.flags; move them away"):
        train(options)


def test_a_loss_that_is_not_finite_ends_the_run_with_its_step(tiny_run, tmp_path):
    options = dataclasses.replace(
        tiny_run,
        workdir=str(tmp_path / "run"),
        optimization=OptimizerOptions(optimizer="sgd", learning_rate=1e30),
    )
    with pytest.raises(
        UserError, match=r"the loss is (nan|inf) at step \d+: lower --learning_rate"
    ):
        train(options)


@pytest.mark.slow
def test_mixed_precision_follows_float32(tiny_run, tmp_path):
    found = {}
    for name in ("float32", "mixed_float16", "mixed_bfloat16"):
        small = dataclasses.replace(TINY, image_size=16)  # a CPU is slow in float16
        compute = StrategyOptions(precision=name)
        options = dataclasses.replace(
            tiny_run, workdir=str(tmp_path / name), model=small, compute=compute
        )
        train(options)
        found[name] = logged_losses(options.workdir)
    plain = found.pop("float32")
    assert sorted(plain) == [10, 20, 30]
    for losses in found.values():
        assert losses == pytest.approx(plain, rel=0.1)  # closer over 200 steps: test_step.py


@pytest.mark.slow
def test_deterministic_processes_of_one_seed_log_the_same_losses(shards, tmp_path, command, call):
    def run(name: str, seed: int, start: Callable) -> dict[int, float]:
        folder = str(tmp_path / name)
        flags = "--backbone=tiny --image_size=32 --steps=6 --log_every=1 --global_batch_size=8"
        done = start(
            f"--tfrecords={shards}",
            f"--workdir={folder}",
            f"--seed={seed}",
            "--deterministic",
            *flags.split(),
        )
        assert done.returncode == 0, done.stderr
        return logged_losses(folder)

    here, elsewhere = (
        functools.partial(call, fv.train.run),
        functools.partial(command, "-m", "fv.train"),
    )
    first = run("a", 1, here)
    assert len(first) == 6 and run("b", 1, elsewhere) == first and run("c", 2, here) != first
