"""Tests of fv.cli."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from fv import cli
from fv.errors import Stopped, TemporaryError, UserError
from fv.options import group, option, required

ROOT = pathlib.Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Inner:
    """A group."""

    flip: bool = option(False, "Mirror at random.")


@dataclasses.dataclass(frozen=True)
class Options:
    """What the tests' command takes."""

    images: str = required("folder of images.")
    steps: int = option(10, "Training steps, 1 or more.", lower=1)
    mode: str = option("fast", "How.", choices=["fast", "exact"])
    inner: Inner = group(Inner)


PROGRAM = """
import atexit, dataclasses, sys, threading, time, types
from fv import cli
sys.modules["tensorflow"] = types.ModuleType("tensorflow")

class Iterator:
    def __del__(self):
        print("deleted")

def work():
    time.sleep(0.2)
    print("thread")

def main(options):
    print("main")
    threading.Thread(target=work).start()
    {statement}

iterator = Iterator()
atexit.register(print, "exit function")
cli.run(main, dataclasses.make_dataclass("Options", []), argv=["fv-command"])
"""


def call(main, *arguments, positional=()):
    """Runs `main` as an entry point would; returns the exit code."""
    with pytest.raises(SystemExit) as exit:
        cli.run(
            main, Options, positional, description=__doc__, argv=["/usr/bin/fv-command", *arguments]
        )
    return exit.value.code or 0


def returns(code):
    return lambda options, *images: code


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1)])
def test_the_exit_code_is_what_main_returns(returned, code, capsys):
    assert call(returns(returned), "--images=faces") == code
    assert capsys.readouterr() == ("", "")


def test_flags_may_stand_before_and_after_the_positional_arguments():
    seen = []

    def main(options, *images):
        seen.append((options, images))

    call(main, "--images=faces", "A.jpg", "B.jpg", "--steps=3", positional=("IMAGE_A", "IMAGE_B"))
    assert seen == [(Options("faces", steps=3), ("A.jpg", "B.jpg"))]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--images=faces", "--stepz=3"], ["stepz", "steps", "--help"]),
        (["--images=faces", "--steps=many"], ["--steps=many", "--help"]),
        (["--images=faces", "--steps=0"], ["--steps=0", "--help"]),
        (["--images=faces", "--mode=slow"], ["--mode=slow", "fast", "exact"]),
        (["--images=faces", "--flip=perhaps"], ["--flip=perhaps"]),
        (["--steps=3"], ["--images is missing", "folder of images"]),
        (["--images"], ["images"]),
        (["--images=faces", "stray"], ["got stray"]),
        (["--flagfile=no/such.flags"], ["no/such.flags"]),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2(arguments, said, capsys):
    assert call(returns(0), *arguments) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("fv-command: error: ") and error.count("\n") == 1
    assert all(word in error for word in said), error


@pytest.mark.parametrize("arguments", [[], ["A.jpg"], ["A.jpg", "B.jpg", "C.jpg"]])
def test_too_few_or_many_positional_arguments_are_refused_by_their_names(arguments, capsys):
    assert call(returns(0), "--images=faces", *arguments, positional=("IMAGE_A", "IMAGE_B")) == 2
    assert "expected IMAGE_A IMAGE_B" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (UserError("no images\nunder faces"), "no images under faces"),
        (
            FileNotFoundError(2, "No such file or directory", "faces"),
            "No such file or directory: faces",
        ),
        (OSError(28, "No space left on device", "runs/a"), "No space left on device: runs/a"),
    ],
)
def test_what_the_user_can_fix_is_one_line_without_traceback(raised, said, capsys):
    def main(options):
        raise raised

    assert call(main, "--images=faces") == 2
    assert capsys.readouterr().err == f"fv-command: error: {said}\n"


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (OSError(116, "Stale file handle", "/shared/run"), "Stale file handle: /shared/run"),
        (TemporaryError("Input/output error: /shared/run"), "Input/output error: /shared/run"),
    ],
)
def test_what_may_pass_is_one_line_and_a_code_that_asks_for_another_start(raised, said, capsys):
    def main(options):
        raise raised

    assert call(main, "--images=faces") == cli.EXIT_TEMPORARY == 75
    assert (
        capsys.readouterr().err
        == f"fv-command: error: {said}: this may pass, run the same command again\n"
    )


@pytest.mark.parametrize(
    "bug", [ValueError("a bug"), OSError("a bug"), OSError(9, "a bug: bad file descriptor")]
)
def test_a_bug_keeps_its_traceback_and_is_no_verdict(bug, capsys):
    def main(options):
        raise bug

    assert call(main, "--images=faces") == cli.EXIT_BUG == 70
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback") and "a bug" in lines[-1]


def test_an_interrupt_exits_as_shells_expect(capsys):
    def main(options):
        raise KeyboardInterrupt

    assert call(main, "--images=faces") == 130
    assert capsys.readouterr().err == "fv-command: interrupted\n"


def test_a_run_that_saved_and_stopped_as_asked_has_an_exit_code_of_its_own(capsys):
    def main(options):
        raise Stopped("saved at step 3")

    assert call(main, "--images=faces") == cli.EXIT_SAVED == 138
    assert capsys.readouterr().err == "fv-command: saved at step 3\n"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_flag_and_exits_with_0(flag, capsys):
    assert call(returns(1), flag, positional=("IMAGE_A",)) == 0
    out, error = capsys.readouterr()
    assert error == "" and "usage: fv-command [flags] IMAGE_A" in out and "Tests of fv.cli." in out
    for listed in ["--images=", "--steps=10", "--mode=fast", "--flip=False", "--flagfile="]:
        assert f"\n  {listed}\n" in out


def test_a_flagfile_may_include_another_and_hold_whole_line_comments(tmp_path):
    base, derived = tmp_path / "base.flags", tmp_path / "derived.flags"
    base.write_text("# the base\n--images=faces\n--steps=5\n\n--flip\n")
    derived.write_text(f"// only the difference\n--flagfile={base}\n--steps=6\n")
    seen = []
    call(seen.append, f"--flagfile={derived}", "--mode=exact")
    assert seen == [Options("faces", steps=6, mode="exact", inner=Inner(flip=True))]


def test_a_flagfile_that_is_no_text_is_refused(tmp_path, capsys):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    assert call(returns(0), f"--flagfile={tmp_path}/photo.jpg") == 2
    error = capsys.readouterr().err
    assert "flagfile" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("return 3", 3),
        ("raise cli.UserError('no images')", 2),
        ("raise ValueError('a bug')", cli.EXIT_BUG),
    ],
)
def test_a_process_ends_without_deleting_tensorflows_objects(statement, code):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(statement=statement)], capture_output=True, text=True
    )
    wanted = ["main", "thread", "exit function"]
    assert (done.returncode, done.stdout.split("\n")[:-1]) == (code, wanted)
    assert ("Traceback" in done.stderr) == (code == cli.EXIT_BUG)


def test_output_to_a_full_disk_is_an_error_of_the_user():
    script = PROGRAM.format(statement="return 0")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr.startswith("fv-command: error: [Errno 28] No space left on device")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_gets_the_time_to_save(sent, tmp_path):
    """Ctrl-C goes to the whole process group, SIGTERM to the first process alone."""
    (tmp_path / "stage.py").write_text(
        "import pathlib, signal, sys, time\n"
        "def save(*_):\n"
        "    time.sleep(1)\n"
        "    sys.exit(138)\n"
        f"signal.signal({int(sent)}, save)\n"
        f"pathlib.Path({str(tmp_path / 'started')!r}).touch()\n"
        "time.sleep(60)\n"
    )
    program = "from fv import cli; cli.run_module('stage')"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    process = subprocess.Popen(
        [sys.executable, "-c", program], start_new_session=True, env=environment
    )
    while not (tmp_path / "started").exists():
        time.sleep(0.05)
    send = os.killpg if sent == signal.SIGINT else os.kill
    send(process.pid, sent)
    assert process.wait(timeout=60) == 138
