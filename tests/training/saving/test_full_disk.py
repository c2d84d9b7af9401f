import dataclasses
import errno
import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest
import tensorflow as tf

from fv.errors import UserError
from fv.model import checkpoint_files
from fv.training.run import train
from fv.training.saving import full_disk
from fv.training.saving.checkpoint_options import CheckpointOptions
from fv.training.watching.report_options import ReportOptions

FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    ("raised", "place"),
    [
        (OSError(errno.ENOSPC, FULL, "run/train.flags"), "run/train.flags"),
        (tf.errors.ResourceExhaustedError(None, None, f"/tmp/events.v2; {FULL}"), "/tmp/events.v2"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "runs/a"),
    ],
)
def test_whatever_could_not_be_written_is_named_in_one_line(raised, place):
    told = pytest.raises(
        UserError,
        match=rf"^{place} takes no more \((No space|Disk quota).*\): make room.*in runs/a are whole$",
    )
    with told, full_disk.told("runs/a"):
        raise raised


def test_other_errors_stay_what_they_are():
    with pytest.raises(tf.errors.ResourceExhaustedError, match="OOM"), full_disk.told("runs/a"):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    with pytest.raises(PermissionError), full_disk.told("runs/a"):
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
def test_a_run_that_fills_its_disk_ends_in_one_line_and_goes_on_from_a_whole_checkpoint_where_there_is_room(
    tiny_run, small_disk
):
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
        checkpoint_files.find(folder)[0],
        checkpoint_files.find_whole(folder, pytest.fail),
    )
    assert saved == whole and 0 < checkpoint_files.step_of(whole) < options.steps
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    train(options)
    assert (
        checkpoint_files.step_of(checkpoint_files.find_whole(folder, pytest.fail)) == options.steps
    )
