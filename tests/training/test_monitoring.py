import glob
import io
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from fv import progress
from fv.pipeline.damage import DamagedRecords
from fv.training import feeding
from fv.training.feeding import StallMeter
from fv.training.monitoring import Reporter
from fv.training.options import TrainOptions
from fv.training.run_record import Position
from fv.training.validation import Validation

PAIRS, BATCH = 40, 8


def make_reporter(
    folder,
    *,
    meter: StallMeter | None = None,
    chief: bool = True,
    first_step: int = 0,
) -> Reporter:
    """The reporter of a run of 30 steps in `folder`."""
    options = TrainOptions("", str(folder), steps=30, global_batch_size=BATCH)
    if chief:
        pathlib.Path(folder, "run.json").write_text('{"starts": [{}]}')
    return Reporter(
        options,
        chief=chief,
        start=0,
        first_step=first_step,
        position=Position(),
        epoch_pairs=PAIRS,
        schedule=lambda step: 0.1 / (1 + step),
        meter=meter or StallMeter(elapsed=1.0),
        damaged=DamagedRecords(str(folder)),
    )


def found() -> Validation:
    labels = np.array([1, 0, 1, 0, 1], np.int32)
    similarities = np.array([0.9, 0.2, 0.4, 0.6, 0.8], np.float32)
    images = np.full((2, 2, 16, 16, 3), 100, np.uint8)
    return Validation(similarities, labels, 0.8, 0.9, 0.7, np.array([0, 1]), images)


def events(folder) -> dict[str, dict[int, object]]:
    """Tag → step → tensor."""
    shown = {}
    for path in glob.glob(os.path.join(folder, "tensorboard", "*tfevents*")):
        for event in EventFileLoader(path).Load():
            for value in event.summary.value:
                shown.setdefault(value.tag, {})[event.step] = tf.make_ndarray(value.tensor)
    return shown


def test_the_chief_writes_scalars_histograms_and_sample_pairs(tmp_path, capsys):
    meter = StallMeter()
    with make_reporter(tmp_path, meter=meter) as reporter:
        meter.add(waited=1.0, elapsed=4.0)
        reporter.log(10, np.array([2.0, 1.0], np.float32))
        shown = events(tmp_path)  # before the end: TensorBoard is shown each entry at once
        assert (
            shown["loss"][10] == 1.5
            and shown["epoch"][10] == 2.0
            and shown["input_share"][10] == 0.25
        )
        assert shown["learning_rate"][10] == pytest.approx(0.1 / 11)
        reporter.log_validation(10, found())
    shown = events(tmp_path)
    assert shown["val_auc"][10] == pytest.approx(0.9) and shown["val_accuracy"][
        10
    ] == pytest.approx(0.8)
    genuine, impostor = (shown[f"val_similarity/{name}"][10] for name in ("genuine", "impostor"))
    assert genuine[:, 2].sum() == 3 and impostor[:, 2].sum() == 2  # the third column counts
    assert genuine[0, 0] == pytest.approx(0.4) and impostor[-1, 1] == pytest.approx(0.6)
    assert Image.open(io.BytesIO(shown["val_pairs"][10][2])).width > 4 * 16
    assert "step 10: val accuracy 0.8000" in capsys.readouterr().out


def test_the_other_workers_show_and_write_nothing(tmp_path, capsys):
    progress.start_logging()
    with make_reporter(tmp_path, chief=False) as reporter:
        reporter.log(10, np.ones(10, np.float32))
        reporter.log_first_call(1, np.ones(1, np.float32))
        reporter.log_validation(10, found())
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr() == ("", "")


def test_the_summary_has_loss_validation_and_the_rate_of_steps_alone(tmp_path):
    meter = StallMeter()
    with make_reporter(tmp_path, meter=meter, first_step=10) as reporter:
        before = reporter.summary("failed")
        meter.add(waited=0.5, elapsed=2.0)
        reporter.log(20, np.array([3.0, 5.0], np.float32))
        reporter.log_validation(20, found())
        summary = reporter.summary("stopped")
    assert (
        before["loss"] is before["val_auc"] is before["pairs_per_second"] is None
        and before["step"] == 10
    )
    assert summary["reason"] == "stopped" and summary["loss"] == 4.0 and summary["val_auc"] == 0.9
    assert (summary["step"], summary["steps_now"], summary["steps"]) == (20, 10, 30)
    assert summary["pairs_per_second"] == 10 * BATCH / 2.0 and summary["input_share"] == 0.25
    advice = feeding.input_advice(TrainOptions("", ""))
    assert before["input_verdict"] is None
    assert summary["input_verdict"].endswith(f"input-bound; {advice}")


def test_the_progress_bar_shows_epoch_loss_rate_and_input_share(tmp_path, monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", screen)
    meter = StallMeter()
    with make_reporter(tmp_path, meter=meter) as reporter:
        meter.add(waited=1.0, elapsed=4.0)
        reporter.log(10, np.array([2.0], np.float32))
    for part in ("epoch 2.00", "loss 2.0000", "lr 0.0091", "pairs/s", "input 25%", "10/30"):
        assert part in screen.getvalue()


def test_on_a_terminal_validations_are_rows_of_one_table(tmp_path, monkeypatch, capsys):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", screen)
    with make_reporter(tmp_path) as reporter:
        reporter.log(10, np.array([2.0], np.float32))
        reporter.log_validation(10, found())
        reporter.log_validation(20, found())
    heading, first, second = capsys.readouterr().out.splitlines()[:3]
    assert heading.split() == ["step", "loss", "val", "accuracy", "AUC", "threshold"]
    assert first.split() == ["10", "2.0000", "0.8000", "0.9000", "0.7000"]
    assert second.split()[0] == "20" and len(heading) == len(first) == len(second)


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The clock's time, which a test moves."""
    now = [1000.0]
    monkeypatch.setattr("fv.training.monitoring.time.perf_counter", lambda: now[0])
    progress.start_logging()
    return now


def test_without_a_terminal_first_step_and_logs_are_lines_on_stderr(tmp_path, clock, capsys):
    meter = StallMeter()
    with make_reporter(tmp_path, meter=meter) as reporter:
        clock[0] += 40.0
        reporter.log_first_call(1, np.array([4.0], np.float32))
        clock[0] += 18.0
        meter.add(waited=1.0, elapsed=4.0)
        reporter.log(10, np.array([2.0], np.float32))
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(
        " step 1 of 30: loss 4.0000; the first step took 40 s, compilation included"
    )
    assert second.endswith(
        " step 10 of 30: epoch 2.00, loss 2.0000, lr 0.0091, 4 pairs/s, input 25%, 00:40 left"
    )


def test_log_lines_come_at_most_every_10_seconds_and_at_the_end(tmp_path, clock, capsys):
    with make_reporter(tmp_path) as reporter:
        for step in (2, 4, 6, 30):
            clock[0] += 6.0
            reporter.log(step, np.array([2.0], np.float32))
    said = [
        line.partition(" ")[2].partition(":")[0] for line in capsys.readouterr().err.splitlines()
    ]
    assert said == ["step 2 of 30", "step 6 of 30", "step 30 of 30"]


def test_the_first_rate_is_without_compilation(tmp_path, clock):
    with make_reporter(tmp_path) as reporter:
        clock[0] += 100.0
        reporter.log_first_call(1, np.array([4.0], np.float32))
        clock[0] += 9.0
        reporter.log(10, np.array([2.0], np.float32))
    assert events(tmp_path)["pairs_per_second"][10] == pytest.approx(BATCH)
