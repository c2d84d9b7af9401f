"""Tests of fv.progress: bars on a terminal, log lines elsewhere."""

import io
import re

import pytest
from absl import logging

from fv import progress


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The clock's time, which a test moves."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    progress.start_logging()
    return now


def test_without_a_terminal_a_log_line_comes_every_30_seconds(clock, capsys):
    with progress.Progress(400, "embed test", "image") as line:
        for _ in range(4):
            line.update(100)
            clock[0] += 20.0
    (first,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d embed test: 300 of 400 \(75%\), 7\.5 image/s, 00:13 left", first
    )


def test_short_work_without_a_terminal_logs_nothing(clock, capsys):
    with progress.Progress(10, "embed test", "image") as line:
        line.update(10)
        assert line.n == 10
    assert capsys.readouterr().err == ""


def test_units_that_were_done_before_are_not_part_of_the_rate(clock, capsys):
    with progress.Progress(400, "write", "pair", initial=300) as line:
        clock[0] += 40.0
        line.update(20)
    assert "write: 320 of 400 (80%), 0.5 pair/s, 02:40 left" in capsys.readouterr().err


def test_on_a_terminal_the_bar_stays_and_log_lines_stand_above_it(clock, monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", screen)
    with progress.Progress(400, "embed test", "image") as line:
        line.update(100)
        logging.warning("a line")
        clock[0] += 60.0
        line.update(100)
    said = screen.getvalue()
    assert (
        "embed test:" in said
        and "100/400" in said
        and " warning: a line\n" in said
        and "image/s, 0" not in said
    )
    begin = said.index(" warning: a line\n") + len(" warning: a line\n")
    assert "embed test" in said[begin:] and said[: begin - 1].rpartition("\r")[2][2] == ":"
    assert not re.search(r"\d embed test", said)


def test_log_lines_appear_once_however_often_logging_is_started(capsys):
    progress.start_logging()
    progress.start_logging()
    logging.warning("a line")
    assert capsys.readouterr().err.count("a line") == 1


def test_what_other_packages_log_is_hidden_but_for_warnings(capsys):
    progress.start_logging()
    logging.info("sharding callback duration")
    logging.warning("deprecated")
    said = capsys.readouterr().err
    assert "sharding" not in said and "deprecated" in said
