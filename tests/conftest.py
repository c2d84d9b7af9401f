"""Fixtures that several test modules share."""

import dataclasses
import fcntl
import gc
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest
import tensorflow as tf
import tf_keras
from PIL import Image
from tensorflow.python.framework import config as framework_config

from fv import workers
from fv.evaluate import EvaluateOptions, evaluate
from fv.evaluation import plots
from fv.model.options import ModelOptions
from fv.pipeline.augment import AugmentOptions
from fv.serving.export import ExportOptions, export
from fv.training.options import OptimizerOptions, ReportOptions, StrategyOptions, TrainOptions
from fv.training.run import train
from tests import samples

MOST_PROCESSES = 4  # each grows to 2.5 GB, and some start children of 0.7 GB
TINY = ModelOptions(backbone="tiny", image_size=32, embedding_size=16, batch_norm_momentum=0.9)


def slow_case(*values) -> object:
    """A case of a parametrised test that `make test` leaves to `make test-all`."""
    return pytest.param(*values, marks=pytest.mark.slow)


def pytest_configure():
    """Splits the CPU in four devices for mirrored strategies, before TensorFlow starts them."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Processes of `pytest -n auto`: one for each core, within the memory of a small machine."""
    return min(workers.available_cores(), MOST_PROCESSES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files with slow tests first, so that no process begins a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Keeps modules and collected tests, a million objects, out of all later collections."""
    gc.freeze()


@pytest.fixture(autouse=True)
def as_before_training():
    """Resets what a training run sets for the process: precision and op determinism."""
    yield
    tf_keras.mixed_precision.set_global_policy("float32")
    framework_config.disable_op_determinism()


@pytest.fixture(scope="session")
def make_once(tmp_path_factory) -> Callable[[str, Callable[[pathlib.Path], None]], pathlib.Path]:
    """Makes a folder once for all test processes: the first one makes it, the others wait."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of this run, shared by its processes

    def make(name: str, write: Callable[[pathlib.Path], None]) -> pathlib.Path:
        folder, finished = base / name, base / f"{name}-finished"
        with open(base / f"{name}-lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not finished.exists():
                write(folder)
                finished.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def shards(make_once) -> pathlib.Path:
    """A folder of shards: 64 training, 22 validation and 30 test pairs, three shards each."""
    sizes = {"train": 64, "val": 22, "test": 30}
    return make_once("shards", lambda folder: samples.write_shards(folder, sizes))


@pytest.fixture(scope="session")
def tiny_run(shards, tmp_path_factory) -> TrainOptions:
    """Options of a short run of the tiny backbone on `shards`; its workdir does not exist yet."""
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
def trained(tiny_run, make_once) -> TrainOptions:
    """A finished, deterministic and evaluated training run. Tests only read it."""

    def options(workdir: pathlib.Path) -> TrainOptions:
        compute = StrategyOptions(deterministic=True)
        return dataclasses.replace(tiny_run, workdir=str(workdir), compute=compute)

    def run(workdir: pathlib.Path) -> None:
        train(options(workdir))
        framework_config.disable_op_determinism()
        evaluate(EvaluateOptions(workdir=str(workdir), tfrecords=tiny_run.tfrecords))

    return dataclasses.replace(options(make_once("trained", run)), compute=StrategyOptions())


@pytest.fixture(scope="session")
def exported(trained, make_once) -> pathlib.Path:
    """The version folder of the exported run."""

    def run(output: pathlib.Path) -> None:
        export(ExportOptions(workdir=trained.workdir, output=str(output)))

    return make_once("export", run) / "1"


@pytest.fixture
def blank_pictures(monkeypatch) -> None:
    """Saves plots as a blank picture: to draw them is most of an evaluation's time.

    `trained` and the tests of plots draw them in full.
    """
    blank = samples.encode(Image.new("RGB", (1, 1)), "PNG")

    class Canvas:
        def __init__(self, figure):
            pass

        def print_figure(self, file, **_) -> None:
            file.write(blank)

    monkeypatch.setattr(plots, "FigureCanvasAgg", Canvas)


@pytest.fixture
def call(monkeypatch, capfd):
    """Runs an entry point in this process: a new one takes 3 s of a core to load TensorFlow."""

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
