"""Tests of the converter's commands as processes: exit codes, mistakes, and killed runs."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from fv import cli, make_tfrecords
from fv.conversion import options
from tests import samples
from tests.conftest import slow_case
from tests.conversion import making
from tests.samples import digests

REPOSITORY = pathlib.Path(__file__).parent.parent


def command(tool, *arguments):
    """The command line and environment of one of tools/."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return [sys.executable, str(REPOSITORY / "tools" / tool), *map(str, arguments)], environment


def run(tool, *arguments):
    line, environment = command(tool, *arguments)
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=100)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """60 people of 4 images each."""
    return making.crowd(tmp_path_factory.mktemp("crowd"), identities=60, images=4)


def test_a_conversion_prints_its_table_and_inspection_agrees(crowd, tmp_path):
    (crowd / "p000" / "broken.jpg").write_bytes(b"no image")
    made = run("make_tfrecords.py", f"--images={crowd}", f"--output={tmp_path}", "--pairs=300")
    (crowd / "p000" / "broken.jpg").unlink()
    assert (made.returncode, made.stdout.splitlines()[0].split()[:3]) == (
        0,
        ["split", "identities", "images"],
    )
    assert (
        "left out: p000/broken.jpg: not an image" in made.stderr
        and "1 left out, all listed in" in made.stderr
    )
    inspected = run("inspect_tfrecords.py", tmp_path)
    assert (inspected.returncode, inspected.stderr) == (0, "")
    totals = [line.split()[3:5] for line in made.stdout.splitlines()[1:4]]
    assert [line.split()[3:5] for line in inspected.stdout.splitlines()[1:4]] == totals
    assert sum(int(number) for total in totals for number in total) == 300


def test_inspection_of_a_damaged_shard_exits_2_and_names_it(tmp_path):
    samples.write_shards(tmp_path / "shards", {"train": 8})
    shard = tmp_path / "shards" / "train-00000-of-00003.tfrecord"
    os.truncate(shard, 2000)
    inspected = run("inspect_tfrecords.py", tmp_path / "shards")
    assert inspected.returncode == 2
    assert f"{shard.name}: record" in inspected.stderr and "Traceback" not in inspected.stderr


MISTAKES = [
    (["--images=nowhere"], "--images=nowhere is not a folder"),
    (["--images=empty"], "holds no image in any identity's folder"),
    (["--images=one"], "images of one identity only ('p0')"),
    ([], "--images is missing"),
    (["--images=crowd", "--pairs=many"], "pairs=many"),
    (["--images=crowd", "--pairs=1000000"], "--pairs=1000000 asks for more than the"),
    (["--images=crowd", "--pairs=10", "--pairs_csv=good.csv"], "give one of them"),
    (["--images=crowd", "--pairs_split=holdout"], "pairs_split=holdout"),
    (["--images=crowd", "--no_such_flag"], "no_such_flag"),
    (["--images=crowd", "--val_fraction=0.9", "--test_fraction=0.9"], "add up to more than 1"),
    (["--images=crowd", "--val_fraction=0.001"], "the val split got 0 of 60 identities"),
    (["--images=crowd", "--output=crowd/shards"], "lies in --images"),
    (["--images=crowd", "--pairs_file=absent.txt"], "No such file or directory: absent.txt"),
    (["--images=crowd", "--pairs_csv=no_columns.csv"], "no_columns.csv has no column label"),
    (
        ["--images=crowd", "--pairs_csv=missing_image.csv"],
        "missing_image.csv, line 2: p000/gone.jpg: no such image",
    ),
    (["--images=broken", "--strict"], "p000/p000_0001.jpg: empty file (--strict stops here"),
]


@pytest.fixture(scope="module")
def mistakes(crowd, tmp_path_factory):
    """A folder with what the mistakes of `MISTAKES` need."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "crowd").symlink_to(crowd)
    (folder / "empty").mkdir()
    making.people(folder / "one", p0=3)
    making.crowd(folder / "broken", identities=20, images=2)
    (folder / "broken" / "p000" / "p000_0001.jpg").write_bytes(b"")
    (folder / "no_columns.csv").write_text(
        "image_a,image_b\np000/p000_0001.jpg,p000/p000_0002.jpg\n"
    )
    (folder / "missing_image.csv").write_text(
        "image_a,image_b,label\np000/p000_0001.jpg,p000/gone.jpg,1\n"
    )
    return folder


@pytest.mark.parametrize(("flags", "message"), MISTAKES)
def test_a_mistake_is_one_clear_line_and_exit_code_2(mistakes, flags, message, monkeypatch, capsys):
    monkeypatch.chdir(mistakes)
    with pytest.raises(SystemExit) as exited:
        cli.run(
            make_tfrecords.main,
            options.ConvertOptions,
            argv=["fv-make-tfrecords", "--output=out", *flags],
        )
    out, err = capsys.readouterr()
    assert (exited.value.code, out) == (2, "")
    assert len(err.splitlines()) == 1 and message in err
    assert not list(mistakes.glob("out/*"))


def test_a_mistake_shows_no_traceback_in_a_shell(tmp_path):
    made = run("make_tfrecords.py", f"--images={tmp_path}", f"--output={tmp_path / 'out'}")
    assert (made.returncode, made.stdout) == (2, "")
    assert (
        made.stderr.startswith("make_tfrecords.py: error: ") and len(made.stderr.splitlines()) == 1
    )


@pytest.mark.parametrize("kills", [1, slow_case(5)])
def test_killed_at_any_moment_and_run_again_gives_the_same_bytes(crowd, tmp_path, kills):
    line, environment = command("make_tfrecords.py", f"--images={crowd}", "--workers=2", "--seed=5")
    start = time.monotonic()
    subprocess.run(
        [*line, f"--output={tmp_path / 'whole'}"], env=environment, check=True, capture_output=True
    )
    whole_s, rng = time.monotonic() - start, random.Random(0)
    for _ in range(kills):
        process = subprocess.Popen(
            [*line, f"--output={tmp_path / 'killed'}", "--overwrite"], env=environment
        )
        time.sleep(rng.uniform(0.3, 1.0) * whole_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = run("make_tfrecords.py", *line[2:], f"--output={tmp_path / 'killed'}", "--overwrite")
    assert finished.returncode == 0, finished.stderr
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    assert sorted(os.listdir(tmp_path / "killed")) == sorted(os.listdir(tmp_path / "whole"))
