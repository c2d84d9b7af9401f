"""What a run shows: log lines, the progress bar, TensorBoard, and the summary at its end."""

import dataclasses
import math
import os
import sys
import time

import numpy as np
import tensorflow as tf
from absl import logging

from fv import files, progress, workdir
from fv.errors import Stopped
from fv.pipeline.damage import DamagedRecords
from fv.training import feeding, run_record
from fv.training import validation as validations
from fv.training.feeding import StallMeter
from fv.training.optimizers import WarmupThenDecay
from fv.training.options import TrainOptions
from fv.training.run_record import Position
from fv.training.validation import Validation

_LOG_SECONDS = 10.0  # between two log lines, at least
_LOG_LINE = (
    "epoch {epoch:.2f}, loss {loss:.4f}, lr {learning_rate:.2g}, {pairs_per_second:.0f} pairs/s, "
    "input {input_share:.0%}"
)


class Reporter:
    """Shows what a run does while it is entered, and ends with its summary.

    Only the chief's reporter shows and writes anything.
    """

    def __init__(
        self,
        options: TrainOptions,
        *,
        chief: bool,
        start: int,
        first_step: int,
        position: Position,
        epoch_pairs: int,
        schedule: WarmupThenDecay,
        meter: StallMeter,
        damaged: DamagedRecords,
    ):
        """Args:
        options: of the run.
        chief: whether this worker is the chief.
        start: index of this start in run.json, from `run_record.begin_run`; read by the chief only.
        first_step: steps that earlier starts did.
        position: where this start begins in the stream of pairs.
        epoch_pairs: pairs in an epoch.
        schedule: step → learning rate.
        meter: counts the time that the run waits for its input.
        damaged: counts the records that this process skipped.
        """
        self._options, self._chief, self._start = options, chief, start
        self._first_step, self._position, self._epoch_pairs = first_step, position, epoch_pairs
        self._schedule, self._damaged = schedule, damaged
        self._meter, self._logged_meter = meter, dataclasses.replace(meter)
        self._writer = tf.summary.create_noop_writer()
        if self._chief:
            folder = os.path.join(options.workdir, workdir.TENSORBOARD)
            self._writer = tf.summary.create_file_writer(folder)
        self._bar = progress.bar(
            options.steps if self._chief else 0, "train", "step", initial=first_step
        )
        self._step = first_step
        self._loss: float | None = None
        self._validation: Validation | None = None
        self._began = self._rated = time.perf_counter()  # _rated: when the next rate's time begins
        self._first_call_ended, self._first_call_step = self._began, first_step
        self._last_line = -math.inf
        self._has_table = False

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception) -> None:
        """Prints the summary, adds it to run.json, and closes TensorBoard's file."""
        try:
            if self._chief:
                if kind is None:
                    reason = "finished"
                    self._print_progress()
                else:
                    reason = "stopped" if issubclass(kind, Stopped) else "failed"
                summary = self.summary(reason)
                if summary["input_verdict"]:
                    print(summary["input_verdict"])
                print(files.to_json(summary), flush=True)
                run_record.end_run(self._options.workdir, self._start, summary)
        finally:
            self._bar.close()
            self._writer.close()

    def log_first_call(self, step: int, losses: np.ndarray) -> None:
        """Reports the first host call, which ended at `step`; from here on rates are measured."""
        self._first_call_ended, self._first_call_step = time.perf_counter(), step
        if self._chief:
            seconds = self._first_call_ended - self._began
            logging.info(
                "%s: loss %.4f; the first step took %.0f s, compilation included",
                self._step_of_all(step),
                losses[-1],
                seconds,
            )

    def log(self, step: int, losses: np.ndarray) -> None:
        """Reports the steps since the last call, which ended at `step`.

        Args:
          step: steps done.
          losses: float32 [steps since the last call].
        """
        now = time.perf_counter()
        since, since_step = self._rated, self._step
        if self._step < self._first_call_step < step:  # leaves out compilation
            since, since_step = self._first_call_ended, self._first_call_step
        rate = (step - since_step) * self._options.global_batch_size / (now - since)
        new_steps, self._step, self._rated = step - self._step, step, now
        self._loss = float(losses.mean())
        if not self._chief:
            return
        figures = {
            "loss": self._loss,
            "learning_rate": float(self._schedule(step)),
            "pairs_per_second": rate,
            "epoch": self._pairs_done() / self._epoch_pairs,
            "input_share": self._meter.since(self._logged_meter).share,
            "bad_records": self._damaged.count,
        }
        self._logged_meter = dataclasses.replace(self._meter)
        line = _LOG_LINE.format(**figures)
        if self._damaged.count:
            line += f", {self._damaged.count} damaged records skipped"
        self._bar.update(new_steps)
        self._bar.set_postfix_str(line)
        is_due = time.perf_counter() - self._last_line >= _LOG_SECONDS
        if self._bar.disable and (is_due or step == self._options.steps):
            self._last_line = time.perf_counter()
            logging.info("%s: %s%s", self._step_of_all(step), line, self._time_left())
        self._write_scalars(step, **figures)

    def log_validation(self, step: int, result: Validation) -> None:
        """Reports a validation, whose time does not count in the training rate."""
        self._validation = result
        if self._chief:
            self._bar.write(self._describe_validation(step, result))
            sys.stdout.flush()  # else a log file shows the line only when the run ends
            self._write_validation(step, result)
        self._rated = time.perf_counter()

    def summary(self, reason: str) -> dict:
        """The summary of this start, for scripts.

        Args:
          reason: finished, stopped or failed.

        Returns:
          JSON values. `loss` is the mean of the last logged steps; `val_accuracy` and `val_auc` are
          the last validation's; each is None where this start had none. `pairs_per_second` and
          `input_share` leave out compilation, validation and checkpoints. `input_verdict` says
          whether the input bound the run, None before the first step. `seconds` is the whole time.
        """
        steps, result = self._step - self._first_step, self._validation
        rate = steps * self._options.global_batch_size / self._meter.elapsed if steps else None
        advice = feeding.input_advice(self._options)
        return {
            "workdir": self._options.workdir,
            "reason": reason,
            "step": self._step,
            "steps": self._options.steps,
            "steps_now": steps,
            "loss": self._loss,
            "val_accuracy": result and result.accuracy,
            "val_auc": result and result.auc,
            "pairs_per_second": rate and round(rate, 2),
            "input_share": round(self._meter.share, 4),
            "input_verdict": self._meter.verdict(advice) if steps else None,
            "bad_records": self._damaged.count,
            "seconds": round(time.perf_counter() - self._began, 2),
        }

    def _describe_validation(self, step: int, result: Validation) -> str:
        """A row of a table on a terminal, else a sentence."""
        accuracy, auc, threshold = result.accuracy, result.auc, result.threshold
        if self._bar.disable:
            return (
                f"step {step}: val accuracy {accuracy:.4f} at its own best threshold "
                f"{threshold:.4f}, AUC {auc:.4f}"
            )
        loss = math.nan if self._loss is None else self._loss
        row = f"{step:>8,}{loss:>10.4f}{accuracy:>14.4f}{auc:>9.4f}{threshold:>11.4f}"
        if self._has_table:
            return row
        self._has_table = True
        return f"{'step':>8}{'loss':>10}{'val accuracy':>14}{'AUC':>9}{'threshold':>11}\n{row}"

    def _write_scalars(self, step: int, **values: float) -> None:
        """Writes numbers by name, and flushes: TensorBoard's own interval is two minutes."""
        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._writer.flush()

    def _write_validation(self, step: int, result: Validation) -> None:
        """Writes accuracy and AUC, histograms of the similarities, and the sample pairs."""
        labels, similarities = result.labels, result.similarities
        with self._writer.as_default(step=step):
            for name, label in (("genuine", 1), ("impostor", 0)):
                tf.summary.histogram(f"val_similarity/{name}", similarities[labels == label])
            shown = result.sample_indices
            if shown.size:
                sheet = validations.draw_samples(
                    result.sample_images, labels[shown], similarities[shown], result.threshold
                )
                tf.summary.image("val_pairs", sheet[np.newaxis])
        self._write_scalars(
            step, val_accuracy=result.accuracy, val_auc=result.auc, val_threshold=result.threshold
        )

    def _print_progress(self) -> None:
        steps = max(0, self._options.steps - self._first_step)
        last = max(self._first_step, self._options.steps)
        print(f"{self._options.workdir}: trained to step {last}, {steps} steps in this start")
        if self._damaged.count:
            print(
                f"{self._damaged.count:,} damaged records were skipped, each is named above: "
                "remove their shards and convert again with --overwrite"
            )

    def _pairs_done(self) -> int:
        new = (self._step - self._first_step) * self._options.global_batch_size
        return self._position.pairs + new

    def _step_of_all(self, step: int) -> str:
        return f"step {step:,} of {self._options.steps:,}"

    def _time_left(self) -> str:
        """By the time since the first host call, validations and checkpoints included."""
        done, left = self._step - self._first_call_step, self._options.steps - self._step
        if not (done and left):
            return ""
        seconds = (time.perf_counter() - self._first_call_ended) / done * left
        return f", {progress.time_left(seconds)}"
