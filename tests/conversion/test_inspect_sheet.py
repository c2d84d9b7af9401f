"""tools/inspect_tfrecords.py --sheet, as a process."""

import os
import pathlib
import subprocess
import sys

import pytest
from PIL import Image

from tests import samples

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "inspect_tfrecords.py"


def inspect(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[1])}
    line = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=100)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "out"
    samples.write_shards(folder, {"train": 40, "val": 20})
    return folder


def test_a_sheet_of_pairs_is_drawn_the_same_each_time(shards, tmp_path):
    for name in ("a.png", "b.png"):
        done = inspect(f"--sheet={tmp_path / name}", shards)
        assert (done.returncode, done.stderr) == (0, "") and "drew 24 pairs" in done.stdout
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert Image.open(tmp_path / "a.png").format == "PNG"


def test_a_damaged_shard_is_reported_beside_a_sheet_of_the_sound_pairs(shards, tmp_path):
    first = sorted(shards.glob("train-*"))[0]
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])
    done = inspect(f"--sheet={tmp_path / 'a.png'}", shards)
    first.write_bytes(whole)
    assert (
        done.returncode == 2
        and f"{first.name}: record" in done.stderr
        and "drew 24 pairs" in done.stdout
    )


@pytest.mark.parametrize(
    ("path", "message"), [("a.jpg", "ends in .png"), ("no/a.png", "does not exist: make it first")]
)
def test_a_sheet_that_cannot_be_written_is_refused_before_the_shards_are_read(
    shards, tmp_path, path, message
):
    done = inspect(f"--sheet={tmp_path / path}", shards)
    assert done.returncode == 2 and message in done.stderr and done.stdout == ""
