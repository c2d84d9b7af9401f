"""A user's mistakes on the command line: one clear line, exit code 2, nothing lost."""

import re
import runpy
import shutil
import sys

import pytest

from fv import cli, evaluate, export, train, verify, whiten
from tests import samples

LOG_LINE = re.compile(r"I\d{4} ")  # of absl


def assert_one_line(done, *parts: str) -> None:
    assert done.returncode == cli.EXIT_ERROR, done.stderr
    lines = [line for line in done.stderr.splitlines() if not LOG_LINE.match(line)]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("train", "--tfrecords is missing"),
        ("evaluate", "--workdir is missing"),
        ("export", "--workdir is missing"),
        ("whiten", "--workdir is missing"),
        ("verify", "expected IMAGE_A IMAGE_B"),
    ],
)
def test_a_command_without_arguments_says_what_it_needs(call, name, wanted):
    """Runs it as `python -m` does, but in this process."""

    def run_as_main() -> None:
        sys.modules.pop(f"fv.{name}")
        runpy.run_module(f"fv.{name}", run_name="__main__", alter_sys=True)

    assert_one_line(call(run_as_main), f"{name}.py: error: {wanted}")


@pytest.mark.parametrize(
    ("main", "flags", "parts"),
    [
        (train, ["--tfrecords=x"], ["--workdir is missing"]),
        (
            train,
            ["--tfrecords=x", "--workdir=y", "--head=no_such"],
            ["--head", "no_such", "sigmoid"],
        ),
        (train, ["--tfrecords=x", "--workdir=y", "--steps=0"], ["--steps"]),
        (train, ["--tfrecords=x", "--workdir=y", "--no_such_flag=1"], ["no_such_flag"]),
        (train, ["--flagfile=no/such/file"], ["no/such/file"]),
        (train, ["--tfrecords=no/such/folder", "--workdir=y"], ["no/such/folder", "manifest.json"]),
        (evaluate, ["--workdir=no/such/folder", "--tfrecords=x"], ["no/such/folder", "model.json"]),
        (export, ["--workdir=no/such/folder", "--output=x"], ["no/such/folder", "model.json"]),
        (
            whiten,
            ["--workdir=no/such/folder", "--tfrecords=x", "--output=y"],
            ["no/such/folder", "model.json"],
        ),
        (verify, ["--model=no/such/folder", "a.jpg", "b.jpg"], ["no/such/folder", "SavedModel"]),
        (verify, ["--model=x", "a.jpg"], ["IMAGE_A IMAGE_B"]),
    ],
)
def test_a_mistake_gets_one_line_that_names_it(call, main, flags, parts):
    assert_one_line(call(main.run, *flags), *parts)


def test_a_shard_cut_short_stops_training_before_it_starts(call, shards, tmp_path):
    broken = shutil.copytree(shards, tmp_path / "broken")
    shard = sorted(broken.glob("train-*"))[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    done = call(
        train.run, f"--tfrecords={broken}", f"--workdir={tmp_path / 'run'}", "--backbone=tiny"
    )
    assert_one_line(done, shard.name, "cut short")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def flipped(shards, tmp_path):
    """A copy of the shards with one bit flipped, and the shard that has it."""
    broken = shutil.copytree(shards, tmp_path / "broken")
    shard = sorted(broken.glob("train-*"))[1]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    return broken, shard


@pytest.mark.slow
def test_a_flipped_bit_stops_training_with_the_byte_and_the_command_that_names_the_shard(
    command, flipped, tmp_path
):
    broken, shard = flipped
    flags = ["--backbone=tiny", "--image_size=32", "--steps=30", "--global_batch_size=8"]
    done = command(
        "-m", "fv.train", f"--tfrecords={broken}", f"--workdir={tmp_path / 'run'}", *flags
    )
    assert_one_line(
        done, f"{broken} are damaged", shard.name, "record ", "at byte", "inspect_tfrecords"
    )


def test_the_inspector_names_the_damaged_shard(command, flipped):
    broken, shard = flipped
    done = command("tools/inspect_tfrecords.py", broken)
    assert done.returncode == cli.EXIT_ERROR and shard.name in done.stderr


def test_a_saved_model_answers_with_its_exit_code(command, exported, tmp_path):
    (tmp_path / "a.jpg").write_bytes(samples.image_bytes(12, 0))
    done = command(
        "-m", "fv.verify", f"--model={exported}", "--json", tmp_path / "a.jpg", tmp_path / "a.jpg"
    )
    assert done.returncode == 0 and '"same": true' in done.stdout and done.stderr == ""
