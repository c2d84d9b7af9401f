"""Tests of fv.quiet_tensorflow, in processes of their own: TensorFlow is imported once in each."""

import os
import subprocess
import sys

import pytest

START_UP = """
import atexit, gc
frozen = gc.get_freeze_count()  # 375 when Python 3.12 starts
atexit.register(lambda: print(gc.get_freeze_count() > 100_000))  # registered first, called last
import fv.quiet_tensorflow
print(gc.isenabled(), gc.get_freeze_count() - frozen)
import numpy as np
import tensorflow as tf
import tf_keras

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = tf_keras.Sequential([tf_keras.layers.Dense(2), tf_keras.layers.BatchNormalization()])
    model.compile("sgd", "mse")
model.fit(np.zeros([4, 3]), np.zeros([4, 2]), verbose=0)
"""


def run(script: str, **environment: str) -> subprocess.CompletedProcess:
    unset = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=unset | environment
    )


@pytest.fixture(scope="module")
def started() -> subprocess.CompletedProcess:
    return run(START_UP + "tf.get_logger().warning('mind the gap')")


def test_start_up_and_training_print_only_warnings_of_the_program(started):
    assert (started.returncode, started.stderr) == (0, "WARNING:tensorflow:mind the gap\n")
    assert len(started.stdout.splitlines()) == 2  # of the script itself


def test_import_noise_is_hidden_unless_a_user_asks_for_it(tmp_path):
    (tmp_path / "tensorflow.py").write_text("import os; os.write(2, b'oneDNN is on\\n')")
    path = f"{tmp_path}{os.pathsep}{os.getcwd()}"
    script = "import fv.quiet_tensorflow"
    assert run(script, PYTHONPATH=path).stderr == ""
    assert run(script, PYTHONPATH=path, TF_CPP_MIN_LOG_LEVEL="0").stderr == "oneDNN is on\n"


@pytest.mark.slow
def test_a_user_who_asks_for_tensorflows_log_sees_it():
    assert (
        "oneDNN"
        in run(
            "import fv.quiet_tensorflow", TF_CPP_MIN_LOG_LEVEL="0", TF_ENABLE_ONEDNN_OPTS="1"
        ).stderr
    )


def test_the_garbage_collector_works_on_and_rests_when_the_process_ends(started):
    assert started.stdout.split() == ["True", "0", "True"]


def test_what_a_failing_import_printed_is_shown_before_its_exception(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os; os.write(2, b'no AVX here\\n'); raise ImportError('broken wheel')"
    )
    stderr = run(
        "import fv.quiet_tensorflow", PYTHONPATH=f"{tmp_path}{os.pathsep}{os.getcwd()}"
    ).stderr
    assert stderr.startswith("no AVX here\n")
    assert stderr.endswith("ImportError: broken wheel\n")


def test_a_missing_tensorflow_is_one_line_that_says_so():
    process = run("import sys; sys.modules['tensorflow'] = None; import fv.quiet_tensorflow")
    assert process.returncode == 2
    assert (
        process.stderr.startswith("fv: error: TensorFlow is not installed")
        and process.stderr.count("\n") == 1
    )


@pytest.mark.parametrize("name", ["tensorflow.python", "google"])
def test_a_missing_part_of_tensorflow_is_not_a_missing_tensorflow(name, tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        f"raise ModuleNotFoundError('No module', name={name!r})"
    )
    process = run("import fv.quiet_tensorflow", PYTHONPATH=f"{tmp_path}{os.pathsep}{os.getcwd()}")
    assert process.stderr.endswith("ModuleNotFoundError: No module\n")
