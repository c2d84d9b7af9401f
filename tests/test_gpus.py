"""TensorFlow's own list of GPUs is empty or faked here."""

import os
import pathlib

import pytest
import tensorflow as tf

from fv import gpus
from fv.errors import UserError
from fv.serving import engine
from fv.training import strategy
from fv.training.options import StrategyOptions


@pytest.fixture
def machine(tmp_path) -> pathlib.Path:
    """A machine's root without a GPU."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    return tmp_path


def add_gpu(root: pathlib.Path, *, device: bool = True) -> None:
    if device:
        (root / "dev" / "nvidia0").touch()
    (root / "proc" / "driver" / "nvidia" / "gpus" / "0000:01:00.0").mkdir(parents=True)


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_JOB_GPUS": "0,1,2,3"},
        {"SLURM_STEP_GPUS": "0"},
        {"SLURM_GPUS_ON_NODE": "4"},
        {"CUDA_VISIBLE_DEVICES": "0,1"},
        {"CUDA_VISIBLE_DEVICES": "GPU-1b0c"},
        {"NVIDIA_VISIBLE_DEVICES": "GPU-1b0c,GPU-22aa"},
    ],
)
def test_gpus_that_were_allotted_are_found_with_what_says_so(machine, environment):
    ((name, value),) = environment.items()
    assert f"{name}={value}" in gpus.find(environment, str(machine))


@pytest.mark.parametrize(
    "environment",
    [{}, {"SLURM_GPUS_ON_NODE": "0"}, {"SLURM_JOB_GPUS": ""}]
    + [{"NVIDIA_VISIBLE_DEVICES": value} for value in ("all", "void", "none", "")],
)
def test_a_machine_without_gpus_has_none(machine, environment):
    assert gpus.find(environment, str(machine)) is None


@pytest.mark.parametrize("device", [True, False])
def test_gpus_of_the_machine_are_found_by_device_or_driver(machine, device):
    add_gpu(machine, device=device)
    assert ("nvidia0" if device else "0000:01:00.0") in gpus.find(
        {"NVIDIA_VISIBLE_DEVICES": "all"}, str(machine)
    )


@pytest.mark.parametrize("hidden", ["-1", "", "NoDevFiles", "-1,0"])
def test_gpus_that_are_hidden_on_purpose_do_not_count(machine, hidden):
    add_gpu(machine)
    allotted = {"SLURM_JOB_GPUS": "0", "CUDA_VISIBLE_DEVICES": hidden}
    assert gpus.find(allotted, str(machine)) is None


def test_gpus_that_slurm_keeps_from_a_job_do_not_count(machine, monkeypatch):
    add_gpu(machine)

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "open", refuse)
    assert gpus.find({"SLURM_JOB_ID": "7"}, str(machine)) is None


@pytest.fixture
def unseen(monkeypatch) -> None:
    """Slurm allots four GPUs, TensorFlow sees none."""
    listed = tf.config.list_physical_devices
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind=None: [] if kind == "GPU" else listed(kind)
    )
    monkeypatch.setenv("SLURM_JOB_GPUS", "0,1,2,3")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpus.warn_of_unseen.cache_clear()


@pytest.mark.parametrize("name", ["one_device", "mirrored", "multi_worker"])
def test_training_does_not_fall_back_to_the_cpu_by_itself(unseen, monkeypatch, name):
    alone = dict(workers="localhost:12345", worker_index=0) if name == "multi_worker" else {}
    options = StrategyOptions(strategy=name, **alone)
    with pytest.raises(
        UserError, match=r"SLURM_JOB_GPUS=0,1,2,3.*install fv\[gpu\].*CUDA_VISIBLE_DEVICES=-1"
    ):
        strategy.start_strategy(options, seed=0)
    if name == "one_device":
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        assert strategy.start_strategy(options, seed=0).num_replicas_in_sync == 1


def test_other_commands_warn_once(unseen, capsys):
    gpus.warn_of_unseen()
    gpus.warn_of_unseen()
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 1
        and "warning: TensorFlow sees no GPU" in said
        and "SLURM_JOB_GPUS" in said
    )


def test_nothing_is_said_where_tensorflow_sees_a_gpu(unseen, monkeypatch, capsys):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0"])
    gpus.require_seen()
    gpus.warn_of_unseen()
    assert capsys.readouterr().err == ""


def test_an_export_that_runs_on_the_cpu_is_warned_of(unseen, capsys):
    with pytest.raises(UserError):
        engine.TensorFlowEngine("none")
    assert "warning: TensorFlow sees no GPU" in capsys.readouterr().err
