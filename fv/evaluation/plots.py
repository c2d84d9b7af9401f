"""Plots of an evaluation as PNG files: ROC, DET, histogram, reliability and a map of embeddings.

They are drawn without pyplot, so that they touch no global state and any thread may draw. People
with any common colour blindness can tell the two colours apart (Okabe and Ito, 2008).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fv import files, metrics

GENUINE_COLOUR, IMPOSTOR_COLOUR = "#0072B2", "#D55E00"
MARK_COLOUR, FAINT_COLOUR = "#222222", "#8A8A8A"
DPI = 150
_CURVE_STYLE: dict[str, Any] = dict(color=GENUINE_COLOUR, linewidth=2)
_MARK_STYLE: dict[str, Any] = dict(
    linestyle="none", markersize=8, markeredgecolor="white", clip_on=False, zorder=3
)
_MARKERS = "os^vPX"  # one for each FAR
_CHANCE = np.geomspace(1e-9, 1, 200)  # the ROC curve of a coin
_BINS = 61  # odd, so that constant similarities fill the middle one
_FIGURE_SIZE = (10, 5)  # inches
_LEGEND_COLUMNS = 4
_MARGIN = 0.02  # around rates from 0 to 1
_WIDEST_LOG_FAR = 0.1  # the logarithmic panel spans at least 0.1 to 1
_MAP_SIZE = (10, 6.5)  # inches
_MAP_PEOPLE = 10  # with their own colour; a palette has no more that can be told apart
_MAP_IMAGES = 4000  # of other people, at most


def draw_roc(path: str, similarities: np.ndarray, labels: np.ndarray) -> None:
    """Draws the ROC curve over linear FAR, with AUC and EER, and over logarithmic FAR, with TARs.

    The left curve joins its points by lines, as AUC and EER do. The right one is stepped, since TAR
    at FAR is not interpolated: its marks are on the steps.

    Args:
      path: of the PNG; it is written atomically.
      similarities: float [n].
      labels: int or bool [n], 1 for a genuine pair and 0 for an impostor pair.

    Raises:
      UserError: as `metrics.roc`.
    """
    curve = metrics.roc(similarities, labels)
    shown = curve.sample_points()
    far, tar, eer = curve.far[shown], curve.tar[shown], curve.eer()
    figure = Figure(figsize=_FIGURE_SIZE, layout="constrained")
    linear, logarithmic = figure.subplots(1, 2, sharey=True)
    linear.plot(far, tar, label=f"AUC {curve.auc():.4f}", **_CURVE_STYLE)
    linear.plot(eer, 1 - eer, "D", color=IMPOSTOR_COLOUR, label=f"EER {eer:.4f}", **_MARK_STYLE)
    logarithmic.plot(far, tar, drawstyle="steps-post", **_CURVE_STYLE)
    for marker, limit in zip(_MARKERS, metrics.FARS, strict=False):
        point = curve.tar_at_far(limit)
        found = "not measurable" if point.tar is None else f"{point.tar:.4f}"
        logarithmic.plot(
            limit,
            np.nan if point.tar is None else point.tar,  # listed without a mark
            marker,
            color=MARK_COLOUR,
            label=f"TAR at FAR {limit:g}: {found}",
            **_MARK_STYLE,
        )
    linear.set_xlim(-_MARGIN, 1 + _MARGIN)
    linear.set(ylim=(-_MARGIN, 1 + _MARGIN), ylabel="TAR (genuine pairs accepted)")
    logarithmic.set(xscale="log", xlim=(min(1 / curve.impostors, _WIDEST_LOG_FAR), 1))
    for axes in (linear, logarithmic):
        axes.plot(_CHANCE, _CHANCE, color=FAINT_COLOUR, linestyle=":")
        axes.set_xlabel("FAR (impostor pairs accepted)")
    _save(figure, path, _with_counts("ROC", curve.genuine, curve.impostors))


def draw_det(path: str, similarities: np.ndarray, labels: np.ndarray) -> None:
    """Draws the detection error tradeoff, FRR over FAR, both logarithmic.

    After Martin et al., The DET curve in assessment of detection task performance, Eurospeech 1997.
    Arguments and errors as `draw_roc`.
    """
    curve = metrics.roc(similarities, labels)
    # a rate of 0 is drawn as half a pair
    floor_far, floor_frr = 0.5 / curve.impostors, 0.5 / curve.genuine
    figure = Figure(figsize=_FIGURE_SIZE, layout="constrained")
    axes = figure.subplots()
    shown = curve.sample_points()
    far, frr = curve.far[shown], 1 - curve.tar[shown]
    axes.plot(np.maximum(far, floor_far), np.maximum(frr, floor_frr), **_CURVE_STYLE)
    eer = max(curve.eer(), floor_far)
    label = f"EER {curve.eer():.4f}"
    axes.plot(eer, eer, "D", color=IMPOSTOR_COLOUR, label=label, **_MARK_STYLE)
    axes.set(xscale="log", yscale="log", xlim=(floor_far, 1), ylim=(floor_frr, 1))
    axes.minorticks_off()  # over seven decades they take as long as all the rest
    axes.set(xlabel="FAR (impostor pairs accepted)", ylabel="FRR (genuine pairs rejected)")
    _save(figure, path, "DET")


def draw_histogram(
    path: str, similarities: np.ndarray, labels: np.ndarray, threshold: float
) -> None:
    """Draws the histograms of both classes, with the threshold and the errors it makes.

    Arguments as `draw_roc`.

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
    rejected, accepted = np.sum(genuine < threshold), np.sum(impostor >= threshold)
    lowest, highest = float(similarities.min()), float(similarities.max())
    # constant similarities get one bar amid a range of 1
    room = 0.5 if highest - lowest < metrics.NARROWEST_RANGE else 0
    bins = np.linspace(lowest - room, highest + room, _BINS + 1)
    figure = Figure(figsize=_FIGURE_SIZE, layout="constrained")
    axes = figure.subplots()
    label = f"genuine: {rejected:,} of {len(genuine):,} rejected"
    _draw_bars(axes, genuine, bins, GENUINE_COLOUR, label)
    label = f"impostor: {accepted:,} of {len(impostor):,} accepted"
    _draw_bars(axes, impostor, bins, IMPOSTOR_COLOUR, label)
    label = f"threshold {threshold:.4g}: accuracy {accuracy:.4f}"
    axes.axvline(threshold, color=MARK_COLOUR, linestyle="--", label=label)
    axes.set(xlabel="similarity", ylabel="share of the class's pairs", ylim=(0, None))
    _save(figure, path, _with_counts("Similarities", len(genuine), len(impostor)))


def draw_reliability(path: str, curve: Sequence[dict]) -> None:
    """Draws the share of genuine pairs over the probability, from `calibration.reliability`.

    The areas of the marks grow with the number of pairs.
    """
    probability, genuine = ([row[name] for row in curve] for name in ("probability", "genuine"))
    pairs = np.array([row["pairs"] for row in curve])
    figure = Figure(figsize=_FIGURE_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=FAINT_COLOUR, linestyle=":", label="calibrated")
    axes.plot(probability, genuine, **_CURVE_STYLE)
    sizes = 20 + 300 * pairs / pairs.max()
    axes.scatter(probability, genuine, s=sizes, color=GENUINE_COLOUR, alpha=0.6)
    axes.set(xlim=(-_MARGIN, 1 + _MARGIN), ylim=(-_MARGIN, 1 + _MARGIN))
    axes.set(xlabel="mean probability", ylabel="share of genuine pairs")
    _save(figure, path, "Probability")


def draw_map(path: str, embeddings: np.ndarray, identities: Sequence[str]) -> None:
    """Draws the first two principal components of embeddings, float [m, d].

    The people with most images have colours.
    """
    names, numbers, counts = np.unique(
        np.array(identities), return_inverse=True, return_counts=True
    )
    coloured = np.argsort(-counts, kind="stable")[:_MAP_PEOPLE]
    points, share = principal_components(embeddings)
    figure = Figure(figsize=_MAP_SIZE, layout="constrained")
    axes = figure.subplots()
    others = np.flatnonzero(~np.isin(numbers, coloured))[:_MAP_IMAGES]
    style: dict[str, Any] = dict(alpha=0.35, markersize=4, label="others")
    axes.plot(*points[others].T, ".", color=FAINT_COLOUR, **style)
    for colour, person in enumerate(coloured):
        style = dict(alpha=0.8, markersize=6, label=names[person].replace("$", r"\$"))
        axes.plot(*points[numbers == person].T, "o", color=f"C{colour}", **style)
    axes.set_xlabel(f"first component ({share[0]:.0%} of the variance)")
    axes.set_ylabel(f"second ({share[1]:.0%})")
    _save(figure, path, "Embeddings")


def principal_components(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two principal components of float [m, d], and the share of variance of each.

    The sign of an axis is free: its largest weight is made positive, so that the same embeddings
    give the same map.

    Returns:
      float64 [m, 2], and float64 [2], 0 to 1.
    """
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), (0, 1)])
    total = variances.sum()
    return centred @ axes, variances[::-1][:2] / total if total > 0 else np.zeros(2)


def _draw_bars(
    axes: Axes, similarities: np.ndarray, bins: np.ndarray, colour: str, label: str
) -> None:
    counts, _ = np.histogram(similarities, bins)
    axes.stairs(counts / len(similarities), bins, fill=True, alpha=0.4, color=colour, label=label)
    axes.stairs(counts / len(similarities), bins, color=colour)


def _with_counts(title: str, genuine: int, impostors: int) -> str:
    return f"{title} · {genuine:,} genuine and {impostors:,} impostor pairs"


def _save(figure: Figure, path: str, title: str) -> None:
    """Writes a figure atomically, its legend below it."""
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    # beside the data, never over it
    figure.legend(loc="outside lower center", ncols=_LEGEND_COLUMNS, frameon=False)
    with files.atomic_open(path, "wb") as file:
        FigureCanvasAgg(figure).print_figure(file, format="png", dpi=DPI)
