"""More pictures of a verifier: the DET curve, the reliability of its probability, and a map of its embeddings, as PNG."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from fv import metrics
from fv.evaluation import plots

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
    figure = Figure(figsize=plots.FIGURE_SIZE, layout="constrained")
    axes = figure.subplots()
    shown = curve.outline()
    far, frr = curve.far[shown], 1 - curve.tar[shown]
    axes.plot(np.maximum(far, floor_far), np.maximum(frr, floor_frr), **plots.CURVE_STYLE)
    eer = max(curve.eer(), floor_far)
    axes.plot(
        eer,
        eer,
        "D",
        color=plots.IMPOSTOR_COLOUR,
        label=f"EER {curve.eer():.4f}",
        **plots.MARK_STYLE,
    )
    axes.set(xscale="log", yscale="log", xlim=(floor_far, 1), ylim=(floor_frr, 1))
    axes.minorticks_off()  # over seven decades of either axis they take as long as all the rest
    axes.set(xlabel="FAR (impostor pairs accepted)", ylabel="FRR (genuine pairs rejected)")
    plots.save(figure, path, title)


def draw_reliability(path: str, curve: Sequence[dict], title: str = "Probability") -> None:
    """Writes how often pairs were genuine over the probability that was said of them; areas of the marks grow with pairs.

    Args:
      path: where the PNG goes.
      curve: from `calibration.reliability`.
      title: what was measured.
    """
    said, came = [row["probability"] for row in curve], [row["genuine"] for row in curve]
    pairs = np.array([row["pairs"] for row in curve])
    figure = Figure(figsize=plots.FIGURE_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=plots.FAINT_COLOUR, linestyle=":", label="agrees")
    axes.plot(said, came, **plots.CURVE_STYLE)
    axes.scatter(
        said, came, s=20 + 300 * pairs / pairs.max(), color=plots.GENUINE_COLOUR, alpha=0.6
    )
    axes.set(xlim=(-plots.MARGIN, 1 + plots.MARGIN), ylim=(-plots.MARGIN, 1 + plots.MARGIN))
    axes.set(xlabel="probability that was said", ylabel="share that was genuine")
    plots.save(figure, path, title)


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
    axes.plot(
        *places[others].T, ".", color=plots.FAINT_COLOUR, alpha=0.35, markersize=4, label="others"
    )
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
    plots.save(figure, path, title)


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
