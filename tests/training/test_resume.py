"""A deterministic run that is stopped and started again ends with the same bits (CPU)."""

import dataclasses
import os
import random
import shutil
import signal
import sys
import time

import pytest

from benchmarks import resume
from fv import addons, files, workdir
from fv import options as fv_options
from fv.errors import Stopped, UserError
from fv.model import checkpoint_files
from fv.pipeline.augment import AugmentOptions
from fv.training.options import (
    AveragingOptions,
    CheckpointOptions,
    OptimizerOptions,
    ReportOptions,
    StrategyOptions,
    TrainOptions,
)
from fv.training.run import train
from fv.training.step import TrainStep
from tests.conftest import TINY

EPOCH = 8  # steps of 8 pairs in the 64 of `shards`
SECONDS_BETWEEN_CHECKPOINTS = 0.1


class Killed(BaseException):
    """As SIGKILL: nobody catches it, nothing is saved."""


@pytest.fixture
def options(tiny_run, tmp_path) -> TrainOptions:
    """A deterministic run of less than two epochs that saves every 3 steps."""
    return dataclasses.replace(
        tiny_run,
        workdir=str(tmp_path / "run"),
        model=dataclasses.replace(TINY, image_size=16, dropout=0.3),
        augmentation=AugmentOptions(),
        compute=StrategyOptions(deterministic=True),
        steps=14,
        report=ReportOptions(log_every=5, validate_every=6),
        saving=CheckpointOptions(checkpoint_every=3),
    )


def train_until(options: TrainOptions, step: int, monkeypatch: pytest.MonkeyPatch, end) -> None:
    """Trains, and calls `end` before the host call that comes to that step."""
    run = TrainStep.run

    def interrupted(self, batches, first: int, count: int):
        if first < step <= first + count:
            end()
        return run(self, batches, first, count)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "run", interrupted)
        train(options)


def kill() -> None:
    raise Killed


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.5)  # until the thread that reads signals has heard it


def starts(options: TrainOptions) -> list[dict]:
    return files.load_json(os.path.join(options.workdir, workdir.RUN))["starts"]


def all_at_once() -> dict:
    """Flags of everything that has a state of its own."""
    name = "radam" if addons.available() else "adamw"
    return dict(
        compute=StrategyOptions(deterministic=True, precision="mixed_float16"),
        optimization=OptimizerOptions(
            optimizer=name, learning_rate=3e-3, warmup_steps=5, accumulate_steps=2
        ),
        averaging=AveragingOptions(average_weights="ema"),
    )


def test_a_killed_and_restarted_run_ends_with_the_same_bits(trained, tmp_path, monkeypatch):
    options = dataclasses.replace(
        trained,
        workdir=str(tmp_path / "run"),
        compute=StrategyOptions(deterministic=True),
        saving=CheckpointOptions(checkpoint_every=3),
    )
    with pytest.raises(Killed):
        train_until(options, EPOCH + 3, monkeypatch, kill)
    train(options)
    assert [start["first_step"] for start in starts(options)] == [0, 9]
    assert resume.compare(options.workdir, trained.workdir) == []


@pytest.mark.slow
def test_killed_in_one_epoch_and_stopped_in_the_next_it_ends_the_same(options, monkeypatch):
    options = dataclasses.replace(options, **all_at_once())
    whole = dataclasses.replace(options, workdir=options.workdir + "-whole")
    train(whole)
    with pytest.raises(Killed):
        train_until(
            options, random.Random(1).randrange(4, EPOCH), monkeypatch, kill
        )  # behind a checkpoint
    with pytest.raises(Stopped, match="saved at step 10"):
        train_until(options, EPOCH + 2, monkeypatch, stop)
    train(options)
    assert resume.compare(options.workdir, whole.workdir) == []


@pytest.mark.slow
def test_processes_killed_twice_end_with_the_same_bits(options, tmp_path):
    plan = dict(
        report=ReportOptions(log_every=5, validate_every=0),
        saving=CheckpointOptions(checkpoint_every=EPOCH // 2),
    )
    options = dataclasses.replace(options, steps=10 * EPOCH, **plan)
    flags = tmp_path / "run.flags"
    flags.write_text(fv_options.to_flagfile(options))
    command, rng = [sys.executable, "-m", "fv.train", f"--flagfile={flags}"], random.Random(0)
    resume.kill(command, options.workdir, EPOCH, 0.0)
    resume.kill(
        command,
        options.workdir,
        rng.randrange(2 * EPOCH, 6 * EPOCH),
        rng.uniform(0.0, SECONDS_BETWEEN_CHECKPOINTS),
    )
    train(options)
    whole = dataclasses.replace(options, workdir=options.workdir + "-whole")
    train(whole)
    assert resume.compare(options.workdir, whole.workdir) == []


def test_a_second_run_in_the_same_workdir_is_refused(options):
    os.makedirs(options.workdir)
    refused = pytest.raises(
        UserError, match="another run is training in .*: wait for it, or give another --workdir"
    )
    with files.lock_folder(options.workdir, "taken"), refused:
        train(options)


def test_more_replicas_may_continue_a_run_but_no_other_optimizer(trained, tmp_path):
    folder = shutil.copytree(trained.workdir, tmp_path / "run")
    options = dataclasses.replace(trained, workdir=str(folder), steps=32)
    two = StrategyOptions(strategy="mirrored", virtual_devices=2)
    train(dataclasses.replace(options, compute=two))
    assert (
        checkpoint_files.checkpoint_step(
            checkpoint_files.find_checkpoints(f"{folder}/checkpoints")[0]
        )
        == 32
    )
    with pytest.raises(UserError, match="ckpt-32 is of another model, optimizer"):
        train(
            dataclasses.replace(options, steps=34, optimization=OptimizerOptions(optimizer="sgd"))
        )
