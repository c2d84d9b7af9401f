"""Says whether two images show the same person: python -m fv.verify --model=DIR A.jpg B.jpg

Exits with 0 for the same person, 1 for different people, 2 for an error, 75 for an error of a disk
or network that may pass. With --pairs_csv it answers each row of a table (columns image_a and
image_b, and label, 1 for the same person and 0 for two people, if known) and exits with 0.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from fv import cli, files, ownership, quiet_tensorflow
from fv.alignment import Face
from fv.conversion import image_files
from fv.errors import UserError
from fv.options import group, option, required
from fv.serving import image_inputs, pairs_table
from fv.serving.engine import ENGINES, TENSORFLOW, share_cores_by_image
from fv.serving.image_inputs import FinderOptions
from fv.serving.verifier import Verdict, Verifier

EXIT_SAME, EXIT_DIFFERENT = 0, 1
_FIGURE_SIZE = (7, 4.6)  # inches
_SHOWN_SIDE = 600  # pixels at most, of an image in the picture
_FACES_TO_SCALE = (4, 1)  # heights


@dataclasses.dataclass(frozen=True)
class VerifyOptions:
    """Which model answers, and how."""

    model: str = required(
        "version folder that fv.export wrote, such as export/1, or the folder above it for its "
        "highest version."
    )
    threshold: float | None = option(
        None,
        "Lowest similarity of two images of the same person; the model's threshold by default.",
        lower=0.0,
        upper=1.0,
    )
    engine: str = option(
        TENSORFLOW,
        "What runs the network: tensorflow, or onnx on an export with --formats=saved_model,onnx.",
        choices=ENGINES,
    )
    json: bool = option(False, "Print one JSON object instead of text.")
    picture: str | None = option(None, "Write a PNG of both images and the score on its scale.")
    pairs_csv: str | None = option(
        None,
        "CSV of many pairs, with the columns image_a and image_b; paths are relative to its own "
        "folder.",
    )
    faces: FinderOptions = group(FinderOptions)
    face_points: str | None = option(
        None,
        "File of faces, as for the converter, with paths relative to its own folder; the "
        "detector finds the faces of other images.",
    )
    output: str | None = option(
        None, "CSV for the verdicts on --pairs_csv; by default its name with -verdicts before .csv."
    )


def verify(options: VerifyOptions, *images: str) -> int:
    """Prints the verdict, or a summary of the verdicts, and returns the exit code."""
    if options.picture and options.pairs_csv:
        raise UserError(
            f"--picture={options.picture} shows two images, not the pairs of --pairs_csv: leave it "
            "out"
        )
    if options.output and not options.pairs_csv:
        raise UserError(
            f"--output={options.output} is for the verdicts on --pairs_csv: give this too, or "
            "--json for one verdict"
        )
    ownership.require_not_read(options.picture, "picture", images)
    if options.pairs_csv:
        output = pairs_table.choose_output(options.pairs_csv, options.output)
        verifier = _load(options)
        summary = pairs_table.verify_table(verifier, options.pairs_csv, output)
        print(files.to_json(summary) if options.json else pairs_table.describe(summary))
        return EXIT_SAME
    image_a, image_b = images
    verdict = quiet_tensorflow.call_quietly(_load(options).verify, image_a, image_b)
    assert isinstance(verdict, Verdict)  # of two images, not of two batches
    if options.picture:
        _draw(options.picture, images, verdict)
    print(files.to_json(verdict.to_json()) if options.json else verdict.sentence())
    return EXIT_SAME if verdict.same else EXIT_DIFFERENT


def _load(options: VerifyOptions) -> Verifier:
    share_cores_by_image()
    return Verifier(
        options.model,
        options.threshold,
        engine=options.engine,
        **vars(options.faces),
        face_points=options.face_points,
    )


def _draw(path: str, images: Sequence[str], verdict: Verdict) -> None:
    """Writes a PNG of two images, and the similarity on its scale with the threshold."""
    # matplotlib takes a tenth of a verdict's time to load.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from fv.evaluation import plots

    figure = Figure(figsize=_FIGURE_SIZE, layout="constrained")
    axes = figure.subplot_mosaic([["a", "b"], ["score", "score"]], height_ratios=_FACES_TO_SCALE)
    faces = (verdict.face_a, verdict.face_b)
    for place, image, face in zip("ab", images, faces, strict=True):
        # As the model sees it before its crop: upright, transparency on white.
        pixels = image_files.decode(image_inputs.encode(image, sys.maxsize), sys.maxsize)
        shown = Image.fromarray(pixels)
        shown.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
        axes[place].imshow(np.asarray(shown))
        if face:
            _draw_face(axes[place], face, shown.width / pixels.shape[1])
        axes[place].set_title(image.replace("$", r"\$")[-40:], fontsize=9)
        axes[place].set_axis_off()
    colour = plots.GENUINE_COLOUR if verdict.same else plots.IMPOSTOR_COLOUR
    scale = axes["score"]
    scale.barh(0, verdict.similarity, color=colour)
    scale.axvline(verdict.threshold, color=plots.MARK_COLOUR, linestyle="--")
    label = f"similarity {verdict.similarity:.4f}, threshold {verdict.threshold:.4f} (dashed)"
    scale.set(xlim=(0, 1), yticks=[], xlabel=label)
    scale.spines[["top", "right", "left"]].set_visible(False)
    who = "same person" if verdict.same else "different people"
    figure.suptitle(f"{who}, probability {verdict.probability:.2f}")
    with files.atomic_open(path, "wb") as file:
        FigureCanvasAgg(figure).print_figure(file, format="png", dpi=plots.DPI)


def _draw_face(axes: Any, face: Face, scale: float) -> None:
    """Draws box and points into an image that was scaled."""
    if face.box:
        left, top, width, height = (scale * number for number in face.box)
        across = np.array([0, width, width, 0, 0])
        down = np.array([0, 0, height, height, 0])
        axes.plot(left + across, top + down, color="yellow", linewidth=1)
    axes.scatter(*(scale * np.asarray(face.points)).T, s=12, color="yellow", edgecolors="black")


def run() -> None:
    """The console script."""
    names = [argument.lstrip("-").split("=")[0] for argument in sys.argv[1:]]
    images = () if "pairs_csv" in names else ("IMAGE_A", "IMAGE_B")
    cli.run(verify, VerifyOptions, positional=images, description=__doc__)


if __name__ == "__main__":
    run()
