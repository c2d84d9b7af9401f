"""Fixtures that several test modules share."""

import dataclasses
import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.framework import config as framework_config

from fv import workers
from fv.evaluation.run import EvaluateOptions, evaluate
from fv.model.options import ModelOptions
from fv.pipeline.augment import AugmentOptions
from fv.serving.export import ExportOptions, export
from fv.training.options import OptimizerOptions, ReportOptions, TrainOptions
from fv.training.run import train
from tests import samples

MOST_PROCESSES = 4  # of tests at once: each grows to 2.5 GB by the end of them all, and some start children of 0.7
TINY = ModelOptions(backbone="tiny", image_size=32, embedding_size=16, batch_norm_momentum=0.9)


def pytest_configure():
    """Splits the CPU in four before TensorFlow starts its devices, so that mirrored strategies can be tried in any test."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Processes of `pytest -n auto`: one for each core that this one may use, within the memory of a small machine."""
    return min(workers.cores(), MOST_PROCESSES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files that hold a slow test first: of several processes, none is left with a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def as_before_training():
    """Takes back what a training run sets for the whole process: its precision, and that ops repeat to the bit."""
    yield
    tf_keras.mixed_precision.set_global_policy("float32")
    framework_config.disable_op_determinism()


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> pathlib.Path:
    """A folder of shards: 64 training, 22 validation and 30 test pairs, three shards each."""
    folder = tmp_path_factory.mktemp("data") / "shards"
    samples.write_shards(folder, {"train": 64, "val": 22, "test": 30})
    return folder


@pytest.fixture(scope="session")
def tiny_run(shards, tmp_path_factory) -> TrainOptions:
    """Options of a run of the tiny backbone on `shards`, seconds long; its workdir is not there yet."""
    return TrainOptions(
        tfrecords=str(shards),
        workdir=str(tmp_path_factory.mktemp("runs") / "run"),
        model=TINY,
        augmentation=AugmentOptions(augment=False),
        optimization=OptimizerOptions(learning_rate=3e-3, warmup_steps=5),
        steps=30,
        global_batch_size=8,
        report=ReportOptions(log_every=10),
    )


@pytest.fixture(scope="session")
def trained(tiny_run) -> TrainOptions:
    """A finished and evaluated training run."""
    options = dataclasses.replace(tiny_run, workdir=tiny_run.workdir + "-trained")
    train(options)
    evaluate(EvaluateOptions(workdir=options.workdir, tfrecords=options.tfrecords))
    return options


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory) -> pathlib.Path:
    """The version folder of the exported run."""
    output = tmp_path_factory.mktemp("export")
    export(ExportOptions(workdir=trained.workdir, output=str(output)))
    return output / "1"


@pytest.fixture
def call(monkeypatch, capfd):
    """Runs an entry point's `run` in this process, which has TensorFlow loaded: a process of its own takes 3 s of a core."""

    def run(entry: Callable[[], None], *arguments: str) -> subprocess.CompletedProcess:
        monkeypatch.setattr(sys, "argv", [entry.__module__, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            entry()
        return subprocess.CompletedProcess(sys.argv, ended.value.code or 0, *capfd.readouterr())

    return run


@pytest.fixture
def command():
    """Runs a command line of this project under this Python, as a user would."""

    def run(*arguments: str) -> subprocess.CompletedProcess:
        root = pathlib.Path(__file__).parent.parent
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=root,
            check=False,
        )

    return run
