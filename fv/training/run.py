"""A training run, from its options to the trained model."""

import contextlib
import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from fv import files, ownership, workdir
from fv import options as fv_options
from fv.errors import UserError
from fv.model import checkpoint_files, initial_weights, model_record
from fv.model.initial_weights import FirstWeights
from fv.model.model_record import ModelRecord
from fv.pipeline import damage
from fv.pipeline.damage import DamagedRecords
from fv.pipeline.input_pipeline import PairSource
from fv.training import checkpoints as checkpoints_module
from fv.training import feeding, rendezvous, run_record
from fv.training import learner as learners
from fv.training import strategy as strategies
from fv.training.checkpoints import Checkpoints
from fv.training.loop import Interruption, TrainingLoop
from fv.training.monitoring import Reporter
from fv.training.options import TrainOptions
from fv.training.step import TrainStep
from fv.training.strategy import Agreement
from fv.training.validation import Validator


def train(options: TrainOptions) -> None:
    """Trains a model, or continues where an earlier run in the same workdir stopped.

    Raises:
      UserError: shards, workdir, devices or flags do not fit each other, the disk is full, or the
        loss or a weight is no longer finite.
      Stopped: SIGTERM or SIGINT asked for it; everything is saved.
      WorkerLost: another worker has ended or is silent.
    """
    options.input.check()
    options.teaching.check()
    if files.exists(os.path.join(options.workdir, workdir.WHITENING)):
        whitened = f"{options.workdir} is a copy that fv.whiten wrote, and holds no run to continue"
        raise UserError(f"{whitened}: give a new --workdir and --init_weights={options.workdir}")
    training, validation = feeding.pair_sources(options)
    record = model_record.describe(options.model, training.identities, training.preprocessing)
    model_record.check_same(record, options.workdir)
    workdir.starts(options.workdir)  # refuses another program's run.json

    strategy = strategies.start_strategy(
        options.compute, options.seed, rendezvous.shared_flags(options)
    )
    strategies.check_divides(
        strategy, options.global_batch_size, options.optimization.accumulate_steps
    )
    with (
        strategies.raise_if_worker_lost(strategy),
        checkpoints_module.report_full_disk(options.workdir),
        _claim_workdir(options.workdir, chief=strategies.is_chief(strategy)),
    ):
        _train(options, strategy, record, training, validation)


def _train(
    options: TrainOptions,
    strategy: tf.distribute.Strategy,
    record: ModelRecord,
    training: PairSource,
    validation: PairSource | None,
) -> None:
    chief, epoch_pairs = strategies.is_chief(strategy), training.split.pairs

    # What is trained, and where an earlier start left it.
    first_weights = _find_first_weights(options, record)
    if first_weights:
        noted = first_weights.record
    else:
        noted = model_record.resume(record, options.workdir)
    learner = learners.build(options, strategy, training, record, first_weights)
    agreement = Agreement(strategy)
    checkpoints = Checkpoints(options.workdir, agreement, chief=chief, **learner.trackables())
    first_step = checkpoints.restore()
    position, new_epoch = run_record.find_position(
        options, first_step, strategies.count_input_workers(strategy), epoch_pairs
    )
    if chief:
        _write_description(options, noted)
        if validation is None:
            print(_no_validation(options), flush=True)
        if new_epoch:
            print(new_epoch, flush=True)

    # The step and its input.
    step = TrainStep(
        strategy,
        learner.model,
        learner.updater,
        options.augmentation,
        global_batch_size=options.global_batch_size,
        seed=options.seed,
        averages=learner.averages,
        teacher=learner.teacher,
        teacher_mixup=options.teaching.teacher_mixup,
        xla=options.compute.xla,
    )
    damaged = DamagedRecords(options.tfrecords, options.input.max_bad_records)
    batches = feeding.training_batches(strategy, training, options, position, damaged)

    def run_steps(first: int, count: int) -> np.ndarray:
        with damage.name_damaged_record(training.folder, training.split.shards, damaged):
            return step.run(batches, first, count)

    validator = None
    if validation:
        validator = Validator(strategy, learner.eval_model, validation, options, damaged)

    # The loop.
    start = run_record.begin_run(options, strategy, first_step, position) if chief else 0
    reporter = Reporter(
        options,
        chief=chief,
        start=start,
        first_step=first_step,
        position=position,
        epoch_pairs=epoch_pairs,
        schedule=learner.schedule,
        meter=step.meter,
        damaged=damaged,
    )
    with reporter, Interruption() as interruption:
        TrainingLoop(
            options,
            run_steps,
            agreement=agreement,
            interruption=interruption,
            reporter=reporter,
            checkpoints=checkpoints,
            validator=validator,
        ).run(first_step)


@contextlib.contextmanager
def _claim_workdir(folder: str, *, chief: bool) -> Iterator[None]:
    """Makes the workdir, locks it, and checks that no file of others stands where fv writes.

    Only the chief writes. A model.json, which was checked before, marks the copy of a workdir
    without its hidden folder, which lists fv's files.

    Raises:
      UserError: another run trains there, or there are files of others.
    """
    if not chief:
        yield
        return
    files.make_folder(folder)
    busy = f"another run is training in {folder}: wait for it, or give another --workdir"
    with files.lock_folder(folder, busy):
        begun = files.exists(os.path.join(folder, workdir.MODEL))
        best = os.path.join(folder, workdir.BEST)
        if begun:
            checkpoint_files.adopt_unlisted(os.path.join(folder, workdir.CHECKPOINTS))
            checkpoint_files.adopt_unlisted(best)
        rewritten = [
            workdir.FLAGS,
            f"{workdir.CHECKPOINTS}/{checkpoint_files.LIST}",
            f"{workdir.BEST}/{checkpoints_module.VALIDATION_FILE}",
        ]
        foreign = ownership.find_foreign(folder, rewritten, lambda name: begun)
        foreign += [
            f"{path}.index"
            for path in checkpoint_files.find_checkpoints(best)
            if not checkpoint_files.is_listed(path)
        ]
        ownership.refuse_foreign(foreign, folder)
        ownership.claim(folder, rewritten, lambda name: begun)
        yield


def _find_first_weights(options: TrainOptions, record: ModelRecord) -> FirstWeights | None:
    """The weights of --init_weights; None where the run has a checkpoint of its own."""
    begun = checkpoint_files.find_checkpoints(os.path.join(options.workdir, workdir.CHECKPOINTS))
    if begun or options.init_weights == initial_weights.NONE:
        return None
    source = initial_weights.find_weights(options.init_weights, options.model)
    return FirstWeights(source, record)


def _write_description(options: TrainOptions, record: ModelRecord) -> None:
    """Writes model.json and train.flags."""
    model_record.save(record, options.workdir)
    with ownership.atomic_open(os.path.join(options.workdir, workdir.FLAGS)) as file:
        file.write(fv_options.to_flagfile(options))


def _no_validation(options: TrainOptions) -> str:
    return (
        f"{options.tfrecords} holds no 'val' pairs: the run validates nothing and keeps no best "
        "checkpoint; to validate, give shards that hold some "
        "(--val_fraction of tools/make_tfrecords.py)"
    )
