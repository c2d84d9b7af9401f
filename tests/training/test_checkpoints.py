import dataclasses
import errno
import json
import os
import pathlib
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv.errors import TemporaryError, UserError
from fv.model import checkpoint_files
from fv.training import checkpoints
from fv.training import strategy as strategies
from fv.training.checkpoints import Checkpoints
from fv.training.options import CheckpointOptions, ReportOptions, StrategyOptions
from fv.training.run import train
from fv.training.strategy import Agreement
from tests import dying

FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    ("raised", "place"),
    [
        (OSError(errno.ENOSPC, FULL, "run/train.flags"), "run/train.flags"),
        (tf.errors.ResourceExhaustedError(None, None, f"/tmp/events.v2; {FULL}"), "/tmp/events.v2"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "runs/a"),
    ],
)
def test_a_full_disk_names_the_file_in_one_line(raised, place):
    told = pytest.raises(
        UserError,
        match=rf"^{place} takes no more \((No space|Disk quota).*\): make room.* runs/a are whole$",
    )
    with told, checkpoints.report_full_disk("runs/a"):
        raise raised


def test_errors_other_than_a_full_disk_pass_unchanged():
    with (
        pytest.raises(tf.errors.ResourceExhaustedError, match="OOM"),
        checkpoints.report_full_disk("runs/a"),
    ):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    with pytest.raises(PermissionError), checkpoints.report_full_disk("runs/a"):
        raise PermissionError(errno.EACCES, "Permission denied", "run")


@pytest.fixture
def small_disk(tmp_path) -> Iterator[pathlib.Path]:
    """A disk of a megabyte."""
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "fv", tmp_path], capture_output=True, check=False
    ).returncode:
        pytest.skip("nothing may be mounted here")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.mark.slow
def test_a_run_that_fills_its_disk_goes_on_from_a_whole_checkpoint(tiny_run, small_disk):
    options = dataclasses.replace(
        tiny_run,
        workdir=str(small_disk / "run"),
        saving=CheckpointOptions(checkpoint_every=3),
        report=ReportOptions(log_every=10, validate_every=0),
    )
    with pytest.raises(
        UserError, match=rf"{small_disk}.*{FULL}.*make room and run the same command again"
    ):
        train(options)
    folder = str(small_disk / "run" / "checkpoints")
    saved, whole = (
        checkpoint_files.find_checkpoints(folder)[0],
        checkpoint_files.find_last_whole(folder, pytest.fail),
    )
    assert saved == whole and 0 < checkpoint_files.checkpoint_step(whole) < options.steps
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    train(options)
    assert (
        checkpoint_files.checkpoint_step(checkpoint_files.find_last_whole(folder, pytest.fail))
        == options.steps
    )


class Best(Checkpoints):
    """The checkpoints of a run that starts, or starts again; only notes which are saved as best."""

    def __init__(self, tmp_path: pathlib.Path):
        agreement = Agreement(tf.distribute.OneDeviceStrategy("CPU:0"))
        super().__init__(str(tmp_path / "run"), agreement, chief=True)
        self.saved: list[int] = []

    def save_best(self, step: int) -> None:
        self.saved.append(step)

    def validate(self, aucs: dict[int, float]) -> list[int]:
        """The steps that are saved as best, from AUC by step."""
        for step, auc in aucs.items():
            self.note_validation(step, auc)
        return self.saved


def test_only_better_weights_are_saved(tmp_path):
    aucs = {5: 0.6, 10: 0.8, 15: 0.7, 20: 0.8, 25: 0.9}
    assert Best(tmp_path).validate(aucs) == [5, 10, 25]


def test_a_run_started_again_knows_what_was_best(tmp_path):
    Best(tmp_path).validate({5: 0.6, 10: 0.8})
    assert Best(tmp_path).validate({15: 0.7}) == []
    assert Best(tmp_path).validate({20: 0.81}) == [20]
    known = json.loads((tmp_path / "run" / "best" / "validation.json").read_text())
    assert known == {"step": 20, "metric": "auc", "best": 0.81, "best_step": 20}


def test_validated_steps_are_remembered(tmp_path):
    assert not Best(tmp_path).validated(5)
    Best(tmp_path).validate({5: 0.6})
    assert Best(tmp_path).validated(5) and not Best(tmp_path).validated(10)


def test_best_weights_that_could_not_be_saved_are_saved_later(tmp_path, monkeypatch):
    def fail(*_) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(Best, "save_best", fail)
        Best(tmp_path).validate({5: 0.6})
    assert not Best(tmp_path).validated(5) and Best(tmp_path).validate({5: 0.6}) == [5]


SIZE = 50_000  # float32, so that a checkpoint is larger than the small limits on files below


class Weights(tf.Module):
    """Something to save."""

    def __init__(self, value: float = 0.0, size: int = SIZE):
        super().__init__()
        self.kernel = tf.Variable(tf.fill([size], value))


def make_checkpoints(workdir: pathlib.Path, model: tf.Module, *, chief: bool = True) -> Checkpoints:
    agreement = Agreement(tf.distribute.OneDeviceStrategy("CPU:0"))
    return Checkpoints(str(workdir), agreement, chief=chief, model=model)


def saved(workdir: pathlib.Path, steps: list[int]) -> None:
    """Saves a model whose weights are the step's number at each step."""
    model = Weights()
    made = make_checkpoints(workdir, model)
    for step in steps:
        model.kernel.assign(tf.fill([SIZE], float(step)))
        made.save(step)


def restored(workdir: pathlib.Path) -> tuple[int, float]:
    model = Weights(-1.0)
    return make_checkpoints(workdir, model).restore(), float(model.kernel[0])


def held(workdir: pathlib.Path, folder: str = "checkpoints") -> list[int]:
    return sorted(
        map(
            checkpoint_files.checkpoint_step,
            checkpoint_files.find_checkpoints(str(workdir / folder)),
        )
    )


def test_the_last_ones_are_kept_and_found_by_tensorflow_too(tmp_path):
    saved(tmp_path, [5, 10, 15, 20])
    assert held(tmp_path) == [10, 15, 20] and restored(tmp_path) == (20, 20.0)
    assert tf.train.latest_checkpoint(str(tmp_path / "checkpoints")).endswith("ckpt-20")
    # Three of data, three indices and TensorFlow's list.
    assert len(os.listdir(tmp_path / "checkpoints")) == 7


def test_an_empty_workdir_starts_at_step_0(tmp_path):
    assert restored(tmp_path) == (0, -1.0)


@pytest.mark.parametrize("what", ["index cut", "data cut", "data gone", "one bit of data"])
def test_a_damaged_checkpoint_is_reported_skipped_and_not_counted(tmp_path, capsys, what):
    saved(tmp_path, [3, 5, 10])
    data, index = (
        tmp_path / "checkpoints" / f"ckpt-10.{name}" for name in ("data-00000-of-00001", "index")
    )
    if what == "data gone":
        data.unlink()
    elif what == "one bit of data":
        content = bytearray(data.read_bytes())
        content[1000] ^= 1
        data.write_bytes(content)
    else:
        file = index if what == "index cut" else data
        file.write_bytes(file.read_bytes()[:-20])
    assert restored(tmp_path) == (5, 5.0)
    said = capsys.readouterr().err
    assert "ckpt-10 is damaged" in said and said.count("\n") == 1
    model = Weights(7.0)
    again = make_checkpoints(tmp_path, model)
    again.restore()
    again.save(7)
    assert {3, 5, 7} <= set(held(tmp_path))  # the damaged one takes nobody's place
    again.save(10)
    assert restored(tmp_path) == (10, 5.0)


def test_a_run_without_a_whole_checkpoint_is_refused_not_restarted(tmp_path):
    saved(tmp_path, [5])
    (tmp_path / "checkpoints" / "ckpt-5.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(UserError, match="no checkpoint in .* is whole"):
        restored(tmp_path)


def test_a_checkpoint_of_other_weights_is_refused_in_one_line(tmp_path):
    saved(tmp_path, [5])
    with pytest.raises(UserError, match="ckpt-5 is of another model.*train.flags"):
        make_checkpoints(tmp_path, Weights(size=3)).restore()


def test_leftovers_of_a_killed_save_are_ignored_and_removed(tmp_path):
    saved(tmp_path, [5])
    writing = tmp_path / ".fv" / "checkpoint"
    (writing / "ckpt-10_temp").mkdir(parents=True)
    (writing / "ckpt-10.index").write_bytes(b"half")
    assert restored(tmp_path) == (5, 5.0)
    saved(tmp_path, [10])
    assert restored(tmp_path) == (10, 10.0) and not writing.exists()


def test_killed_between_data_and_index_the_next_run_writes_both(tmp_path, monkeypatch):
    saved(tmp_path, [5])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        dying.die_at_call(patch, tf.io.gfile, "rename", 1)
        saved(tmp_path, [10])
    assert (tmp_path / "checkpoints" / "ckpt-10.data-00000-of-00001").exists() and restored(
        tmp_path
    ) == (5, 5.0)
    saved(tmp_path, [10])
    assert restored(tmp_path) == (10, 10.0)


def test_checkpoints_of_others_are_neither_removed_nor_replaced(tmp_path):
    saved(tmp_path / "other", [1, 2, 3])
    for folder in ("checkpoints", "best"):
        shutil.copytree(tmp_path / "other" / "checkpoints", tmp_path / "run" / folder)
    (tmp_path / "run" / "checkpoints" / "ckpt-5.notes.txt").write_text("mine")
    made = make_checkpoints(tmp_path / "run", Weights())
    assert made.restore() == 3
    for step in (5, 10, 15, 20):
        made.save(step)
        made.save_best(step)
    assert held(tmp_path / "run") == [1, 2, 3, 10, 15, 20]
    assert held(tmp_path / "run", "best") == [1, 2, 3, 20]
    assert (tmp_path / "run" / "checkpoints" / "ckpt-5.notes.txt").exists()
    with pytest.raises(
        UserError, match=r"did not write, .*: ckpt-2\.data-00000-of-00001, ckpt-2\.index;"
    ):
        made.save_best(2)


def test_a_later_checkpoint_that_fv_did_not_write_is_named_at_the_start(tmp_path):
    saved(tmp_path, [5])
    (tmp_path / "checkpoints" / "ckpt-10.index").write_text("mine")
    with pytest.raises(
        UserError, match=r"fv did not write, or that were changed since: ckpt-10\.index;"
    ):
        restored(tmp_path)


@pytest.fixture
def small_files():
    """Lets this process write files of 50 kB at most, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before_it(tmp_path, request):
    model = Weights(5.0)
    made = make_checkpoints(tmp_path, model)
    made.save(5)
    request.getfixturevalue("small_files")
    with pytest.raises(
        UserError,
        match=r"step 10 cannot be written into .*\(.+\); the one at step 5 is whole: make room",
    ):
        made.save(10)
    assert restored(tmp_path) == (5, 5.0) and held(tmp_path) == [5]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == [
        "checkpoint",
        "ckpt-5.data-00000-of-00001",
        "ckpt-5.index",
    ]


def test_a_worker_whose_folder_for_temporary_files_is_full_names_that_one(tmp_path, small_files):
    made = make_checkpoints(tmp_path, Weights(), chief=False)
    with pytest.raises(
        UserError,
        match=rf"step 5 cannot be written into {tempfile.gettempdir()} .*; there is none before",
    ):
        made.save(5)
    assert not os.listdir(tmp_path)


def test_the_best_is_kept_apart_and_replaced_whole(tmp_path):
    model = Weights(1.0)
    made = make_checkpoints(tmp_path, model)
    made.save_best(5)
    for step in (10, 15, 20, 25):
        made.save(step)
    assert held(tmp_path, "best") == [5] and held(tmp_path) == [15, 20, 25]
    made.save_best(25)
    assert held(tmp_path, "best") == [25]
    reader = tf.train.load_checkpoint(checkpoint_files.find_checkpoints(str(tmp_path / "best"))[0])
    np.testing.assert_array_equal(reader.get_tensor("model/kernel/.ATTRIBUTES/VARIABLE_VALUE"), 1.0)
    assert reader.get_tensor("step/.ATTRIBUTES/VARIABLE_VALUE") == 25


def diverged(
    workdir: pathlib.Path, strategy: tf.distribute.Strategy, break_one: str, number: float
) -> None:
    """Saves at step 5, and at step 10 with a variable that is not finite on the last replica."""
    with strategy.scope():
        parts = {name: Weights(1.0, size=3) for name in ("model", "averages")}
        optimizer = tf_keras.optimizers.AdamW()
        optimizer.build([parts["model"].kernel])
    made = Checkpoints(str(workdir), Agreement(strategy), chief=True, optimizer=optimizer, **parts)
    made.save(5)
    made.save_best(5)
    broken = optimizer.variables()[-1] if break_one == "slot" else parts[break_one].kernel
    strategy.experimental_local_results(broken)[-1].assign([1.0, number, 1.0])
    for save in (made.save, made.save_best):
        with pytest.raises(
            UserError,
            match="is not finite after step 10: .* then goes on from the checkpoint at step 5",
        ):
            save(10)


@pytest.mark.parametrize("broken", ["model", "averages", "slot"])
@pytest.mark.parametrize("number", [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, broken, number):
    diverged(tmp_path, tf.distribute.OneDeviceStrategy("CPU:0"), broken, number)
    assert held(tmp_path) == held(tmp_path, "best") == [5]


def test_a_weight_that_is_not_finite_on_one_replica_is_not_saved(tmp_path):
    made = strategies.start_strategy(
        StrategyOptions(strategy="mirrored", virtual_devices=2), seed=0
    )
    diverged(tmp_path, made, "model", np.inf)
    assert held(tmp_path) == held(tmp_path, "best") == [5]


def test_slots_of_optimizers_of_the_older_kind_are_checked_too(tmp_path):
    model, optimizer = Weights(1.0, size=3), tf_keras.optimizers.legacy.SGD(momentum=0.9)
    optimizer._create_all_weights([model.kernel])
    agreement = Agreement(tf.distribute.OneDeviceStrategy("CPU:0"))
    made = Checkpoints(str(tmp_path), agreement, chief=True, model=model, optimizer=optimizer)
    made.save(5)
    optimizer.get_slot(model.kernel, "momentum").assign([1.0, np.nan, 1.0])
    with pytest.raises(UserError, match="momentum.* is not finite after step 10"):
        made.save(10)


def test_weights_whose_squares_overflow_are_finite_and_saved(tmp_path):
    model = Weights(3e38, size=3)
    make_checkpoints(tmp_path, model).save(5)
    assert held(tmp_path) == [5]


def test_a_disk_that_fails_for_a_moment_is_a_temporary_error(tmp_path, monkeypatch):
    saved(tmp_path, [5, 10])

    def fail(*_, **__):
        raise tf.errors.UnknownError(None, None, "ckpt; Input/output error")

    with monkeypatch.context() as patch, pytest.raises(TemporaryError, match="Input/output error"):
        patch.setattr(tf.train, "load_checkpoint", fail)
        restored(tmp_path)
    made = make_checkpoints(tmp_path, Weights())
    made.restore()
    with monkeypatch.context() as patch, pytest.raises(TemporaryError, match="Input/output error"):
        patch.setattr(tf.io.gfile, "rename", fail)
        made.save(15)
    assert restored(tmp_path) == (10, 10.0)
