"""Measures the sources of images: each format of the same images, and a .rec of millions.

    python benchmarks/sources.py --images=lfw --json=sources.json [--parts=formats,scale]

`formats` writes the images as folders, .rec, list and flat folder, tar shards and Parquet, and
converts each. People get numbers as names, which is what a .rec holds. It asserts that people,
pairs and bytes are the same. `scale` simulates a .rec of small grey images, and one of a tenth.
"""

import dataclasses
import hashlib
import io
import os
import pathlib
import resource
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import simplejpeg

from benchmarks import convert, parts
from fv import cli, manifest, record
from fv.conversion import recordio
from fv.errors import UserError
from fv.options import option

PARTS = ("formats", "scale")
SHARDS = 4  # tars, Parquet files
ROWS = 500  # of a row group
SIDE = 16  # pixels of a simulated image
LIST = (
    "import sys, time, resource; from fv.conversion import sources;"
    "start, cpu = time.perf_counter(), time.process_time();"
    "found = sources.find_images(sys.argv[1], None, None, False); print(len(found.images),"
    " found.images['identity'].nunique(), time.perf_counter() - start, time.process_time() - cpu,"
    " resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)

Listed = list[tuple[int, pathlib.Path]]  # the number of the person, and the image


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured, and on what."""

    images: str = option("", "Folder that holds one folder of JPEG images per person.")
    parts: str = option(",".join(PARTS), f"Which parts to run, of {', '.join(PARTS)}, with commas.")
    pairs: int = option(100_000, "Pairs that the images are converted to.", lower=2)
    repeats: int = option(3, "Conversions of each format; the best counts.", lower=1)
    records: int = option(5_000_000, "Images of the simulated .rec.", lower=100)
    people: int = option(90_000, "People in it.", lower=4)
    scale_pairs: int = option(5_000_000, "Pairs that it is converted to.", lower=2)
    workers: int = option(2, "Processes.", lower=1)
    scratch: str | None = option(None, "Folder for temporary files.")
    json: str | None = option(None, "File to write the figures to.")


def main(options: BenchmarkOptions) -> None:
    """Runs the parts one after the other, each in an empty folder."""

    def measure(part: str) -> dict:
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            return {"formats": measure_formats, "scale": measure_scale}[part](
                options, pathlib.Path(folder)
            )

    parts.run(options.parts, PARTS, measure, options.json)


# Part `formats`.


def measure_formats(options: BenchmarkOptions, folder: pathlib.Path) -> dict:
    """Returns seconds and rates of each format; asserts that all give the same records."""
    if not options.images:
        raise UserError("--images is missing: give a folder of people")
    people = sorted(path for path in pathlib.Path(options.images).iterdir() if path.is_dir())
    # In the order in which folders of these numbers are listed.
    numbers = sorted(range(len(people)), key=str)
    listed = [
        (number, path)
        for number in numbers
        for path in sorted(people[number].iterdir())
        if path.suffix == ".jpg"
    ]
    writers: dict[str, Callable[[Listed, pathlib.Path], list[str]]] = {
        "folders": write_folders,
        ".rec, InsightFace's": write_records,
        "list and flat folder": write_list,
        "tar shards": write_tars,
        "Parquet": write_parquet,
    }
    sources = {}
    for name, write in writers.items():
        target = folder / name.replace(" ", "-")
        target.mkdir()
        sources[name] = write(listed, target)
    found: dict[str, dict] = {name: {"seconds": [], "cpu_seconds": []} for name in sources}
    digests = {}
    for _ in range(options.repeats):  # in turn: the machine's load changes
        for name, flags in sources.items():
            made = folder / "out"
            shutil.rmtree(made, ignore_errors=True)
            flags = [*flags, f"--output={made}", f"--pairs={options.pairs}"]
            flags += ["--max_pairs_per_identity=5000", "--max_pairs_per_image=100"]
            seconds, cpu_s, peak = run_converter([*flags, f"--workers={options.workers}"])
            found[name]["seconds"].append(round(seconds, 2))
            found[name]["cpu_seconds"].append(round(cpu_s, 2))
            found[name]["peak_memory_mb"] = round(peak / 1e6)
            if name not in digests:
                digests[name] = digest_records(str(made))
    assert len(set(digests.values())) == 1, "formats give different people, pairs or bytes"
    for row in found.values():
        row["images_per_s"] = round(len(listed) / min(row["seconds"]))
        for name in ("seconds", "cpu_seconds"):
            row[f"folders_{name}_over_these"] = round(
                min(found["folders"][name]) / min(row[name]), 2
            )
    return {"images": len(listed), "people": len(people), "same": True, **found}


def run_converter(flags: list[str]) -> tuple[float, float, int]:
    """Runs a conversion: its seconds, processor seconds of the main process, and peak memory."""

    def cpu_seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = cpu_seconds()
    seconds, peak = convert.run_converter(flags)
    return seconds, cpu_seconds() - before, peak


def digest_records(folder: str) -> str:
    """SHA-256 of all records without the paths of images."""
    names = (record.IMAGE_A, record.IMAGE_B, record.IDENTITY_A, record.IDENTITY_B)
    digest = hashlib.sha256()
    for split, described in manifest.load(folder).splits.items():
        digest.update(f"{split}{described.identities}".encode())
        for shard in described.shards:
            with open(os.path.join(folder, shard.name), "rb") as file:
                for _, data in record.read_frames(file):
                    pair = record.decode_pair(data)
                    digest.update(b"".join([*(pair[n] for n in names), bytes([pair["label"]])]))
    return digest.hexdigest()


def write_folders(listed: Listed, folder: pathlib.Path) -> list[str]:
    for number, path in listed:
        (folder / str(number)).mkdir(exist_ok=True)
        shutil.copyfile(path, folder / str(number) / path.name)
    return [f"--images={folder}"]


def write_records(listed: Listed, folder: pathlib.Path) -> list[str]:
    write_rec(folder, ((number, path.read_bytes()) for number, path in listed))
    return [f"--images={folder}"]


def write_list(listed: Listed, folder: pathlib.Path) -> list[str]:
    (folder / "flat").mkdir()
    for _, path in listed:
        shutil.copyfile(path, folder / "flat" / path.name)
    lines = [f"{path.name} {number}\n" for number, path in listed]
    (folder / "labels.txt").write_text("".join(lines))
    return [f"--images={folder}/flat", f"--labels={folder}/labels.txt"]


def write_tars(listed: Listed, folder: pathlib.Path) -> list[str]:
    for shard, part in enumerate(np.array_split(np.arange(len(listed)), SHARDS)):
        with tarfile.open(folder / f"{shard:03d}.tar", "w") as tar:
            for number, path in (listed[index] for index in part):
                tar.add(path, path.name)
                label = tarfile.TarInfo(f"{path.stem}.cls")
                text = str(number).encode()
                label.size = len(text)
                tar.addfile(label, io.BytesIO(text))
    return [f"--images={folder}/{{000..{SHARDS - 1:03d}}}.tar"]


def write_parquet(listed: Listed, folder: pathlib.Path) -> list[str]:
    import pyarrow
    from pyarrow import parquet

    for shard, part in enumerate(np.array_split(np.arange(len(listed)), SHARDS)):
        chosen = [listed[index] for index in part]
        images = [{"bytes": path.read_bytes(), "path": path.name} for _, path in chosen]
        table = pyarrow.table({"image": images, "label": [number for number, _ in chosen]})
        parquet.write_table(table, folder / f"{shard:03d}.parquet", row_group_size=ROWS)
    return [f"--images={folder}"]


# Part `scale`.


def measure_scale(options: BenchmarkOptions, folder: pathlib.Path) -> dict:
    """Returns what it takes to list and to convert a tenth of the images, and all of them."""
    found, peaks = {}, []
    for share in (10, 1):
        count, people = options.records // share, options.people // share
        found[f"{count}_images"] = measure_records(
            count, people, options.scale_pairs // share, options.workers, folder / str(share)
        )
        peaks.append(found[f"{count}_images"]["peak_memory_mb"])
    more = (options.records + options.scale_pairs) * 0.9
    return {**found, "bytes_for_each_more_image_or_pair": round((peaks[1] - peaks[0]) * 1e6 / more)}


def measure_records(
    count: int, people: int, pairs: int, workers: int, folder: pathlib.Path
) -> dict[str, float]:
    """Writes, lists and converts a .rec of `count` small images."""
    folder.mkdir()
    write_rec(folder, draw_images(count, people))
    listing = subprocess.Popen(
        [sys.executable, "-c", LIST, str(folder)],
        env={**os.environ, "PYTHONPATH": str(convert.ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    listed, known, seconds, cpu_s, kilobytes = listing.communicate()[0].split()
    assert (int(listed), int(known)) == (count, people), "an image is missing"
    made = folder.with_suffix(".shards")
    flags = [f"--images={folder}", f"--output={made}", f"--pairs={pairs}", f"--workers={workers}"]
    flags += ["--max_pairs_per_identity=500"]  # the default allows fewer than `pairs`
    converted_s, converted_cpu_s, peak = run_converter(flags)
    shutil.rmtree(made)
    return {
        "people": people,
        "pairs": pairs,
        "rec_mb": round((folder / "train.rec").stat().st_size / 1e6),
        "list_s": round(float(seconds), 2),
        "list_cpu_s": round(float(cpu_s), 2),
        "list_peak_mb": round(int(kilobytes) * 1024 / 1e6),
        "convert_s": round(converted_s, 1),
        "convert_main_cpu_s": round(converted_cpu_s, 1),
        "images_per_s": round(count / converted_s),
        "peak_memory_mb": round(peak / 1e6),
    }


def draw_images(count: int, people: int) -> Iterator[tuple[int, bytes]]:
    """Small random grey JPEGs, the people one after the other."""
    rng = np.random.default_rng(0)
    for start in range(0, count, 1000):
        cells = rng.integers(0, 256, (1000, 8, 8, 1), np.uint8)
        pixels = cells.repeat(SIDE // 8, 1).repeat(SIDE // 8, 2)
        for number in range(start, min(count, start + 1000)):
            image = np.ascontiguousarray(pixels[number - start])
            yield number * people // count, simplejpeg.encode_jpeg(image, 75, "GRAY", "GRAY")


def write_rec(folder: pathlib.Path, images: Iterable[tuple[int, bytes]]) -> None:
    """Writes train.rec and train.idx as InsightFace has them; people stand together."""
    spans: list[list[int]] = []
    with open(folder / "train.rec", "wb") as file, open(folder / "train.idx", "w") as index:

        def write(key: int, header: bytes, image: bytes = b"") -> None:
            if key:
                index.write(f"{key}\t{file.tell()}\n")
            data = header + image
            file.write(struct.pack("<II", recordio.MAGIC, len(data)) + data + bytes(-len(data) % 4))

        def pack(first: int, second: int) -> bytes:
            return struct.pack("<IfQQff", 2, 0, 0, 0, first, second)

        index.write("0\t0\n")
        write(0, pack(0, 0))
        key, last = 1, -1
        for key, (label, image) in enumerate(images, start=1):
            if label != last:
                spans.append([key, key])
                last = label
            spans[-1][1] = key + 1
            write(key, struct.pack("<IfQQ", 0, label, key, 0), image)
        for number, (first, end) in enumerate(spans, start=key + 1):
            write(number, pack(first, end))
        file.seek(8)
        file.write(pack(key + 1, key + 1 + len(spans)))


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
