import dataclasses
import hashlib
import json
import pathlib
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from fv.errors import Stopped
from fv.pipeline.damage import BadRecords
from fv.training.watching import run_record, summary
from fv.training.watching.reporter import Reporter
from fv.training.watching.stall import StallMeter
from tests.training.watching import test_reporter


@pytest.fixture
def options(tiny_run, tmp_path):
    return dataclasses.replace(tiny_run, workdir=str(tmp_path))


def starts(folder) -> list[dict]:
    return json.loads(pathlib.Path(folder, "run.json").read_text())["starts"]


def test_a_loss_that_is_no_number_in_an_older_record_is_read_as_none(options):
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    path = pathlib.Path(options.workdir, "run.json")
    path.write_text('{"starts": [{"first_step": 0, "ended": {"reason": "failed", "loss": NaN}}]}')
    run_record.begin(options, strategy, 20)
    assert [start["first_step"] for start in starts(options.workdir)] == [0, 20]
    assert starts(options.workdir)[0]["ended"]["loss"] is None and "NaN" not in path.read_text()


def test_what_a_user_added_to_the_record_stays(options):
    path = pathlib.Path(options.workdir, "run.json")
    path.write_text('{"starts": [], "note": "mine"}')
    run_record.end(
        run_record.begin(options, tf.distribute.OneDeviceStrategy("CPU:0"), 0),
        {"reason": "finished"},
    )
    assert json.loads(path.read_text())["note"] == "mine" and len(starts(options.workdir)) == 1


def test_every_start_is_kept_with_what_it_computed_with(options, shards):
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    run_record.begin(options, strategy, 0)
    second = run_record.begin(options, strategy, 20)
    run_record.end(second, {"reason": "finished"})
    first, other = starts(options.workdir)
    assert (first["first_step"], other["first_step"]) == (0, 20)
    assert first["ended"] is None and other["ended"] == {"reason": "finished"}
    assert (
        first["manifest_sha256"]
        == hashlib.sha256((shards / "manifest.json").read_bytes()).hexdigest()
    )
    assert first["versions"]["tensorflow"] == tf.__version__ and "fv" in first["versions"]
    assert any("CPU" in device for device in first["devices"]) and first["replicas"] == 1
    assert f"--workdir={options.workdir}" in first["flags"]


def test_the_revision_is_of_the_repository_that_tracks_the_package_and_none_elsewhere(tmp_path):
    def git(*arguments: str) -> str:
        author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(
            ["git", *author, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    file = tmp_path / "__init__.py"
    file.write_text("")
    assert run_record.revision(str(tmp_path)) is None
    git("init", "-q")
    assert run_record.revision(str(tmp_path)) is None  # installed inside someone else's repository
    git("add", ".")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD").strip()
    assert run_record.revision(str(tmp_path)) == head
    file.write_text("changed")
    assert run_record.revision(str(tmp_path)) == f"{head}-dirty"


@pytest.mark.parametrize(
    "error, reason", [(None, "finished"), (Stopped("asked"), "stopped"), (ValueError(), "failed")]
)
def test_the_verdict_on_the_input_and_the_summary_are_the_last_lines_whichever_way_a_run_ends(
    options, capsys, error, reason
):
    start = run_record.begin(options, tf.distribute.OneDeviceStrategy("CPU:0"), 0)
    reporter = Reporter(
        test_reporter.run(options.workdir), StallMeter(1.0, 4.0), BadRecords(options.workdir)
    )
    with (
        pytest.raises(type(error)) if error else reporter,
        summary.written_at_the_end(reporter, start),
    ):
        reporter.log(10, np.ones(10))
        if error:
            raise error
    verdict, line = capsys.readouterr().out.splitlines()
    assert (
        verdict == "25% of the training time was spent waiting for input: input-bound; more cores"
    )
    printed = json.loads(line)
    assert printed["reason"] == reason and starts(options.workdir)[0]["ended"] == printed
