"""What TensorBoard is given: scalars, and what each validation found."""

import dataclasses
import math
import os
import sys
import time

import numpy as np
import tensorflow as tf
from absl import logging

from fv import progress, workdir
from fv.pipeline.damage import BadRecords
from fv.training import validation as validations
from fv.training.feeding import StallMeter
from fv.training.loop import Plan
from fv.training.optimizers import WarmupThenDecay
from fv.training.validation import Validation


class Board:
    """A TensorBoard event file."""

    def __init__(self, folder: str):
        self._writer = tf.summary.create_file_writer(folder)

    def scalars(self, step: int, **values: float) -> None:
        """Writes numbers by their names, and all that is in memory: TensorBoard shows them now, not in two minutes."""
        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._writer.flush()

    def validation(self, step: int, found: Validation) -> None:
        """Writes a validation: its figures, the similarities of both kinds of pairs, and the sample pairs with theirs."""
        with self._writer.as_default(step=step):
            for name, label in (("genuine", 1), ("impostor", 0)):
                tf.summary.histogram(
                    f"val_similarity/{name}", found.similarities[found.labels == label]
                )
            if found.shown.size:
                pairs = (part[found.shown] for part in (found.labels, found.similarities))
                tf.summary.image(
                    "val_pairs",
                    validations.draw_samples(found.images, *pairs, found.threshold)[np.newaxis],
                )
        self.scalars(
            step, val_accuracy=found.accuracy, val_auc=found.auc, val_threshold=found.threshold
        )

    def close(self) -> None:
        """Writes what is still in memory."""
        self._writer.close()


# What a person watches: progress and log lines, validation lines, TensorBoard; and the summary
# that a script reads.

_LOG_SECONDS = 10.0  # between two log lines, at least


@dataclasses.dataclass(frozen=True)
class Run:
    """What a reporter has to know of the run that it reports.

    Attributes:
      folder: the workdir.
      plan: when what happens.
      first_step: steps that earlier starts did.
      global_batch_size: pairs per step.
      pairs: pairs in an epoch.
      schedule: step → learning rate.
      chief: whether this process shows and writes anything.
      advice: what to change where the run waits for its input.
      pairs_before: pairs that earlier starts trained on.
    """

    folder: str
    plan: Plan
    first_step: int
    global_batch_size: int
    pairs: int
    schedule: WarmupThenDecay
    chief: bool
    advice: str
    pairs_before: int = 0


class Reporter:
    """Shows a run's state; the chief's only, the other workers stay silent."""

    def __init__(self, run: Run, meter: StallMeter, bad: BadRecords):
        """Args:
        run: what is reported.
        meter: counts the time that the run waits for its input.
        bad: counts the records that were skipped.
        """
        self._run, self._meter, self._metered, self._bad = (
            run,
            meter,
            dataclasses.replace(meter),
            bad,
        )
        self._board = Board(os.path.join(run.folder, workdir.TENSORBOARD)) if run.chief else None
        self._line = progress.bar(
            run.plan.steps if run.chief else 0, "train", "step", initial=run.first_step
        )
        self._began = self._last_time = time.perf_counter()
        self._step, self._loss, self._validation = run.first_step, None, None
        self._first_time, self._paced_step, self._logged = self._began, run.first_step, -math.inf

    def begin(self, step: int, losses: np.ndarray) -> None:
        """Reports the first host call, which ended at `step`: the run works, and rates are counted from here."""
        self._first_time, self._paced_step = time.perf_counter(), step
        if self._run.chief:
            took = (
                f"the first step took {self._first_time - self._began:.0f} s, compilation included"
            )
            logging.info("step %s: loss %.4f; %s", self._place(step), losses[-1], took)

    def log(self, step: int, losses: np.ndarray) -> None:
        """Reports the steps since the last log, which ended at `step`; `losses` are those of each."""
        now, steps = time.perf_counter(), step - self._step
        since, counted = self._last_time, steps
        if self._step < self._paced_step < step:
            since, counted = self._first_time, step - self._paced_step  # without compilation
        rate = counted * self._run.global_batch_size / (now - since)
        self._step, self._loss, self._last_time = step, float(losses.mean()), now
        if self._run.chief:
            self._show(steps, rate)

    def validated(self, step: int, found: Validation) -> None:
        """Reports a validation and leaves the time that it took out of the training rate."""
        if self._run.chief:
            accuracy = (
                f"val accuracy {found.accuracy:.4f} at its own best threshold {found.threshold:.4f}"
            )
            self._line.write(f"step {step}: {accuracy}, AUC {found.auc:.4f}")
            sys.stdout.flush()  # a log file shows it now, not when the run ends
            self._board.validation(step, found)
        self._validation = found
        self._last_time = time.perf_counter()

    def summary(self, reason: str) -> dict:
        """What a script wants to know at the end: how far the run came, how good, how fast, and why it ended.

        Args:
          reason: finished, stopped or failed.

        Returns:
          JSON values. `loss` is the mean since the last log but one, `val_accuracy` and `val_auc` are of the last validation
          of this start, each None where there was none; `pairs_per_second` and `input_share` are of the steps alone, without
          compilation, validation and checkpoints, and `input_verdict` says in words, for fv.evaluate too, whether the input
          bound them (None before the first); `seconds` begin before the first step is compiled.
        """
        steps, found = self._step - self._run.first_step, self._validation
        rate = steps * self._run.global_batch_size / self._meter.elapsed if steps else None
        return {
            "workdir": self._run.folder,
            "reason": reason,
            "step": self._step,
            "steps": self._run.plan.steps,
            "steps_now": steps,
            "loss": self._loss,
            "val_accuracy": found and found.accuracy,
            "val_auc": found and found.auc,
            "pairs_per_second": rate and round(rate, 2),
            "input_share": round(self._meter.share, 4),
            "input_verdict": self._meter.verdict(self._run.advice) if steps else None,
            "bad_records": self._bad.count,
            "seconds": round(time.perf_counter() - self._began, 2),
        }

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *exception) -> None:
        """Ends the progress line and flushes TensorBoard's file."""
        self._line.close()
        if self._board:
            self._board.close()

    def _show(self, steps: int, rate: float) -> None:
        share = self._meter.since(self._metered).share
        self._metered = dataclasses.replace(self._meter)
        learning_rate = float(self._run.schedule(self._step))
        done = (
            self._run.pairs_before
            + (self._step - self._run.first_step) * self._run.global_batch_size
        )
        epoch = done / self._run.pairs
        self._line.update(steps)
        pace = f"{rate:.0f} pairs/s, input {share:.0%}{self._skipped()}"
        shown = f"epoch {epoch:.2f}, loss {self._loss:.4f}, lr {learning_rate:.2g}, {pace}"
        self._line.set_postfix_str(shown)
        if self._step == self._run.plan.steps or time.perf_counter() - self._logged >= _LOG_SECONDS:
            self._logged = time.perf_counter()
            logging.info("step %s: %s%s", self._place(self._step), shown, self._time_left())
        figures = dict(loss=self._loss, learning_rate=learning_rate, pairs_per_second=rate)
        self._board.scalars(
            self._step, **figures, epoch=epoch, input_share=share, bad_records=self._bad.count
        )

    def _place(self, step: int) -> str:
        return f"{step:,} of {self._run.plan.steps:,}"

    def _time_left(self) -> str:
        """By the time since the first host call, validations and checkpoints included."""
        done, left = self._step - self._paced_step, self._run.plan.steps - self._step
        if not (done and left):
            return ""
        return f", {progress.time_left((time.perf_counter() - self._first_time) / done * left)}"

    def _skipped(self) -> str:
        return f", {self._bad.count} bad records skipped" if self._bad.count else ""
