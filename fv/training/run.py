"""A training run from its options: the parts, put together."""

import os
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from fv import files, metrics, workdir
from fv import options as fv_options
from fv.model import encoder, model_record, siamese
from fv.model.scoring import PairScorer
from fv.pipeline import damage
from fv.pipeline.damage import BadRecords
from fv.pipeline.input_pipeline import PairSource
from fv.training import feeding, loop, optimizers
from fv.training import strategy as strategies
from fv.training.checkpoints import Checkpoints
from fv.training.options import TrainOptions
from fv.training.reporter import Reporter
from fv.training.stall import StallMeter
from fv.training.step import TrainStep


def train(options: TrainOptions) -> None:
    """Trains a model, or goes on where an earlier run in the same workdir stopped.

    Raises:
      UserError: shards, workdir, devices or flags do not fit each other, or the loss is no longer finite.
    """
    options.input.check()
    training, validation = feeding.sources(options)
    record = model_record.describe(options.model, training.identities)
    model_record.check_same(record, options.workdir)

    strategy = strategies.start(options.compute, options.seed)
    strategies.check_divides(strategy, options.global_batch_size)
    chief = strategies.is_chief(strategy)
    schedule = optimizers.build_schedule(options.optimization, options.steps)
    with strategy.scope():
        model = _build_model(options, len(training.identities))
        optimizer = optimizers.build_optimizer(options.optimization, schedule)
    checkpoints = Checkpoints(options.workdir, model, optimizer, keep=options.keep_checkpoints, chief=chief)
    first_step = checkpoints.restore()
    if chief:
        _describe_run(options, record)

    plan = loop.Plan(options.steps, options.log_every, options.validate_every, options.checkpoint_every)
    batch, bad = options.global_batch_size, BadRecords(options.tfrecords, options.input.max_bad_records)
    step = TrainStep(strategy, model, optimizer, options.augmentation, global_batch_size=batch, seed=options.seed)
    with Reporter(options.workdir, plan, first_step, schedule, batch, chief=chief, meter=step.meter, bad=bad) as reporter:
        loop.run(
            plan,
            first_step,
            run_steps=_stepper(step, feeding.training_batches(strategy, training, options, first_step, bad), training, bad),
            log=reporter.log,
            validate=_validator(strategy, model, validation, options, bad, reporter),
            save=checkpoints.save,
        )
    if chief:
        _say_what_was_done(options, first_step, step.meter, bad)


def _say_what_was_done(options: TrainOptions, first_step: int, meter: StallMeter, bad: BadRecords) -> None:
    now = max(0, options.steps - first_step)
    print(f"{options.workdir}: at step {max(first_step, options.steps)}, {now} of them now")
    if now:
        print(meter.verdict(feeding.advice(options)))
    if bad.count:
        print(f"{bad.count:,} damaged records were skipped, each is named above: convert again with --overwrite")


def _build_model(options: TrainOptions, identities: int) -> siamese.Siamese:
    weights = None if options.init_weights == "none" else options.init_weights
    model = siamese.build_siamese(options.model, identities, weights=weights, sync_batch_norm=options.sync_batch_norm)
    if options.freeze_backbone:
        encoder.freeze_backbone(model.encoder)
    return model


def _stepper(step: TrainStep, batches: Iterator, source: PairSource, bad: BadRecords) -> Callable[[int, int], np.ndarray]:
    def run_steps(first: int, count: int) -> np.ndarray:
        with damage.reported(source.folder, source.split.shards, bad):
            return step.run(batches, first, count)

    return run_steps


def _validator(
    strategy: tf.distribute.Strategy,
    model: siamese.Siamese,
    source: PairSource,
    options: TrainOptions,
    bad: BadRecords,
    reporter: Reporter,
) -> Callable[[int], None]:
    scorer = PairScorer(strategy, model)
    batches = feeding.validation_batches(strategy, source, options, bad)

    def validate(step: int) -> None:
        with damage.reported(source.folder, source.split.shards, bad):
            similarities, labels = scorer.score(batches)
        curve = metrics.roc(similarities, labels)
        threshold = curve.best_threshold()
        reporter.validated(step, metrics.accuracy(similarities, labels, threshold), curve.auc(), threshold)

    return validate


def _describe_run(options: TrainOptions, record: model_record.ModelRecord) -> None:
    os.makedirs(options.workdir, exist_ok=True)
    with files.atomic_open(os.path.join(options.workdir, workdir.FLAGS)) as file:
        file.write(fv_options.to_flagfile(options))
    model_record.save(record, options.workdir)
