"""What the figures of a section say about fv: its share of the ceiling, and how it compares with the best peer."""

from collections.abc import Iterable

from benchmarks.side_by_side import sections
from benchmarks.side_by_side.sections import FV, ON_ORIGINALS, PEERS

TORCH = "torch_batches"  # the best input pipeline of another framework


def add_shares(runs: dict[str, dict]) -> None:
    """Adds to each entrant its share of the hard ceiling of the same rounds, in images/s and per second of CPU time.

    The second hardly changes where other processes take the cores.
    """
    for field, share in (
        ("images_per_s", "share_of_ceiling"),
        ("images_per_cpu_s", "cpu_share_of_ceiling"),
    ):
        ceiling = median(runs["ceiling"], field) if "ceiling" in runs else None
        for name, figures in runs.items():
            comparable = ceiling and not name.endswith(
                ON_ORIGINALS
            )  # those have a ceiling of their own
            figures[share] = round(median(figures, field) / ceiling, 3) if comparable else None


def find(section: str, runs: dict[str, dict]) -> dict[str, float | str]:
    """What the issue asks of a section, and the peers that it is asked beside; what did not run is left out."""
    if section == "starting":
        first, *others = sections.GRID
        return {
            f"{name} over {first}": value for name in others if (value := ratio(runs, name, first))
        }
    found = {"fv_over_ceiling": ratio(runs, FV, "ceiling"), **_over_best(runs, PEERS, "best_peer")}
    found |= _over_best(runs, [name + ON_ORIGINALS for name in PEERS], "best_peer_on_originals")
    found["fv_over_torch"] = ratio(runs, FV, TORCH)
    found["fv_over_torch_on_originals"] = ratio(runs, FV, TORCH + ON_ORIGINALS)
    return {name: value for name, value in found.items() if value}


def ratio(runs: dict[str, dict], name: str, other: str | None) -> float | None:
    """Median rate of one over median rate of another, None where either did not run."""
    return (
        round(median(runs[name]) / median(runs[other]), 3)
        if name in runs and other in runs
        else None
    )


def median(figures: dict, field: str = "images_per_s") -> float:
    """The median of a field over the rounds."""
    return figures[field]["median"]


def _over_best(
    runs: dict[str, dict], peers: Iterable[str], name: str
) -> dict[str, float | str | None]:
    best = max(
        (peer for peer in peers if peer in runs), key=lambda peer: median(runs[peer]), default=None
    )
    return {name: best, f"fv_over_{name}": ratio(runs, FV, best)}
