"""A training run from its options: the parts, put together."""

import contextlib
import os
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from fv import files, folder_lock, ownership, workdir
from fv import options as fv_options
from fv.errors import Stopped
from fv.model import checkpoint_files, initial_weights, model_record
from fv.model.initial_weights import FirstWeights
from fv.pipeline import damage
from fv.pipeline.damage import BadRecords
from fv.pipeline.input_pipeline import PairSource
from fv.training import checkpoints as checkpoints_module
from fv.training import coordination, feeding, learner, loop, optimizers, rendezvous, run_record
from fv.training import strategy as strategies
from fv.training.checkpoints import BestCheckpoint, Checkpoints
from fv.training.coordination import Agreement
from fv.training.learner import Learner
from fv.training.loop import Interruption, Plan, Pulse, Work
from fv.training.monitoring import Reporter, Run
from fv.training.options import TrainOptions
from fv.training.run_record import Position, Start
from fv.training.step import TrainStep
from fv.training.validation import Validator

# What ends a run's output, whichever way it ends: whether the input bound it, and a line of JSON.


@contextlib.contextmanager
def write_summary(reporter: Reporter, start: Start) -> Iterator[None]:
    """Prints the reporter's summary on stdout when the block ends, its verdict on the input first; notes it in run.json."""
    reason = "failed"
    try:
        yield
        reason = "finished"
    except Stopped:
        reason = "stopped"
        raise
    finally:
        summary = reporter.summary(reason)
        if summary["input_verdict"]:
            print(summary["input_verdict"])
        print(files.to_json(summary), flush=True)
        run_record.end_run(start, summary)


def train(options: TrainOptions) -> None:
    """Trains a model, or goes on where an earlier run in the same workdir stopped.

    Raises:
      UserError: shards, workdir, devices or flags do not fit each other, the disk is full, or the loss or
        a weight is no longer finite.
      Stopped: SIGTERM or SIGINT asked for it; all is saved.
      WorkerLost: another worker has ended or is silent.
    """
    options.input.check()
    training, validation = feeding.pair_sources(options)
    record = model_record.describe(options.model, training.identities, training.preprocessing)
    model_record.check_same(record, options.workdir)
    workdir.starts(options.workdir)

    strategy = strategies.start_strategy(
        options.compute, options.seed, rendezvous.shared_flags(options)
    )
    strategies.check_divides(
        strategy, options.global_batch_size, options.optimization.accumulate_steps
    )
    chief = strategies.is_chief(strategy)
    mine = _claimed(options.workdir) if chief else contextlib.nullcontext()
    with (
        coordination.raise_if_worker_lost(strategy),
        checkpoints_module.report_full_disk(options.workdir),
        mine,
    ):
        rate = optimizers.build_schedule(
            options.optimization, options.steps, options.global_batch_size
        )
        first_weights = _find_first_weights(options, record)
        record = (
            first_weights.record if first_weights else model_record.resume(record, options.workdir)
        )
        trained = learner.build(
            options,
            rate,
            strategy,
            training.identities,
            first_weights,
            preprocessing=training.preprocessing,
        )
        agreement = Agreement(strategy)
        checkpoints = Checkpoints(options.workdir, agreement, chief=chief, **trained.state())
        first_step = checkpoints.restore()
        workers = strategies.count_input_workers(strategy)
        place, line = run_record.find_position(options, first_step, workers, training.split.pairs)
        if chief:
            _describe_run(options, record)
            for each in filter(None, (_say_without_validation(options, validation), line)):
                print(each, flush=True)

        plan = Plan(
            options.steps,
            options.report.log_every,
            options.report.validate_every,
            options.saving.checkpoint_every,
        )
        bad = BadRecords(options.tfrecords, options.input.max_bad_records)
        step = _build_step(options, strategy, trained)
        batches = feeding.training_batches(strategy, training, options, place, bad)
        validator = (
            Validator(strategy, trained.judged, validation, options, bad) if validation else None
        )
        kept = BestCheckpoint(options.workdir, agreement, chief=chief)
        counts = (options.global_batch_size, training.split.pairs)
        run = Run(
            options.workdir,
            plan,
            first_step,
            *counts,
            rate,
            chief,
            feeding.input_advice(options),
            place.pairs,
        )
        with (
            Reporter(run, step.meter, bad) as reporter,
            _summarised(options, strategy, run, reporter, place),
        ):
            with Interruption() as interruption:
                pulse = Pulse(agreement, interruption, checkpoints)
                work = Work(
                    run_steps=_stepper(step, batches, training, bad),
                    log=reporter.log,
                    validate=_judge(validator, reporter, kept, checkpoints, pulse),
                    save=checkpoints.save,
                    beat=pulse.beat,
                    begin=reporter.begin,
                )
                loop.run_loop(plan, first_step, work, validated=kept.validated(first_step))
            if chief:
                _say_what_was_done(options, first_step, bad)


def _say_without_validation(options: TrainOptions, validation: PairSource | None) -> str | None:
    if validation:
        return None
    return (
        f"{options.tfrecords} holds no 'val' pairs: the run validates nothing and keeps no best checkpoint; to validate, "
        "give shards that hold some (--val_fraction of tools/make_tfrecords.py)"
    )


@contextlib.contextmanager
def _claimed(folder: str) -> Iterator[None]:
    """Makes the workdir, keeps other runs out of it, and checks that nobody's files stand where the run writes.

    A model.json, which was checked before, marks the workdir of an earlier fv, which listed no files.
    """
    files.make_folder(folder)
    with folder_lock.held(
        folder, f"another run is training in {folder}: wait for it, or give another --workdir"
    ):
        begun = files.exists(os.path.join(folder, workdir.MODEL))
        rewritten = (
            f"{workdir.CHECKPOINTS}/{checkpoint_files.LIST}",
            f"{workdir.BEST}/{checkpoints_module.FILE}",
        )
        foreign = ownership.find_foreign(folder, [workdir.FLAGS, *rewritten], lambda name: begun)
        kept = os.path.join(folder, workdir.BEST)
        if begun:
            checkpoint_files.adopt_unlisted(os.path.join(folder, workdir.CHECKPOINTS))
            checkpoint_files.adopt_unlisted(kept)
        foreign += [
            f"{path}.index"
            for path in checkpoint_files.find_checkpoints(kept)
            if not checkpoint_files.is_listed(path)
        ]
        ownership.require_none(foreign, folder)
        ownership.claim(folder, [workdir.FLAGS, *rewritten], lambda name: begun)
        yield


def _find_first_weights(
    options: TrainOptions, record: model_record.ModelRecord
) -> FirstWeights | None:
    """None for a run that goes on from its own checkpoint, too: it needs no others."""
    begun = checkpoint_files.find_checkpoints(os.path.join(options.workdir, workdir.CHECKPOINTS))
    if begun or options.init_weights == initial_weights.NONE:
        return None
    return FirstWeights(initial_weights.find_weights(options.init_weights, options.model), record)


def _describe_run(options: TrainOptions, record: model_record.ModelRecord) -> None:
    model_record.save(record, options.workdir)
    with ownership.atomic_open(os.path.join(options.workdir, workdir.FLAGS)) as file:
        file.write(fv_options.to_flagfile(options))


def _build_step(
    options: TrainOptions, strategy: tf.distribute.Strategy, trained: Learner
) -> TrainStep:
    return TrainStep(
        strategy,
        trained.model,
        trained.updater,
        options.augmentation,
        global_batch_size=options.global_batch_size,
        seed=options.seed,
        averages=trained.averages,
        teacher=trained.teacher,
        xla=options.compute.xla,
    )


@contextlib.contextmanager
def _summarised(
    options: TrainOptions,
    strategy: tf.distribute.Strategy,
    run: Run,
    reporter: Reporter,
    place: Position,
) -> Iterator[None]:
    if not run.chief:
        yield
        return
    with write_summary(reporter, run_record.begin_run(options, strategy, run.first_step, place)):
        yield


def _stepper(
    step: TrainStep, batches: Iterator, source: PairSource, bad: BadRecords
) -> Callable[[int, int], np.ndarray]:
    def run_steps(first: int, count: int) -> np.ndarray:
        with damage.report_damaged_record(source.folder, source.split.shards, bad):
            return step.run(batches, first, count)

    return run_steps


def _judge(
    validator: Validator | None,
    reporter: Reporter,
    kept: BestCheckpoint,
    checkpoints: Checkpoints,
    pulse: Pulse,
) -> Callable[[int], None]:
    def judge(step: int) -> None:
        if validator is None:
            return
        checkpoints.require_finite(step)
        found = validator.validate(pulse.between_batches)
        reporter.validated(step, found)
        kept.offer(step, found.auc, checkpoints.save_best)

    return judge


def _say_what_was_done(options: TrainOptions, first_step: int, bad: BadRecords) -> None:
    now = max(0, options.steps - first_step)
    print(f"{options.workdir}: at step {max(first_step, options.steps)}, {now} of them now")
    if bad.count:
        print(
            f"{bad.count:,} damaged records were skipped, each is named above: remove their shards and "
            "convert again with --overwrite"
        )
