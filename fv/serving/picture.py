"""A verdict as a picture: the two images, and the score on its scale with the threshold."""

import sys

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fv import files
from fv.conversion import formats
from fv.evaluation import plots
from fv.serving import sources
from fv.serving.sources import ImageSource
from fv.serving.verifier import Verdict

_FIGURE_SIZE = (7, 4.6)  # inches
_SHOWN_SIDE = 600  # pixels, of an image in the picture
_FACES_TO_SCALE = (4, 1)  # heights


def draw(path: str, image_a: ImageSource, image_b: ImageSource, verdict: Verdict) -> None:
    """Writes the picture of a verdict.

    Args:
      path: where the PNG goes; it appears whole or not at all.
      image_a: as in `Verifier.verify`.
      image_b: as image_a.
      verdict: on these two.
    """
    figure = Figure(figsize=_FIGURE_SIZE, layout="constrained")
    axes = figure.subplot_mosaic([["a", "b"], ["score", "score"]], height_ratios=_FACES_TO_SCALE)
    for place, image in (("a", image_a), ("b", image_b)):
        axes[place].imshow(_pixels(image))
        axes[place].set_title(sources.name(image).replace("$", r"\$")[-40:], fontsize=9)
        axes[place].set_axis_off()
    _draw_score(axes["score"], verdict)
    figure.suptitle(
        f"{'same person' if verdict.same else 'different people'}, probability {verdict.probability:.2f}"
    )
    with files.atomic_open(path, "wb") as file:
        FigureCanvasAgg(figure).print_figure(file, format="png", dpi=plots.DPI)


def _draw_score(axes: Axes, verdict: Verdict) -> None:
    colour = plots.GENUINE_COLOUR if verdict.same else plots.IMPOSTOR_COLOUR
    axes.barh(0, verdict.similarity, color=colour)
    axes.axvline(verdict.threshold, color=plots.MARK_COLOUR, linestyle="--")
    axes.set(
        xlim=(0, 1),
        yticks=[],
        xlabel=f"similarity {verdict.similarity:.4f}, threshold {verdict.threshold:.4f} (dashed)",
    )
    axes.spines[["top", "right", "left"]].set_visible(False)


def _pixels(image: ImageSource) -> np.ndarray:
    """The image as the model sees it before its crop: upright, transparency on white."""
    shown = Image.fromarray(formats.decode(sources.encode(image, sys.maxsize), sys.maxsize))
    shown.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    return np.asarray(shown)
