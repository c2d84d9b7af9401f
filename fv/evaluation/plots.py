"""Pictures of a verifier on labelled pairs: the ROC curve and the two classes' similarities, as PNG.

Figures are drawn without pyplot, so no global state is touched and any thread may draw. The colours are two that people with
any common colour blindness tell apart (Okabe and Ito, 2008).
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fv import files, metrics

GENUINE_COLOUR, IMPOSTOR_COLOUR = "#0072B2", "#D55E00"
MARK_COLOUR, FAINT_COLOUR = "#222222", "#8A8A8A"
CURVE_STYLE = dict(color=GENUINE_COLOUR, linewidth=2)
MARK_STYLE = dict(linestyle="none", markersize=8, markeredgecolor="white", clip_on=False, zorder=3)
MARKERS = "os^vPX"  # one per FAR, used in turn
CHANCE = np.geomspace(1e-9, 1, 200)  # the curve of a coin
BINS = 61  # odd, so that constant similarities fill the middle one
DPI = 150
FIGURE_SIZE = (10, 5)  # inches
LEGEND_COLUMNS = 4
MARGIN = 0.02  # around rates from 0 to 1
WIDEST_LOG_FAR = 0.1  # the logarithmic panel spans at least 0.1 to 1


def draw_roc(
    path: str,
    similarities: np.ndarray,
    labels: np.ndarray,
    fars: Sequence[float] = metrics.FARS,
    title: str = "ROC",
) -> None:
    """Writes the ROC curve over linear FAR, with AUC and EER, and over logarithmic FAR, with TAR at the given FARs.

    The left curve joins its points by lines, as AUC and EER do. The right one is stepped, since TAR at a FAR is not
    interpolated: its marks lie on the steps.

    Args:
      path: where the PNG goes; it appears whole or not at all.
      similarities: float [n].
      labels: int or bool [n], 1 for a genuine pair and 0 for an impostor pair.
      fars: where TAR is marked; one that the pairs cannot measure is listed without a mark.
      title: what was measured; the counts of pairs are added.

    Raises:
      UserError: as `metrics.roc` and `metrics.Roc.tar_at_far`.
    """
    curve = metrics.roc(similarities, labels)
    marks = [curve.tar_at_far(far) for far in fars]
    figure = Figure(figsize=FIGURE_SIZE, layout="constrained")
    linear, logarithmic = figure.subplots(1, 2, sharey=True)
    _draw_linear_roc(linear, curve)
    _draw_logarithmic_roc(logarithmic, curve, marks)
    linear.set(ylim=(-MARGIN, 1 + MARGIN), ylabel="TAR (genuine pairs accepted)")
    for axes in (linear, logarithmic):
        axes.plot(CHANCE, CHANCE, color=FAINT_COLOUR, linestyle=":")
        axes.set_xlabel("FAR (impostor pairs accepted)")
    save_figure(figure, path, _titled(title, curve.genuine, curve.impostors))


def draw_histogram(
    path: str,
    similarities: np.ndarray,
    labels: np.ndarray,
    threshold: float,
    title: str = "Similarities",
) -> None:
    """Writes the histograms of genuine and impostor similarities, with the threshold and the errors it makes.

    Args:
      path: where the PNG goes; it appears whole or not at all.
      similarities: float [n].
      labels: int or bool [n], 1 for a genuine pair and 0 for an impostor pair.
      threshold: pairs at or above it are taken for the same person.
      title: what was measured; the counts of pairs are added.

    Raises:
      UserError: as `metrics.accuracy`.
    """
    accuracy = metrics.accuracy(similarities, labels, threshold)
    similarities, same, threshold = (
        np.asarray(similarities),
        np.asarray(labels) == 1,
        float(threshold),
    )
    genuine, impostor = similarities[same], similarities[~same]
    rejected, accepted = (
        np.count_nonzero(genuine < threshold),
        np.count_nonzero(impostor >= threshold),
    )
    figure = Figure(figsize=FIGURE_SIZE, layout="constrained")
    axes = figure.subplots()
    bins = _bins(similarities)
    _draw_bars(
        axes, genuine, bins, GENUINE_COLOUR, f"genuine: {rejected:,} of {len(genuine):,} rejected"
    )
    _draw_bars(
        axes,
        impostor,
        bins,
        IMPOSTOR_COLOUR,
        f"impostor: {accepted:,} of {len(impostor):,} accepted",
    )
    axes.axvline(
        threshold,
        color=MARK_COLOUR,
        linestyle="--",
        label=f"threshold {threshold:.4g}: accuracy {accuracy:.4f}",
    )
    axes.set(xlabel="similarity", ylabel="share of the class's pairs", ylim=(0, None))
    save_figure(figure, path, _titled(title, len(genuine), len(impostor)))


def _draw_linear_roc(axes: Axes, curve: metrics.Roc) -> None:
    eer = curve.eer()
    shown = curve.sample_points()
    axes.plot(curve.far[shown], curve.tar[shown], label=f"AUC {curve.auc():.4f}", **CURVE_STYLE)
    axes.plot(eer, 1 - eer, "D", color=IMPOSTOR_COLOUR, label=f"EER {eer:.4f}", **MARK_STYLE)
    axes.set_xlim(-MARGIN, 1 + MARGIN)


def _draw_logarithmic_roc(
    axes: Axes, curve: metrics.Roc, marks: Sequence[metrics.TarAtFar]
) -> None:
    shown = curve.sample_points()
    axes.plot(curve.far[shown], curve.tar[shown], drawstyle="steps-post", **CURVE_STYLE)
    for index, mark in enumerate(marks):
        tar = np.nan if mark.tar is None else mark.tar
        axes.plot(
            mark.far,
            tar,
            MARKERS[index % len(MARKERS)],
            color=MARK_COLOUR,
            label=_mark_label(mark),
            **MARK_STYLE,
        )
    axes.set(xscale="log", xlim=(min(1 / curve.impostors, WIDEST_LOG_FAR), 1))


def _mark_label(mark: metrics.TarAtFar) -> str:
    if mark.tar is None:
        return f"TAR at FAR {mark.far:g}: not measurable"
    return f"TAR at FAR {mark.far:g}: {mark.tar:.4f}"


def _bins(similarities: np.ndarray) -> np.ndarray:
    """Edges float64 [BINS + 1] over the range of the similarities; constant ones get a bar amid a range of 1."""
    lowest, highest = float(similarities.min()), float(similarities.max())
    room = 0.5 if highest - lowest < metrics.NARROWEST_RANGE else 0
    return np.linspace(lowest - room, highest + room, BINS + 1)


def _draw_bars(
    axes: Axes, similarities: np.ndarray, bins: np.ndarray, colour: str, label: str
) -> None:
    counts, _ = np.histogram(similarities, bins)
    axes.stairs(counts / len(similarities), bins, fill=True, alpha=0.4, color=colour, label=label)
    axes.stairs(counts / len(similarities), bins, color=colour)


def _titled(title: str, genuine: int, impostors: int) -> str:
    return f"{title} · {genuine:,} genuine and {impostors:,} impostor pairs"


def save_figure(figure: Figure, path: str, title: str) -> None:
    """Writes a figure as PNG, whole or not at all, its legend below it."""
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    figure.legend(
        loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False
    )  # beside the data, never over it
    with files.atomic_open(path, "wb") as file:
        FigureCanvasAgg(figure).print_figure(file, format="png", dpi=DPI)


# More pictures of a verifier: the DET curve, the reliability of its probability, and a map of its
# embeddings, as PNG.

_MAP_SIZE = (10, 6.5)  # inches
_MAP_PEOPLE = 10  # with a colour of their own; a palette has no more that can be told apart
_MAP_IMAGES = 4000  # drawn at most


def draw_det(path: str, similarities: np.ndarray, labels: np.ndarray, title: str = "DET") -> None:
    """Writes the detection error tradeoff, FRR over FAR, both logarithmic (after Martin et al., Eurospeech 1997).

    Args:
      path: where the PNG goes.
      similarities: floating [n].
      labels: int [n].
      title: what was measured.

    Raises:
      UserError: as `metrics.roc`.
    """
    curve = metrics.roc(similarities, labels)
    floor_far, floor_frr = (
        0.5 / curve.impostors,
        0.5 / curve.genuine,
    )  # where no error at all is drawn
    figure = Figure(figsize=FIGURE_SIZE, layout="constrained")
    axes = figure.subplots()
    shown = curve.sample_points()
    far, frr = curve.far[shown], 1 - curve.tar[shown]
    axes.plot(np.maximum(far, floor_far), np.maximum(frr, floor_frr), **CURVE_STYLE)
    eer = max(curve.eer(), floor_far)
    axes.plot(
        eer,
        eer,
        "D",
        color=IMPOSTOR_COLOUR,
        label=f"EER {curve.eer():.4f}",
        **MARK_STYLE,
    )
    axes.set(xscale="log", yscale="log", xlim=(floor_far, 1), ylim=(floor_frr, 1))
    axes.minorticks_off()  # over seven decades of either axis they take as long as all the rest
    axes.set(xlabel="FAR (impostor pairs accepted)", ylabel="FRR (genuine pairs rejected)")
    save_figure(figure, path, title)


def draw_reliability(path: str, curve: Sequence[dict], title: str = "Probability") -> None:
    """Writes how often pairs were genuine over the probability that was said of them; areas of the marks grow with pairs.

    Args:
      path: where the PNG goes.
      curve: from `calibration.reliability`.
      title: what was measured.
    """
    said, came = [row["probability"] for row in curve], [row["genuine"] for row in curve]
    pairs = np.array([row["pairs"] for row in curve])
    figure = Figure(figsize=FIGURE_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=FAINT_COLOUR, linestyle=":", label="agrees")
    axes.plot(said, came, **CURVE_STYLE)
    axes.scatter(said, came, s=20 + 300 * pairs / pairs.max(), color=GENUINE_COLOUR, alpha=0.6)
    axes.set(xlim=(-MARGIN, 1 + MARGIN), ylim=(-MARGIN, 1 + MARGIN))
    axes.set(xlabel="probability that was said", ylabel="share that was genuine")
    save_figure(figure, path, title)


def draw_map(
    path: str, embeddings: np.ndarray, identities: Sequence[str], title: str = "Embeddings"
) -> None:
    """Writes the first two principal components of embeddings; the people with most images have colours.

    Args:
      path: where the PNG goes.
      embeddings: float32 [m, d].
      identities: the person on each.
      title: what is shown.
    """
    names, numbers, counts = np.unique(
        np.array(identities), return_inverse=True, return_counts=True
    )
    shown = np.argsort(-counts, kind="stable")[:_MAP_PEOPLE]
    places, share = principal_components(embeddings)
    figure = Figure(figsize=_MAP_SIZE, layout="constrained")
    axes = figure.subplots()
    others = np.flatnonzero(~np.isin(numbers, shown))[:_MAP_IMAGES]
    axes.plot(*places[others].T, ".", color=FAINT_COLOUR, alpha=0.35, markersize=4, label="others")
    for colour, person in enumerate(shown):
        label = names[person].replace("$", r"\$")
        axes.plot(
            *places[numbers == person].T,
            "o",
            color=f"C{colour}",
            alpha=0.8,
            markersize=6,
            label=label,
        )
    axes.set(
        xlabel=f"first component ({share[0]:.0%} of the variance)",
        ylabel=f"second ({share[1]:.0%})",
    )
    save_figure(figure, path, title)


def principal_components(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two principal components, and the share of the variance that each holds.

    The sign of an axis is free: its largest weight is made positive, so that the same embeddings give the same map.

    Args:
      embeddings: floating [m, d], d of at least 2.

    Returns:
      float64 [m, 2], and float64 [2], 0 to 1.
    """
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), (0, 1)])
    total = variances.sum()
    return centred @ axes, variances[::-1][:2] / total if total > 0 else np.zeros(2)
