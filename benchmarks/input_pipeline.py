"""Compares fv's input pipeline with other ways to feed pairs of faces, and with a hard ceiling.

    python benchmarks/input_pipeline.py --images=DIR --json=input.json --chart=input.png

All do the same work on all cores: JPEGs in the page cache are decoded, resized and batched. Each
contestant runs in a process of its own, warmed up, in turns; figures are medians of the rounds.
benchmarks/requirements-peers.txt lists the peers' packages; a peer without its package is reported
as not run. Sections:

    original  all contestants on the images as they are
    stored    shards of smaller images
    cached    fv's decoded cache
    starting  few and many shards and records of tiny images
    stages    CPU time of each stage
"""

import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterable

# For `benchmarks`, when run as a script.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.side_by_side import machine, rounds, workload
from benchmarks.side_by_side.peers import CEILINGS, FV, PEERS, TITLES, TORCH
from benchmarks.side_by_side.rounds import Entrant
from benchmarks.side_by_side.workload import Workload
from fv import cli, files, workers
from fv.errors import UserError
from fv.options import option, required

SECTIONS = ("original", "stored", "cached", "starting", "stages")
STAGES_TIMEOUT_S = 300
FV_ON_KERNELS = "fv, --decoder=tensorflow"
ON_ORIGINALS = ", originals"
PAIRS_OF_AN_IMAGE_CACHED = 5
GRID = {  # of the section starting: shards, records
    "8 shards, 100,000 pairs": (8, 100_000),
    "1,000 shards, 100,000 pairs": (1_000, 100_000),
    "8 shards, 1,000 pairs": (8, 1_000),
    "8 shards, 1,000,000 pairs": (8, 1_000_000),
}
COLOURS = {FV: "#D55E00", FV_ON_KERNELS: "#E69F00"}
PEER_COLOUR = "#7A8CA0"


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured, and on what."""

    images: str = required("folder that holds one folder of JPEGs per person")
    count: int = option(2000, "Number of images, the first by name.", lower=2)
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
    rounds: int = option(3, "Runs of each contestant.", lower=1)
    seconds: float = option(5.0, "Seconds of measurement.", lower=0.1)
    warm_up: float = option(2.0, "Seconds before, which do not count.", lower=0.0)
    sections: str = option("original,stages", f"What to run, some of {','.join(SECTIONS)}.")
    only: str = option(",".join(PEERS), "Peers that run beside fv.")
    scratch: str | None = option(
        None, "Folder for temporary files; the system's temporary folder if not given."
    )
    json: str | None = option(None, "File to write the figures to.")
    chart: str | None = option(None, "PNG to draw the section 'original' to.")


def main(options: BenchmarkOptions) -> None:
    """Runs the sections, and prints and saves each as it ends."""
    wanted = _split(options.sections, SECTIONS, "sections")
    peers = _split(options.only, tuple(PEERS), "only")
    figures: dict = {"machine": machine.describe(), "options": dataclasses.asdict(options)}
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        for section in wanted:
            if section == "stages":
                figures[section] = _run_stages(prepare(options, scratch, "original"))
            else:
                figures[section] = _run(section, options, scratch, peers)
            if options.json:
                files.save_json(figures, options.json)
    if options.chart and "original" in figures:
        images = f"{options.count:,} JPEGs → {options.image_size} pixels"
        batches = f"batches of {options.batch_size} pairs, {workers.available_cores()} cores"
        title = f"{images} → {batches}, median of {options.rounds}"
        draw_chart(options.chart, figures["original"]["runs"], title)


def prepare(
    options: BenchmarkOptions, scratch: str, name: str, side: int | None = None, pairs: int = 1
) -> Workload:
    """Returns the workload of that name; writes its images and shards the first time.

    Args:
      options: of the benchmark.
      scratch: folder of all workloads.
      name: of the workload's folder.
      side: of the stored images in pixels; None keeps their size.
      pairs: that each image is in.
    """
    folder, cores = os.path.join(scratch, name), workers.available_cores()
    work = Workload(folder, side or options.image_size, options.batch_size, cores)
    if not os.path.exists(work.shards):
        workload.write_images(options.images, work, options.count, side, options.jpeg_quality)
        workload.convert_pairs(work, pairs)
    return work


def list_entrants(
    section: str, options: BenchmarkOptions, scratch: str, peers: Iterable[str]
) -> dict[str, Entrant]:
    """Returns the contestants of a section and their workloads."""
    if section == "original":
        work = prepare(options, scratch, "original")
        kernels = Entrant(FV, dataclasses.replace(work, decoder="tensorflow"))
        entrants = {name: Entrant(name, work) for name in (*CEILINGS, FV, *peers)}
        return {**entrants, FV_ON_KERNELS: kernels}
    if section == "stored":
        small = prepare(options, scratch, "stored", options.stored_size)
        whole = prepare(options, scratch, "original")
        on_originals = {f"{name}{ON_ORIGINALS}": Entrant(name, whole) for name in peers}
        return {name: Entrant(name, small) for name in ("ceiling", FV, *peers)} | on_originals
    if section == "cached":
        work = prepare(options, scratch, "cached", pairs=PAIRS_OF_AN_IMAGE_CACHED)
        # The clock starts after the first epoch, which fills the cache.
        epoch = PAIRS_OF_AN_IMAGE_CACHED * options.count
        held = dataclasses.replace(work, cache="decoded", warm_up_images=epoch)
        return {FV: Entrant(FV, held), "fused_map": Entrant("fused_map", work)}
    entrants = {}
    for name, (shards, records) in GRID.items():
        folder = os.path.join(scratch, f"starting-{shards}-{records}")
        work = Workload(
            folder, workload.SYNTHETIC_SIDE, options.batch_size, workers.available_cores()
        )
        workload.write_synthetic_shards(work.shards, shards, records)
        entrants[name] = Entrant(FV, work)
    return entrants


def _run(section: str, options: BenchmarkOptions, scratch: str, peers: list[str]) -> dict:
    entrants = list_entrants(section, options, scratch, peers)
    sizes = {name: round(workload.mean_bytes(entrant.work)) for name, entrant in entrants.items()}
    runs, absent = rounds.run(
        entrants, rounds=options.rounds, seconds=options.seconds, warm_up_s=options.warm_up
    )
    add_shares(runs)
    ratios = find_ratios(section, runs)
    stored = ", ".join(f"{size:,}" for size in sorted(set(sizes.values())))
    print(f"\n{section}: bytes per image in the shards {stored}")
    print("\n".join(format_table(runs)))
    notes = [f"not run: {title(name)}: {reason}" for name, reason in absent.items()]
    print("\n".join(notes + [f"{name}: {value}" for name, value in ratios.items()]), flush=True)
    return {"bytes_per_image": sizes, "runs": runs, "not_run": absent, "ratios": ratios}


def _run_stages(work: Workload) -> dict:
    path = workload.save(work)
    columns = rounds.run_module("stages", path, timeout=STAGES_TIMEOUT_S)
    if "failed" in columns:
        raise UserError(f"the stages could not be measured: {columns['failed']}")
    print(f"\n{'µs of CPU per image':<22}" + "".join(f"{column:>22}" for column in columns))
    for stage in next(iter(columns.values())):
        print(f"{stage:<22}" + "".join(f"{column[stage]:>22.1f}" for column in columns.values()))
    sums = (sum(column.values()) for column in columns.values())
    print(f"{'sum':<22}" + "".join(f"{each:>22.1f}" for each in sums), flush=True)
    return columns


def add_shares(runs: dict[str, dict]) -> None:
    """Adds each entrant's share of the ceiling, of images/s and of images per CPU second.

    Entrants on the originals have another ceiling and get None.
    """
    fields = {"images_per_s": "share_of_ceiling", "images_per_cpu_s": "cpu_share_of_ceiling"}
    for field, share in fields.items():
        ceiling = _median(runs["ceiling"], field) if "ceiling" in runs else None
        for name, run in runs.items():
            run[share] = None
            if ceiling and not name.endswith(ON_ORIGINALS):
                run[share] = round(_median(run, field) / ceiling, 3)


def find_ratios(section: str, runs: dict[str, dict]) -> dict:
    """Returns fv's rate over the ceiling's and the peers'; leaves out what did not run."""
    if section == "starting":
        first, *others = GRID
        found = {f"{name} over {first}": _ratio(runs, name, first) for name in others}
        return {name: value for name, value in found.items() if value}
    found: dict = {"fv_over_ceiling": _ratio(runs, FV, "ceiling")}
    for suffix, ending in (("", ""), (ON_ORIGINALS, "_on_originals")):
        ran = [peer + suffix for peer in PEERS if peer + suffix in runs]
        best = max(ran, key=lambda peer: _median(runs[peer]), default=None)
        found |= {f"best_peer{ending}": best, f"fv_over_best_peer{ending}": _ratio(runs, FV, best)}
        found[f"fv_over_torch{ending}"] = _ratio(runs, FV, TORCH + suffix)
    return {name: value for name, value in found.items() if value}


def _ratio(runs: dict[str, dict], name: str, other: str | None) -> float | None:
    if name not in runs or other not in runs:
        return None
    return round(_median(runs[name]) / _median(runs[other]), 3)


def _median(figures: dict, field: str = "images_per_s") -> float:
    return figures[field]["median"]


def title(name: str) -> str:
    """Returns an entrant's name in tables and charts."""
    plain = name.removesuffix(ON_ORIGINALS)
    return TITLES.get(plain, plain) + name[len(plain) :]


def format_table(runs: dict[str, dict]) -> list[str]:
    """Returns the lines of a table, the fastest first."""
    heads = ("images/s", "min", "max", "of ceiling", "images/CPU-s", "of ceiling", "first batch")
    lines = [f"{'':<70}" + "".join(f"{head:>13}" for head in (*heads, "import"))]
    for name in sorted(runs, key=lambda name: -_median(runs[name])):
        run = runs[name]
        share, cpu_share = (
            f"{run[field]:.2f}" if run[field] else ""
            for field in ("share_of_ceiling", "cpu_share_of_ceiling")
        )
        cells = [f"{run['images_per_s'][key]:,.0f}" for key in ("median", "min", "max")]
        cells += [share, f"{_median(run, 'images_per_cpu_s'):,.0f}", cpu_share]
        cells += [f"{_median(run, field):.2f} s" for field in ("first_batch_s", "import_s")]
        lines.append(f"{title(name):<70}" + "".join(f"{cell:>13}" for cell in cells))
    return lines


def draw_chart(path: str, runs: dict[str, dict], heading: str) -> None:
    """Draws the median and range of each entrant as bars, and the ceilings as lines.

    Args:
      path: of the PNG.
      runs: figures by entrant, from `rounds.run`.
      heading: what was measured.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bars = {name: run["images_per_s"] for name, run in runs.items() if name not in CEILINGS}
    bars = dict(sorted(bars.items(), key=lambda item: item[1]["median"]))
    medians = [rate["median"] for rate in bars.values()]
    figure = Figure((11, 0.42 * len(bars) + 1.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ranges = [[abs(rate[end] - rate["median"]) for rate in bars.values()] for end in ("min", "max")]
    colours = [COLOURS.get(name, PEER_COLOUR) for name in bars]
    axes.barh([title(name) for name in bars], medians, color=colours, xerr=ranges, capsize=3)
    style: dict = dict(textcoords="offset points", va="center", color="white", weight="bold")
    for row, value in enumerate(medians):
        axes.annotate(f"{value:,.0f}", (0, row), (6, 0), **style)
    for line, name in zip(("--", ":"), CEILINGS, strict=True):
        if name in runs:
            rate = _median(runs[name])
            label = f"{title(name)}: {rate:,.0f}"
            axes.axvline(rate, color="black", linestyle=line, linewidth=1.2, label=label)
            axes.legend(loc="lower right")
    axes.set(xlabel="images per second", title=heading)
    axes.spines[["top", "right"]].set_visible(False)
    with files.atomic_open(path, "wb") as file:
        figure.savefig(file, dpi=120, format="png")


def _split(given: str, known: tuple[str, ...], flag: str) -> list[str]:
    names = given.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"--{flag} has '{unknown[0]}', which is none of {','.join(known)}")
    return names


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
