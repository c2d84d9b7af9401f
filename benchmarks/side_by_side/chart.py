"""The bar chart of a section."""

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.side_by_side import contestant, sections, table
from fv import files

COLOURS = {sections.FV: "#D55E00", sections.FV_ON_KERNELS: "#E69F00"}
PEER_COLOUR = "#7A8CA0"
WIDTH, HEIGHT_PER_BAR, HEIGHT_AROUND = 11, 0.42, 1.3  # inches
DPI = 120


def draw(path: str, runs: dict[str, dict], title: str) -> None:
    """Draws the median rate of every entrant with the least and most of its rounds; fv stands out, the ceiling is a line.

    Args:
      path: where the PNG goes.
      runs: figures by entrant, from `rounds.run`.
      title: what was measured.
    """
    rates = {
        name: figures["images_per_s"]
        for name, figures in runs.items()
        if name not in contestant.CEILINGS
    }
    rates = dict(sorted(rates.items(), key=lambda item: item[1]["median"]))
    figure = Figure((WIDTH, HEIGHT_PER_BAR * len(rates) + HEIGHT_AROUND), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_bars(axes, rates)
    for style, name in zip((":", "--"), contestant.CEILINGS, strict=True):
        if name in runs:
            rate = runs[name]["images_per_s"]["median"]
            axes.axvline(
                rate,
                color="black",
                linestyle=style,
                linewidth=1.2,
                label=f"{table.title(name)}: {rate:,.0f}",
            )
            axes.legend(loc="lower right")
    axes.set(xlabel="images per second", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    with files.atomic_open(path, "wb") as file:
        figure.savefig(file, dpi=DPI, format="png")


def _draw_bars(axes: Axes, rates: dict[str, dict[str, float]]) -> None:
    medians = [rate["median"] for rate in rates.values()]
    below, above = (
        [abs(rate[end] - rate["median"]) for rate in rates.values()] for end in ("min", "max")
    )
    colours = [COLOURS.get(name, PEER_COLOUR) for name in rates]
    axes.barh(
        [table.title(name) for name in rates],
        medians,
        color=colours,
        xerr=(below, above),
        capsize=3,
    )
    for row, value in enumerate(medians):
        axes.annotate(
            f"{value:,.0f}",
            (0, row),
            (6, 0),
            textcoords="offset points",
            va="center",
            color="white",
            weight="bold",
        )
