"""The report of an evaluation: its pictures, and a page that holds them and needs no other file."""

import os

import numpy as np

from fv import files, record
from fv.conversion import sheet
from fv.evaluation import pictures, plots, report_page
from fv.evaluation.pair_set import PairSet
from fv.evaluation.protocols import Judged

FILE_NAME = "report.html"
ROC, DET, HISTOGRAM, RELIABILITY, MAP = (
    "roc.png",
    "det.png",
    "histogram.png",
    "reliability.png",
    "embeddings.png",
)
_WORST = 12  # pairs of either kind that are shown
_SHEET_COLUMNS, _SHEET_SIDE = 3, 150  # pairs beside each other, and the side of an image in pixels


def write(
    folder: str, scored: PairSet, embeddings: np.ndarray, judged: Judged, content: dict
) -> None:
    """Writes the pictures and report.html.

    Args:
      folder: where to.
      scored: the pairs.
      embeddings: float32 [images, embedding size], of the images that the pairs are of.
      judged: the verdicts.
      content: of metrics.json.
    """
    draw(folder, judged, content)
    used = np.union1d(scored.first, scored.second)
    people = [scored.images.identities[image] for image in used]
    pictures.draw_map(os.path.join(folder, MAP), embeddings[used], people)
    drawn = {
        name: files.read_bytes(os.path.join(folder, name))
        for name in (ROC, DET, HISTOGRAM, RELIABILITY, MAP)
    }
    worst = {
        label: _draw_worst(scored, judged, label) for label in (record.GENUINE, record.IMPOSTOR)
    }
    with files.atomic_open(os.path.join(folder, FILE_NAME)) as file:
        file.write(report_page.render(content, drawn, worst))


def find_worst(judged: Judged, label: int, count: int) -> np.ndarray:
    """Indices of the pairs of a label whose similarity is most against it, the worst first; ties in the pairs' order."""
    members = np.flatnonzero(judged.labels == label)
    against = judged.similarities[members] * (1 if label == record.GENUINE else -1)
    return members[np.argsort(against, kind="stable")[:count]]


def draw(folder: str, judged: Judged, content: dict) -> None:
    """Writes the pictures of the similarities and their probability; arguments as in `write`."""
    paths = {name: os.path.join(folder, name) for name in (ROC, DET, HISTOGRAM, RELIABILITY)}
    pairs = (judged.similarities, judged.labels)
    plots.draw_roc(paths[ROC], *pairs)
    pictures.draw_det(paths[DET], *pairs)
    plots.draw_histogram(paths[HISTOGRAM], *pairs, content["threshold"])
    pictures.draw_reliability(paths[RELIABILITY], content["probability"]["reliability"])


def _draw_worst(scored: PairSet, judged: Judged, label: int) -> bytes:
    pairs = [_to_sheet(scored, judged, pair) for pair in find_worst(judged, label, _WORST)]
    headings = {label: f"{sheet.HEADINGS[label]}, the worst first, with their similarity"}
    return sheet.to_jpeg(sheet.draw(pairs, _SHEET_COLUMNS, _SHEET_SIDE, headings))


def _to_sheet(scored: PairSet, judged: Judged, pair: int) -> sheet.Pair:
    ends = scored.first[pair], scored.second[pair]
    images = [scored.images.read(end) for end in ends]
    names = [os.path.splitext(os.path.basename(scored.images.paths[end]))[0] for end in ends]
    return sheet.Pair(
        *images, int(judged.labels[pair]), f"{judged.similarities[pair]:.3f}  {names[0]}", names[1]
    )
