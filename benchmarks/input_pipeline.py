"""fv's input pipeline beside other ways to get pairs of faces from the disk, and beside the hard ceiling.

Same work for all: JPEGs on the disk (in the page cache) → decode → resize → batches of pairs, on all cores. Every contestant
runs in a process of its own, warmed up, in turns; figures are medians of the rounds. Peers that are not installed are named:
benchmarks/requirements-peers.txt lists them. Sections: original (everyone on the images as they are), stages (CPU time of
each stage), stored (shards of smaller images), cached (decoded images held), starting (many shards, many records).

python benchmarks/input_pipeline.py --images=DIR --json=/tmp/input.json --chart=/tmp/input.png
"""

import dataclasses
import os
import sys
import tempfile

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)  # for `benchmarks`, run as a script

from benchmarks.side_by_side import chart, machine, ratios, rounds, sections, table, workload
from benchmarks.side_by_side.sections import PEERS, SECTIONS
from fv import cli, files, workers
from fv.errors import UserError
from fv.options import option, required

STAGES_TIMEOUT_S = 300


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What the benchmark takes."""

    images: str = required("folder that holds one folder of JPEGs per person")
    count: int = option(2000, "How many of the images, the first by name.", lower=2)
    jpeg_quality: int | None = option(
        None,
        "Encode the images anew at this quality, 4:2:0; as they are if not given.",
        lower=1,
        upper=100,
    )
    image_size: int = option(139, "Side of the images in a batch, in pixels.", lower=16)
    stored_size: int = option(
        160, "Section stored: side of the stored images, in pixels.", lower=16
    )
    batch_size: int = option(64, "Pairs in a batch.", lower=1)
    rounds: int = option(3, "How often each contestant runs.", lower=1)
    seconds: float = option(5.0, "Seconds that each is measured.", lower=0.1)
    warm_up: float = option(2.0, "Seconds before, which do not count.", lower=0.0)
    sections: str = option("original,stages", f"What to run, some of {','.join(SECTIONS)}.")
    only: str = option(",".join(PEERS), "Peers that run beside fv.")
    scratch: str | None = option(
        None, "Folder for what is written, removed at the end; a temporary one by default."
    )
    json: str | None = option(None, "File to write the figures to.")
    chart: str | None = option(None, "PNG to draw the section 'original' to.")


def main(options: BenchmarkOptions) -> None:
    """Runs the sections, and prints and saves each as it ends."""
    wanted = _names(options.sections, SECTIONS, "sections")
    peers = _names(options.only, PEERS, "only")
    figures = {"machine": machine.describe(), "options": dataclasses.asdict(options)}
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        base = workload.Workload("", options.image_size, options.batch_size, workers.cores())
        source = sections.Source(options.images, options.count, options.jpeg_quality, scratch, base)
        for section in wanted:
            figures[section] = (
                _run_stages(source)
                if section == "stages"
                else _run(section, options, source, peers)
            )
            if options.json:
                files.save_json(figures, options.json)
    if options.chart and "original" in figures:
        _draw(options, figures)


def _run(
    section: str, options: BenchmarkOptions, source: sections.Source, peers: list[str]
) -> dict:
    entrants = sections.entrants(section, source, peers, options.stored_size)
    sizes = {name: round(workload.mean_bytes(entrant.work)) for name, entrant in entrants.items()}
    runs, absent = rounds.run(
        entrants, rounds=options.rounds, seconds=options.seconds, warm_up_s=options.warm_up
    )
    ratios.add_shares(runs)
    found = ratios.find(section, runs)
    print(
        f"\n{section}: bytes per image in the shards {', '.join(f'{size:,}' for size in sorted(set(sizes.values())))}"
    )
    print("\n".join(table.lines(runs)))
    notes = [f"not run: {table.title(name)}: {reason}" for name, reason in absent.items()]
    print("\n".join(notes + [f"{name}: {value}" for name, value in found.items()]), flush=True)
    return {"bytes_per_image": sizes, "runs": runs, "not_run": absent, "ratios": found}


def _run_stages(source: sections.Source) -> dict:
    path = workload.save(source.prepare("original"))
    columns = rounds.run_module("stages", path, timeout=STAGES_TIMEOUT_S)
    if "failed" in columns:
        raise UserError(f"the stages could not be measured: {columns['failed']}")
    print("\n" + "\n".join(table.stage_lines(columns)), flush=True)
    return columns


def _draw(options: BenchmarkOptions, figures: dict) -> None:
    work = f"{options.count:,} JPEGs → {options.image_size} pixels → batches of {options.batch_size} pairs"
    chart.draw(
        options.chart,
        figures["original"]["runs"],
        f"{work}, {workers.cores()} cores, median of {options.rounds}",
    )


def _names(given: str, known: tuple[str, ...], flag: str) -> list[str]:
    names = given.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"--{flag} has '{unknown[0]}', which is none of {','.join(known)}")
    return names


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
