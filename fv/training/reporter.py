"""What a person watches: the progress line, validation lines, TensorBoard scalars."""

import dataclasses
import os
import sys
import time

import numpy as np
import tensorflow as tf

from fv import progress, workdir
from fv.pipeline.damage import BadRecords
from fv.training.loop import Plan
from fv.training.optimizers import WarmupThenDecay
from fv.training.stall import StallMeter


class Reporter:
    """Shows a run's state; the chief's only, the other workers stay silent."""

    def __init__(
        self,
        folder: str,
        plan: Plan,
        first_step: int,
        schedule: WarmupThenDecay,
        global_batch_size: int,
        *,
        chief: bool,
        meter: StallMeter,
        bad: BadRecords,
    ):
        self._schedule, self._global_batch_size, self._chief = schedule, global_batch_size, chief
        self._meter, self._metered, self._bad = meter, StallMeter(), bad
        self._writer = tf.summary.create_file_writer(os.path.join(folder, workdir.TENSORBOARD)) if chief else None
        self._line = progress.progress(plan.steps if chief else 0, "train", "step", initial=first_step)
        self._last_step, self._last_time = first_step, time.perf_counter()

    def log(self, step: int, losses: np.ndarray) -> None:
        """Reports the steps since the last log, which ended at `step`."""
        now = time.perf_counter()
        rate = (step - self._last_step) * self._global_batch_size / (now - self._last_time)
        learning_rate = float(self._schedule(step))
        if self._chief:
            self._line.update(step - self._last_step)
            share = self._meter.since(self._metered).share
            pace = f"{rate:.0f} pairs/s, input {share:.0%}{self._skipped()}"
            self._line.set_postfix_str(f"loss {losses.mean():.4f}, lr {learning_rate:.2g}, {pace}")
            self._write(step, loss=losses.mean(), learning_rate=learning_rate, pairs_per_second=rate)
            self._write(step, input_share=share, bad_records=self._bad.count)
            self._metered = dataclasses.replace(self._meter)
        self._last_step, self._last_time = step, now

    def validated(self, step: int, accuracy: float, auc: float, threshold: float) -> None:
        """Reports a validation and leaves the time that it took out of the training rate."""
        if self._chief:
            scores = f"val accuracy {accuracy:.4f} at its own best threshold {threshold:.4f}, AUC {auc:.4f}"
            self._line.write(f"step {step}: {scores}")
            sys.stdout.flush()  # a log file shows it now, not when the run ends
            self._write(step, val_accuracy=accuracy, val_auc=auc)
        self._last_time = time.perf_counter()

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *exception) -> None:
        """Ends the progress line and flushes TensorBoard's file."""
        self._line.close()
        if self._writer:
            self._writer.close()

    def _skipped(self) -> str:
        return f", {self._bad.count} bad records skipped" if self._bad.count else ""

    def _write(self, step: int, **scalars: float) -> None:
        with self._writer.as_default(step=step):
            for name, value in scalars.items():
                tf.summary.scalar(name, value)
