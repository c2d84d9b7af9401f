"""Streams of the pipeline as lists, for comparing them."""

import tensorflow as tf

from fv import manifest
from fv.pipeline import input_pipeline
from fv.pipeline.input_pipeline import PairSource
from fv.pipeline.options import InputOptions


def source_of(
    shards, split: str = "train", image_size: int = 16, crop_fraction: float = 1.0
) -> PairSource:
    """A split of a folder of shards, without a look at their sizes."""
    return PairSource.of(str(shards), manifest.read(str(shards)), split, image_size, crop_fraction)


def stream(
    source: PairSource, pairs: int, *, damaged=None, options=None, **arguments
) -> list[bytes]:
    """The first pairs of a training stream: bytes of pixels, label, identities; b"" if invalid."""
    arguments = dict(batch_size=1, seed=3, shuffle_buffer=10) | arguments
    batches = input_pipeline.training_batches(
        source, options=options or InputOptions(), damaged=damaged, **arguments
    )
    return [
        pair
        for batch in batches.take(-(-pairs // arguments["batch_size"]))
        for pair in pairs_of(batch)
    ][:pairs]


def pairs_of(batch: dict[str, tf.Tensor]) -> list[bytes]:
    """The pairs of a batch as `stream` gives them."""
    columns = (batch[name].numpy() for name in ("images", "label", "identities", "valid"))
    return [
        b"".join((image.tobytes(), label.tobytes(), identities.tobytes())) if valid else b""
        for image, label, identities, valid in zip(*columns, strict=True)
    ]
