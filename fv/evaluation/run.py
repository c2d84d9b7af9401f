"""An evaluation from its options: threshold from one split, figures from another."""

import dataclasses
import os

import numpy as np
import pandas as pd
import tensorflow as tf

from fv import files, metrics, progress, workdir
from fv import manifest as manifests
from fv.errors import UserError
from fv.evaluation import plots
from fv.model import model_record, restoring
from fv.model.scoring import PairScorer
from fv.options import option, required
from fv.pipeline import damage, input_pipeline
from fv.pipeline.input_pipeline import PairSource

ROC, HISTOGRAM, SCORES = "roc.png", "histogram.png", "scores.csv"


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """What is evaluated, and on what."""

    workdir: str = required("folder that fv.train wrote; metrics.json and the pictures go there.")
    tfrecords: str = required("folder of shards that tools/make_tfrecords.py wrote.")
    split: str = option("test", "Pairs that the figures are of.", choices=manifests.SPLITS)
    threshold_split: str = option("val", "Pairs that the threshold is chosen on.", choices=manifests.SPLITS)
    threshold_tfrecords: str | None = option(None, "Folder of shards that hold threshold_split; --tfrecords by default.")
    batch_size: int = option(64, "Pairs scored at once.", lower=1)


def evaluate(options: EvaluateOptions) -> None:
    """Scores both splits with the workdir's last checkpoint; writes metrics.json, scores.csv, the pictures; prints a table.

    Raises:
      UserError: no model, no such split, or threshold and figures would come from the same pairs.
    """
    threshold_folder = options.threshold_tfrecords or options.tfrecords
    if (options.split, options.tfrecords) == (options.threshold_split, threshold_folder):
        raise UserError(f"--threshold_split={options.split} is the split that is scored: choose the threshold on another")
    record = model_record.load(options.workdir)
    pixels = (record.options.image_size, record.options.crop_fraction)
    held = {folder: manifests.load(folder) for folder in {threshold_folder, options.tfrecords}}
    chosen_on = PairSource.of(threshold_folder, held[threshold_folder], options.threshold_split, *pixels)
    scored = PairSource.of(options.tfrecords, held[options.tfrecords], options.split, *pixels)
    model, step = restoring.load_model(options.workdir, record)
    scorer = PairScorer(tf.distribute.get_strategy(), model)

    threshold = metrics.best_threshold(*_score(scorer, chosen_on, options.batch_size))
    similarities, labels = _score(scorer, scored, options.batch_size)
    figures = metrics.evaluate(similarities, labels, threshold)
    context = {
        "split": options.split,
        "threshold_split": options.threshold_split,
        "step": step,
        "tfrecords": options.tfrecords,
        "threshold_tfrecords": threshold_folder,
    }
    files.save_json(figures | context, os.path.join(options.workdir, workdir.METRICS))
    with files.atomic_open(os.path.join(options.workdir, SCORES)) as file:
        pd.DataFrame({"similarity": similarities, "label": labels}).to_csv(file, index=False)
    plots.draw_roc(os.path.join(options.workdir, ROC), similarities, labels)
    plots.draw_histogram(os.path.join(options.workdir, HISTOGRAM), similarities, labels, threshold)
    print(_table(figures, context))


def _score(scorer: PairScorer, source: PairSource, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    batches = input_pipeline.evaluation_batches(source, batch_size=batch_size)
    steps = input_pipeline.evaluation_steps(source, batch_size)
    with damage.reported(source.folder, source.split.shards), progress.progress(steps, "score", "batch") as line:
        return scorer.score(batches, line.update)


def _table(figures: dict, context: dict) -> str:
    held, rule = "{split}: {pairs:,} pairs, step {step}", "similarity >= {threshold:.4f}, chosen on {threshold_split}"
    known = figures | context
    lines = [
        held.format(**known),
        f"accuracy      {figures['accuracy']:.4f} ± {figures['accuracy_standard_error']:.4f}  {rule.format(**known)}",
        f"AUC           {figures['auc']:.4f}",
        f"EER           {figures['eer']:.4f}",
    ]
    return "\n".join(lines + [_tar_line(far, point) for far, point in figures["tar_at_far"].items()])


def _tar_line(far: str, point: dict) -> str:
    name = f"TAR@FAR {far}".ljust(14)
    if point["tar"] is None:
        return f"{name}not measurable on {point['impostors']:,} impostor pairs"
    accepted = "{genuine_accepted:,} of {genuine:,} genuine, {impostors_accepted:,} of {impostors:,} impostor pairs accepted"
    return f"{name}{point['tar']:.4f}  {accepted.format(**point)}"
