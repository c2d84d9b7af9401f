"""Measures fv.embed: its rate against the bare encoder, and its memory for very many images.

python benchmarks/embedding.py --backbone=inception_v3 --image_size=139 --json=/tmp/embedding.json
python benchmarks/embedding.py --simulated=1000000

The first embeds JPEGs of smooth noise by an untrained encoder: decoded batches with the encoder
alone, then the JPEGs with fv.embed, block files and Parquet file included. The runs alternate. It
also gives the processor's time, which other work on the machine moves less. The second embeds few
small JPEGs under very many paths by the mean of their pixels, and prints the memory that the
process takes.
"""

import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator

from fv import quiet_tensorflow  # noqa: F401  TensorFlow first, without its noise

# isort: split
import cv2
import numpy as np
import pandas as pd
import psutil
import simplejpeg
import tensorflow as tf

from fv import cli, embed, embedding, files, image_blocks
from fv.encoders import Encoder
from fv.image_blocks import Block
from fv.model import siamese
from fv.model.model_record import ModelRecord
from fv.model.options import BACKBONES, ModelOptions
from fv.options import option

DISTINCT = 64  # images
SMALL = 32  # pixels, side of the images of --simulated
NOTHING = pd.DataFrame({"path": [], "reason": []})


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is embedded."""

    backbone: str = option("inception_v3", "Network under the embedding.", choices=BACKBONES)
    image_size: int = option(139, "Side of the network's input in pixels.", lower=16)
    stored_size: int = option(160, "Side of the JPEGs in pixels.", lower=16)
    images: int = option(1024, "Images of a run.", lower=64)
    runs: int = option(3, "Runs of each kind.", lower=1)
    batch_size: int = option(64, "Images embedded at once.", lower=1)
    simulated: int = option(0, "Measure the memory for so many images instead.", lower=0)
    json: str | None = option(None, "File to write the figures to.")


def main(options: BenchmarkOptions) -> None:
    """Prints the figures and writes `--json`."""
    figures = measure_memory(options) if options.simulated else measure_rates(options)
    print(figures)
    if options.json:
        files.save_json(figures, options.json)


def measure_rates(options: BenchmarkOptions) -> dict:
    """Images per second, of time and of processor time, of the encoder alone and of fv.embed.

    Returns:
      The best of the runs, and the shares of fv.embed in the encoder's rates.
    """
    model = ModelOptions(backbone=options.backbone, image_size=options.image_size)
    network = siamese.build_encoder(model)

    def apply(pixels: tf.Tensor) -> np.ndarray:
        return embedding.apply_encoder(network, pixels).numpy()

    encoder = Encoder(apply, ModelRecord(model, 0, ""), "benchmark", "untrained")
    encoded = draw(options.stored_size)
    (block,) = make_blocks(encoded, options.batch_size, options.batch_size)
    images = range(options.batch_size)
    batch = next(embedding.load_batches(block, images, model, options.batch_size, {}))
    apply(batch.pixels)  # traces the graph

    def run_bare() -> None:
        for _ in range(0, options.images, options.batch_size):
            apply(batch.pixels)

    def run_embed() -> None:
        blocks = make_blocks(encoded, options.images, image_blocks.IMAGES_PER_BLOCK)
        write(encoder, options, options.images, blocks)

    best: dict[str, float] = {}
    for _ in range(options.runs):
        for name, run in (("bare", run_bare), ("fv.embed", run_embed)):
            began, cpu = time.perf_counter(), time.process_time()
            run()
            rates = {
                name: options.images / (time.perf_counter() - began),
                f"{name}, CPU": options.images / (time.process_time() - cpu),
            }
            print({key: round(rate, 1) for key, rate in rates.items()}, flush=True)
            best |= {key: max(rate, best.get(key, 0.0)) for key, rate in rates.items()}
    best["share"] = best["fv.embed"] / best["bare"]
    best["share, CPU"] = best["fv.embed, CPU"] / best["bare, CPU"]
    return {key: round(value, 3) for key, value in best.items()}


def measure_memory(options: BenchmarkOptions) -> dict:
    """The resident memory of this process in MiB, by the number of images embedded."""
    model = ModelOptions(image_size=SMALL, embedding_size=3)

    def apply(pixels: tf.Tensor) -> np.ndarray:
        return pixels.numpy().mean(axis=(1, 2), dtype=np.float32)

    encoder = Encoder(apply, ModelRecord(model, 0, ""), "benchmark", "means")
    process, figures = psutil.Process(), dict[int, int]()
    every, done = max(1, options.simulated // 10), 0

    def watched() -> Iterator[Block]:
        nonlocal done
        blocks = make_blocks(draw(SMALL), options.simulated, image_blocks.IMAGES_PER_BLOCK)
        for block in blocks:
            if done // every != (done + len(block.paths)) // every:
                figures[done] = round(process.memory_info().rss / 2**20)
                print(f"{done:,} images: {figures[done]} MiB", flush=True)
            done += len(block.paths)
            yield block

    began = time.perf_counter()
    write(encoder, options, options.simulated, watched())
    figures[done] = round(process.memory_info().rss / 2**20)
    return {"mib": figures, "seconds": round(time.perf_counter() - began)}


def write(encoder: Encoder, options: BenchmarkOptions, count: int, blocks: Iterator[Block]) -> None:
    """Writes a file as fv.embed does."""
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "all.parquet")
        chosen = embed.EmbedOptions(output, batch_size=options.batch_size)
        left_out = embed.write(chosen, encoder, count, NOTHING, blocks)
        assert not left_out and os.path.getsize(output)


def make_blocks(encoded: list[bytes], count: int, size: int) -> Iterator[Block]:
    """Blocks of `count` images; the same bytes come again under other paths."""
    for first in range(0, count, size):
        numbers = range(first, min(first + size, count))
        paths = [f"person_{number // 10:07d}/{number:09d}.jpg" for number in numbers]
        sizes = dict.fromkeys(range(len(paths)), (1, 1))
        read = [encoded[number % len(encoded)] for number in numbers].__getitem__
        yield Block(paths, [path.split("/")[0] for path in paths], read, sizes, first)


def draw(side: int) -> list[bytes]:
    """JPEGs of smooth noise, as large as those of faces."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (DISTINCT, 20, 20, 3), np.uint8)
    images = [cv2.resize(each, (side, side), interpolation=cv2.INTER_CUBIC) for each in coarse]
    return [simplejpeg.encode_jpeg(np.ascontiguousarray(each), 95) for each in images]


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
