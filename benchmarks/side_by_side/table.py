"""The lines that show the figures of a section."""

from benchmarks import input_peers
from benchmarks.side_by_side import sections
from benchmarks.side_by_side.ratios import median

_HEADS = (
    "images/s",
    "min",
    "max",
    "of ceiling",
    "images/CPU-s",
    "of ceiling",
    "first batch",
    "import",
)


def lines(runs: dict[str, dict]) -> list[str]:
    """A table of all entrants, the fastest first; the shares are of the hard ceiling's images/s and images/CPU-s."""
    shown = [f"{'':<70}" + "".join(f"{head:>13}" for head in _HEADS)]
    for name in sorted(runs, key=lambda name: -median(runs[name])):
        shown.append(f"{title(name):<70}" + "".join(f"{cell:>13}" for cell in _cells(runs[name])))
    return shown


def title(name: str) -> str:
    """What a person calls an entrant."""
    known = input_peers.TITLES | {
        "ceiling": "hard ceiling: decode and resize",
        "decode_only": "decode alone",
    }
    plain = name.removesuffix(sections.ON_ORIGINALS)
    return known.get(plain, plain) + name[len(plain) :]


def stage_lines(columns: dict[str, dict[str, float]]) -> list[str]:
    """The stage table, CPU time in µs per image on one core."""
    shown = [f"{'µs of CPU per image':<22}" + "".join(f"{column:>22}" for column in columns)]
    stages = list(next(iter(columns.values())))
    shown += [
        f"{stage:<22}" + "".join(f"{column[stage]:>22.1f}" for column in columns.values())
        for stage in stages
    ]
    return [
        *shown,
        f"{'together':<22}"
        + "".join(f"{sum(column.values()):>22.1f}" for column in columns.values()),
    ]


def _cells(figures: dict) -> list[str]:
    rate, shares = (
        figures["images_per_s"],
        [figures[name] for name in ("share_of_ceiling", "cpu_share_of_ceiling")],
    )
    rates = [f"{rate[key]:,.0f}" for key in ("median", "min", "max")]
    seconds = [f"{median(figures, field):.2f} s" for field in ("first_batch_s", "import_s")]
    share, cpu_share = (f"{share:.2f}" if share else "" for share in shares)
    return [*rates, share, f"{median(figures, 'images_per_cpu_s'):,.0f}", cpu_share, *seconds]
