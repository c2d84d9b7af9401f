"""A training run from its options: the parts, put together."""

import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras

from fv import files, metrics, workdir
from fv import manifest as manifests
from fv import options as fv_options
from fv.model import encoder, model_record, siamese
from fv.model.scoring import PairScorer
from fv.pipeline import damage
from fv.pipeline.input_pipeline import PairSource
from fv.training import feeding, loop, optimizers
from fv.training import strategy as strategies
from fv.training.checkpoints import Checkpoints
from fv.training.options import TrainOptions
from fv.training.reporter import Reporter
from fv.training.step import TrainStep


def train(options: TrainOptions) -> None:
    """Trains a model, or goes on where an earlier run in the same workdir stopped.

    Raises:
      UserError: shards, workdir, devices or flags do not fit each other, or the loss is no longer finite.
    """
    manifest = manifests.load(options.tfrecords)
    pixels = (options.model.image_size, options.model.crop_fraction)
    training, validation = (PairSource.of(options.tfrecords, manifest, split, *pixels) for split in ("train", "val"))
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
    with Reporter(options.workdir, plan, first_step, schedule, options.global_batch_size, chief) as reporter:
        loop.run(
            plan,
            first_step,
            run_steps=_stepper(options, strategy, model, optimizer, training, first_step),
            log=reporter.log,
            validate=_validator(options, strategy, model, validation, reporter),
            save=checkpoints.save,
        )
    if chief:
        print(
            f"{options.workdir}: at step {max(first_step, options.steps)}, {max(0, options.steps - first_step)} of them now"
        )


def _build_model(options: TrainOptions, identities: int) -> siamese.Siamese:
    weights = None if options.init_weights == "none" else options.init_weights
    model = siamese.build_siamese(options.model, identities, weights=weights, sync_batch_norm=options.sync_batch_norm)
    if options.freeze_backbone:
        encoder.freeze_backbone(model.encoder)
    return model


def _stepper(
    options: TrainOptions,
    strategy: tf.distribute.Strategy,
    model: siamese.Siamese,
    optimizer: tf_keras.optimizers.Optimizer,
    source: PairSource,
    first_step: int,
) -> Callable[[int, int], np.ndarray]:
    batch = options.global_batch_size
    step = TrainStep(strategy, model, optimizer, options.augmentation, global_batch_size=batch, seed=options.seed)
    batches = feeding.training_batches(strategy, source, options, first_step)

    def run_steps(first: int, count: int) -> np.ndarray:
        with damage.reported(options.tfrecords):
            return step.run(batches, first, count)

    return run_steps


def _validator(
    options: TrainOptions,
    strategy: tf.distribute.Strategy,
    model: siamese.Siamese,
    source: PairSource,
    reporter: Reporter,
) -> Callable[[int], None]:
    scorer = PairScorer(strategy, model)
    batches = feeding.validation_batches(strategy, source, options)

    def validate(step: int) -> None:
        with damage.reported(options.tfrecords):
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
