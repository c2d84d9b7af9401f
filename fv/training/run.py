"""A training run from its options: the parts, put together."""

import os
from collections.abc import Iterator

import tensorflow as tf

from fv import files, metrics, workdir
from fv import manifest as manifests
from fv import options as fv_options
from fv.model import encoder, model_record, siamese
from fv.model.scoring import PairScorer
from fv.pipeline import input_pipeline
from fv.pipeline.input_pipeline import PairSource
from fv.training import loop, optimizers
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
    training = _source(options, manifest, "train")
    validation = _source(options, manifest, "val")
    record = model_record.describe(options.model, training.identities)
    model_record.check_same(record, options.workdir)

    strategy = strategies.start(options.compute, options.seed)
    batch_size = strategies.per_replica_batch(strategy, options.global_batch_size)
    chief = strategies.is_chief(strategy)
    schedule = optimizers.build_schedule(options.optimization, options.steps)
    with strategy.scope():
        model = _build_model(options, len(training.identities))
        optimizer = optimizers.build_optimizer(options.optimization, schedule)
    step = TrainStep(
        strategy, model, optimizer, options.augmentation, global_batch_size=options.global_batch_size, seed=options.seed
    )
    checkpoints = Checkpoints(options.workdir, model, optimizer, keep=options.keep_checkpoints, chief=chief)
    first_step = checkpoints.restore()
    if chief:
        _describe_run(options, record)

    batches = _training_batches(strategy, training, batch_size, first_step, options)
    plan = loop.Plan(options.steps, options.log_every, options.validate_every, options.checkpoint_every)
    reporter = Reporter(
        options.workdir, plan, first_step, schedule, global_batch_size=options.global_batch_size, chief=chief
    )
    scorer = PairScorer(strategy, model)
    validation_batches = _validation_batches(strategy, validation, batch_size)

    def validate(done: int) -> None:
        similarities, labels = scorer.score(validation_batches)
        threshold = metrics.best_threshold(similarities, labels)
        accuracy = metrics.accuracy(similarities, labels, threshold)
        reporter.validated(done, accuracy, metrics.auc(similarities, labels), threshold)

    loop.run(
        plan,
        first_step,
        run_steps=lambda first, count: step.run(batches, first, count),
        log=reporter.log,
        validate=validate,
        save=checkpoints.save,
    )
    reporter.close()


def _source(options: TrainOptions, manifest: manifests.Manifest, split: str) -> PairSource:
    return PairSource(
        folder=options.tfrecords,
        split=manifest.split(split),
        image_size=options.model.image_size,
        crop_fraction=options.model.crop_fraction,
        identities=manifest.split("train").identities,
    )


def _build_model(options: TrainOptions, identities: int) -> siamese.Siamese:
    weights = None if options.init_weights == "none" else options.init_weights
    model = siamese.build_siamese(options.model, identities, weights=weights, sync_batch_norm=options.sync_batch_norm)
    if options.freeze_backbone:
        encoder.freeze_backbone(model.encoder)
    return model


def _training_batches(
    strategy: tf.distribute.Strategy, source: PairSource, batch_size: int, first_step: int, options: TrainOptions
) -> Iterator:
    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return input_pipeline.training_batches(
            source,
            batch_size=batch_size,
            seed=options.seed,
            shuffle_buffer=options.shuffle_buffer,
            start_record=first_step * options.global_batch_size // context.num_input_pipelines,
            worker=context.input_pipeline_id,
            workers=context.num_input_pipelines,
        )

    return iter(strategy.distribute_datasets_from_function(batches))


def _validation_batches(strategy: tf.distribute.Strategy, source: PairSource, batch_size: int) -> tf.data.Dataset:
    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        workers = context.num_input_pipelines
        return input_pipeline.evaluation_batches(
            source,
            batch_size=batch_size,
            worker=context.input_pipeline_id,
            workers=workers,
            replicas=strategy.num_replicas_in_sync // workers,
        )

    return strategy.distribute_datasets_from_function(batches)


def _describe_run(options: TrainOptions, record: model_record.ModelRecord) -> None:
    os.makedirs(options.workdir, exist_ok=True)
    with files.atomic_open(os.path.join(options.workdir, workdir.FLAGS)) as file:
        file.write(fv_options.to_flagfile(options))
    model_record.save(record, options.workdir)
