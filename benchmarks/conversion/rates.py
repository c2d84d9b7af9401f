"""How fast images are checked and shards written, beside what the machine can do in the same run."""

import os
import pathlib
import shutil
import time

import simplejpeg

from benchmarks.conversion import command
from benchmarks.conversion.options import BenchmarkOptions
from fv import manifest, workers
from fv.conversion import (
    catalog,
    checking,
    convert,
    crops,
    images,
    output,
    selection,
    settings,
    shards,
)

FILES_PER_TASK = 64
COPY_BUFFER_BYTES = 4 << 20
DECODE_SHARE, COPY_SHARE = 0.8, 0.5  # of the ceilings, that a whole conversion should reach
RULES = images.Rules(max_pixels=64_000_000, jpeg_quality=95)


def measure(options: BenchmarkOptions, folder: str) -> dict:
    """Rates in images/s and MB/s, shares of the ceilings, whole seconds beside those wanted, peak memory in MB."""
    made = os.path.join(folder, "shards")
    chosen = settings.Options(
        options.images,
        made,
        options.pairs,
        max_pairs_per_identity=options.max_pairs_per_identity,
        max_pairs_per_image=options.max_pairs_per_image,
        workers=options.workers,
    )
    found, odd, *_ = catalog.scan(options.images)
    decode_s, check_s, write_s = _time_stages(chosen, found, odd, folder, options.repeats)
    whole = [run_anew(options, made) for _ in range(options.repeats)]
    copy_s = min(
        seconds_of(lambda: _copy(made, os.path.join(folder, "copy")))
        for _ in range(options.repeats)
    )
    size = sum(
        shard.bytes for split in manifest.load(made).splits.values() for shard in split.shards
    )
    return {
        "images": len(found),
        "pairs": options.pairs,
        "processes": options.processes,
        "decode_only_images_per_s": round(len(found) / decode_s),
        "check_images_per_s": round(len(found) / check_s),
        "check_share_of_decode": round(decode_s / check_s, 2),
        "shards_mb": round(size / 1e6, 1),
        "copy_mb_per_s": round(size / 1e6 / copy_s),
        "write_mb_per_s": round(size / 1e6 / write_s),
        "write_share_of_copy": round(copy_s / write_s, 2),
        "whole_s": [round(seconds, 2) for seconds, _ in whole],
        "wanted_s": round(decode_s / DECODE_SHARE + copy_s / COPY_SHARE, 2),
        "peak_memory_mb": round(max(peak for _, peak in whole) / 1e6),
    }


def decode_only(paths: list[str]) -> int:
    """The ceiling of checking: reads and decodes to pixels, and looks at nothing. Files that are no JPEG are passed over."""
    decoded = 0
    for path in paths:
        data = pathlib.Path(path).read_bytes()
        if data.startswith(b"\xff\xd8"):
            decoded += len(simplejpeg.decode_jpeg(data)) > 0
    return decoded


def seconds_of(work) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _time_stages(
    chosen: settings.Options, found, odd, folder: str, repeats: int
) -> tuple[float, float, float]:
    """Seconds to decode only, to check and to write, in turns in one pool whose processes have started; the best of each."""
    paths = [os.path.join(chosen.images, path) for path in found["path"]]
    tasks = [
        paths[first : first + FILES_PER_TASK] for first in range(0, len(paths), FILES_PER_TASK)
    ]
    seconds = []
    os.mkdir(chosen.output)
    with workers.pool(chosen.processes) as run:
        selected = selection.select(chosen, found, odd, folder, run)
        counts = shards.count_shards(selected.tables, selected.images, chosen.shards)
        for _ in range(repeats):
            output.clear(chosen.output)
            turn = [
                seconds_of(lambda: list(run(decode_only, tasks))),
                seconds_of(
                    lambda: checking.check_images(
                        found, chosen.images, folder, RULES, crops.Crop(), run, False
                    )
                ),
                seconds_of(lambda: convert.write_shards(chosen, selected, counts, folder, run)),
            ]
            seconds.append(turn)
    return tuple(map(min, zip(*seconds, strict=True)))


def run_anew(options: BenchmarkOptions, folder: str) -> tuple[float, int]:
    """Converts into a folder that is removed before; what `command.run` returns."""
    shutil.rmtree(folder, ignore_errors=True)
    return command.run(options.flags(folder))


def _copy(source: str, target: str) -> None:
    """The ceiling of writing: copies the shards and waits until they are on the disk, as the converter does."""
    shutil.rmtree(target, ignore_errors=True)
    os.mkdir(target)
    for name in os.listdir(source):
        with (
            open(os.path.join(source, name), "rb") as reader,
            open(os.path.join(target, name), "wb") as writer,
        ):
            shutil.copyfileobj(reader, writer, COPY_BUFFER_BYTES)
            writer.flush()
            os.fsync(writer.fileno())
