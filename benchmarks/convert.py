"""What the converter does against what the machine can: images checked and bytes written, beside two ceilings of one run.

The ceilings are a plain decode of the same files by simplejpeg, by as many processes that do nothing else, and a plain copy
of the finished shards. Memory is the sum over the conversion's processes, sampled, with shared pages divided among them.

python benchmarks/convert.py --images=DIR --pairs=20000 --json=/tmp/convert.json
"""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import simplejpeg

from fv import cli, files, manifest, workers
from fv.conversion import catalog, checking, convert, images, selection, settings
from fv.options import option, required

SAMPLE_S = 0.05  # between two looks at memory
FILES_PER_TASK = 64
KB = 1024
COPY_BUFFER_BYTES = 4 << 20
RULES = images.Rules(max_pixels=64_000_000, jpeg_quality=95)


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What the benchmark takes."""

    images: str = required("folder that holds one folder of images per person")
    pairs: int | None = option(None, "Pairs to convert to; as many as there are if not given.", lower=2)
    workers: int | None = option(None, "Processes; one per core if not given.", lower=1)
    repeats: int = option(3, "Times each part is measured; the best counts.", lower=1)
    scratch: str | None = option(
        None, "Folder for what is written, removed at the end; the system's temporary one if not given."
    )
    json: str | None = option(None, "File to write the figures to.")


def main(options: BenchmarkOptions) -> None:
    figures = measure(options)
    print(json.dumps(figures, indent=2))
    if options.json:
        files.save_json(figures, options.json)


def measure(options: BenchmarkOptions) -> dict:
    """Returns rates in images/s and MB/s, shares of the ceilings, whole seconds and peak memory in MB."""
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        output = os.path.join(folder, "shards")
        chosen = settings.Options(options.images, output, options.pairs, workers=options.workers, overwrite=True)
        found, odd = catalog.scan(options.images)
        decode_s, check_s, write_s = _time_stages(chosen, found, odd, folder, options.repeats)
        whole = [_seconds(lambda: convert.convert(chosen)) for _ in range(options.repeats)]
        copy_s = min(_seconds(lambda: _copy(output, os.path.join(folder, "copy"))) for _ in range(options.repeats))
        size = sum(shard.bytes for split in manifest.load(output).splits.values() for shard in split.shards)
        peak = _peak_memory(chosen)
    return {
        "images": len(found),
        "processes": chosen.processes,
        "decode_only_images_per_s": round(len(found) / decode_s),
        "check_images_per_s": round(len(found) / check_s),
        "check_share_of_decode": round(decode_s / check_s, 2),
        "shards_mb": round(size / 1e6, 1),
        "copy_mb_per_s": round(size / 1e6 / copy_s),
        "write_mb_per_s": round(size / 1e6 / write_s),
        "write_share_of_copy": round(copy_s / write_s, 2),
        "whole_s": [round(seconds, 2) for seconds in whole],
        "peak_memory_mb": round(peak / 1e6),
    }


def decode_only(paths: list[str]) -> int:
    """The ceiling of checking: reads and decodes, and looks at nothing. Files that are no JPEG are passed over."""
    decoded = 0
    for path in paths:
        data = pathlib.Path(path).read_bytes()
        if data.startswith(b"\xff\xd8"):
            decoded += len(simplejpeg.decode_jpeg(data)) > 0
    return decoded


def _time_stages(chosen: settings.Options, found, odd, folder: str, repeats: int) -> tuple[float, float, float]:
    """Seconds to decode only, to check and to write, in turns in one pool whose processes have started; the best of each."""
    paths = [os.path.join(chosen.images, path) for path in found["path"]]
    tasks = [paths[first : first + FILES_PER_TASK] for first in range(0, len(paths), FILES_PER_TASK)]
    count, seconds = chosen.processes, []
    os.mkdir(chosen.output)
    with workers.pool(count) as executor:
        selected = selection.select(chosen, found, odd, folder, executor)
        for _ in range(repeats):
            turn = [
                _seconds(lambda: list(workers.map_ordered(executor, decode_only, tasks, count))),
                _seconds(lambda: checking.check_images(found, chosen.images, folder, RULES, executor, count, False)),
                _seconds(lambda: convert.write_shards(chosen, selected, folder, executor)),
            ]
            seconds.append(turn)
    return tuple(map(min, zip(*seconds, strict=True)))


def _copy(source: str, target: str) -> None:
    """The ceiling of writing: copies the shards and waits until they are on the disk, as the converter does."""
    shutil.rmtree(target, ignore_errors=True)
    os.mkdir(target)
    for name in os.listdir(source):
        with open(os.path.join(source, name), "rb") as reader, open(os.path.join(target, name), "wb") as writer:
            shutil.copyfileobj(reader, writer, COPY_BUFFER_BYTES)
            writer.flush()
            os.fsync(writer.fileno())


def _peak_memory(chosen: settings.Options) -> int:
    """Runs the conversion as a user does and returns the largest sum of its processes' memory (PSS), in bytes."""
    script = pathlib.Path(__file__).parent.parent / "tools" / "make_tfrecords.py"
    flags = [f"--images={chosen.images}", f"--output={chosen.output}", f"--workers={chosen.processes}", "--overwrite"]
    flags += [f"--pairs={chosen.pairs}"] if chosen.pairs else []
    environment = {**os.environ, "PYTHONPATH": str(script.parent.parent)}
    peak = 0
    with subprocess.Popen([sys.executable, script, *flags], env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, _tree_memory(process.pid))
            time.sleep(SAMPLE_S)
    return peak


def _tree_memory(pid: int) -> int:
    """Memory of a process and all below it, in bytes; 0 for one that has just ended."""
    try:
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    own = next((int(line.split()[1]) * KB for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return own + sum(_tree_memory(int(child)) for child in children)


def _seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
