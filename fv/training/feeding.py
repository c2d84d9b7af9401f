"""The input of a run: its pairs, as batches that the strategy distributes, and how long it waits.

The pipeline that reads and decodes them is in `fv.pipeline`.
"""

import dataclasses
import math
from collections.abc import Iterator

import tensorflow as tf

from fv import manifest
from fv.errors import UserError
from fv.manifest import Manifest
from fv.pipeline import input_pipeline, shards
from fv.pipeline.damage import DamagedRecords
from fv.pipeline.input_pipeline import PairSource
from fv.training import teacher as teachers
from fv.training.options import TrainOptions
from fv.training.run_record import Position

BOUND_SHARE = 0.1  # share of the time spent waiting from which on a run is input-bound
_PAIR_HEADS = ("sigmoid", "distance")  # learn from the labels of pairs, and so need impostor pairs
_SHUFFLE_BUFFER = 2048  # pairs among which an input worker draws the next one
_ROOM_DIGITS = 1000  # a message rounds a scale down to its thousandth


def pair_sources(options: TrainOptions) -> tuple[PairSource, PairSource | None]:
    """The training pairs, and the validation pairs if there are any.

    Raises:
      UserError: no data set, none of this schema, no training split, validation pairs of one label,
        or a shard cut short though no record may be skipped.
    """
    skips = options.input.max_bad_records > 0
    held = (manifest.read if skips else manifest.load)(options.tfrecords)
    training = training_source(options, held)
    if not held.holds("val"):
        return training, None
    pixels = (options.model.image_size, options.model.crop_fraction)
    validation = PairSource.of(options.tfrecords, held, "val", *pixels)
    for name in ("genuine", "impostor"):
        if not getattr(validation.split, name):
            raise UserError(
                f"{options.tfrecords} holds no {name} val pairs, and a validation needs both "
                "kinds: convert again, with val pairs of both labels"
            )
    return training, validation


def training_source(options: TrainOptions, held: Manifest) -> PairSource:
    """The training pairs, at the side with which they leave the host.

    Raises:
      UserError: the data set has no training split, or as `check_flags`.
    """
    check_flags(options)
    reach = options.augmentation.reach
    kept = options.model.crop_fraction * reach
    side = shards.choose_load_size(
        options.input.load_size, held, round(options.model.image_size * reach), kept
    )
    source = PairSource.of(options.tfrecords, held, "train", side, kept)
    if options.teaching.teacher_embeddings is None:
        return source
    skips = options.input.max_bad_records > 0
    paths = teachers.read_paths(options.tfrecords, source.split, skip_damaged=skips)
    return dataclasses.replace(source, paths=paths)


def check_flags(options: TrainOptions) -> None:
    """Checks the flags that decide which pairs are read, and how much of each image.

    Raises:
      UserError: crops would reach beyond the images, or a head needs impostor pairs that the flags
        leave out.
    """
    _check_heads(options)
    reach = options.augmentation.reach
    if options.model.crop_fraction * reach > 1.0:
        room = math.floor(_ROOM_DIGITS / options.model.crop_fraction) / _ROOM_DIGITS
        left = f"--crop_fraction={options.model.crop_fraction} leaves room for {room:g}"
        raise UserError(
            f"--scale={options.augmentation.scale[0]},{reach} reaches beyond the images: {left}, "
            "lower one of them"
        )


def _check_heads(options: TrainOptions) -> None:
    if not options.input.genuine_pairs_flag:
        return
    for flag, head, other in (
        ("head", options.model.head, "softmax"),
        ("second_head", options.model.second_head, "none"),
    ):
        if head in _PAIR_HEADS:
            raise UserError(
                f"{options.input.genuine_pairs_flag} shows genuine pairs alone, from which "
                f"--{flag}={head} learns nothing: give --{flag}={other}"
            )


def training_batches(
    strategy: tf.distribute.Strategy,
    source: PairSource,
    options: TrainOptions,
    position: Position,
    damaged: DamagedRecords,
) -> Iterator:
    """The endless stream of training pairs from `position` on, in per-replica batches.

    Each batch is one of a step's --accumulate_steps parts. `damaged` counts the damaged records.
    """

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return input_pipeline.training_batches(
            source,
            seed=options.seed,
            shuffle_buffer=_SHUFFLE_BUFFER,
            start_record=position.order_pairs // context.num_input_pipelines,
            first_epoch=position.order_epoch,
            options=options.input,
            damaged=damaged,
            **_share(context, options),
        )

    return input_pipeline.keep_iterator(strategy.distribute_datasets_from_function(batches))


def validation_batches(
    strategy: tf.distribute.Strategy,
    source: PairSource,
    options: TrainOptions,
    damaged: DamagedRecords,
) -> tf.data.Dataset:
    """All pairs of the source once, in per-replica batches of the size of those in training."""

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return input_pipeline.evaluation_batches(
            source,
            replicas=context.num_replicas_in_sync // context.num_input_pipelines,
            damaged=damaged,
            **_share(context, options),
        )

    return strategy.distribute_datasets_from_function(batches)


def _share(context: tf.distribute.InputContext, options: TrainOptions) -> dict[str, int]:
    """What this input worker reads, and its batch size."""
    return {
        "batch_size": context.get_per_replica_batch_size(
            options.global_batch_size // options.optimization.accumulate_steps
        ),
        "worker": context.input_pipeline_id,
        "workers": context.num_input_pipelines,
    }


@dataclasses.dataclass
class StallMeter:
    """Seconds that steps took, and seconds of them in which the device had no batch."""

    waited: float = 0.0
    elapsed: float = 0.0

    def add(self, waited: float, elapsed: float) -> None:
        """Counts some steps."""
        self.waited += waited
        self.elapsed += elapsed

    @property
    def share(self) -> float:
        """Share of the time that was spent waiting, [0, 1]."""
        return self.waited / self.elapsed if self.elapsed else 0.0

    def since(self, earlier: "StallMeter") -> "StallMeter":
        """What was counted after `earlier`, a copy."""
        return StallMeter(self.waited - earlier.waited, self.elapsed - earlier.elapsed)

    def verdict(self, advice: str) -> str:
        """One sentence: whether the run was input-bound, with the advice if it was."""
        found = f"{self.share:.0%} of the training time was spent waiting for input"
        if self.share >= BOUND_SHARE:
            return f"{found}: input-bound; {advice}"
        return f"{found}: not input-bound"


def input_advice(options: TrainOptions) -> str:
    """What to change where training waits for its input, cheapest first."""
    ways = [
        "give it more processor cores",
        "store the images smaller (--store_size of tools/make_tfrecords.py)",
    ]
    if options.input.cache != "decoded":
        ways.insert(0, "set --cache=decoded where the images fit in memory")
    if not options.input.data_service:
        ways.append("let other hosts decode (--data_service)")
    return f"{', '.join(ways[:-1])}, or {ways[-1]}"
