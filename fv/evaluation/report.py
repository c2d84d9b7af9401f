"""The report of an evaluation: its pictures, and a page that holds them and needs no other file."""

import json
import os
from collections.abc import Mapping, Sequence

import numpy as np

from fv import contact_sheets, files, ownership, page, record, workdir
from fv.errors import UserError
from fv.evaluation import figures, plots
from fv.evaluation.options import EvaluateOptions
from fv.evaluation.pairs import PairSet
from fv.evaluation.protocols import Judged

# The report of an evaluation as a page (`fv/templates/evaluation.html`).

_WORST = {
    record.GENUINE: "Genuine pairs with the lowest similarity",
    record.IMPOSTOR: "Impostor pairs with the highest similarity",
}


def render_report(content: dict, drawn: Mapping[str, bytes], worst: Mapping[int, bytes]) -> str:
    """Renders the whole page, which needs no other file.

    Args:
      content: of metrics.json.
      drawn: PNG bytes of roc.png, det.png, histogram.png, reliability.png and embeddings.png.
      worst: JPEG bytes of a sheet of the pairs that are decided worst, by label.

    Returns:
      HTML, the same for the same arguments.
    """
    run, training = content["run"], content["run"]["training"] or {}
    facts = {name: value for name, value in run.items() if not isinstance(value, dict | None)}
    flags = [*run["model"].items(), *run["flags"].items()]
    return page.render(
        "evaluation.html",
        title=f"Evaluation on {content['split']}",
        content=content,
        drawn=drawn,
        worst={caption: worst[label] for label, caption in _WORST.items()},
        figures=figures,
        named={"this model": content} | content["baselines"],
        run=[*facts.items(), ("pairs_sha256", content["pairs_sha256"])],
        run_flags=[(name, json.dumps(value)) for name, value in flags],
        training=[
            (name, value)
            for name, value in training.items()
            if name != "flags" and value is not None
        ],
        training_flags=training.get("flags", {}).items(),
    )


FILE_NAME = "report.html"
ROC, DET, HISTOGRAM, RELIABILITY, MAP = (
    "roc.png",
    "det.png",
    "histogram.png",
    "reliability.png",
    "embeddings.png",
)
_REPORT_WORST = 12  # pairs of either kind that are shown
_SHEET_COLUMNS, _SHEET_SIDE = 3, 150  # pairs beside each other, and the side of an image in pixels


def write_report(
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
    draw_figures(folder, judged, content)
    used = np.union1d(scored.first, scored.second)
    people = [scored.images.identities[image] for image in used]
    plots.draw_map(os.path.join(folder, MAP), embeddings[used], people)
    drawn = {
        name: files.read_bytes(os.path.join(folder, name))
        for name in (ROC, DET, HISTOGRAM, RELIABILITY, MAP)
    }
    worst = {
        label: _draw_worst(scored, judged, label) for label in (record.GENUINE, record.IMPOSTOR)
    }
    with files.atomic_open(os.path.join(folder, FILE_NAME)) as file:
        file.write(render_report(content, drawn, worst))


def find_worst(judged: Judged, label: int, count: int) -> np.ndarray:
    """Indices of the pairs of a label whose similarity is most against it, the worst first; ties in the pairs' order."""
    members = np.flatnonzero(judged.labels == label)
    against = judged.similarities[members] * (1 if label == record.GENUINE else -1)
    return members[np.argsort(against, kind="stable")[:count]]


def draw_figures(folder: str, judged: Judged, content: dict) -> None:
    """Writes the pictures of the similarities and their probability; arguments as in `write`."""
    paths = {name: os.path.join(folder, name) for name in (ROC, DET, HISTOGRAM, RELIABILITY)}
    pairs = (judged.similarities, judged.labels)
    plots.draw_roc(paths[ROC], *pairs)
    plots.draw_det(paths[DET], *pairs)
    plots.draw_histogram(paths[HISTOGRAM], *pairs, content["threshold"])
    plots.draw_reliability(paths[RELIABILITY], content["probability"]["reliability"])


def _draw_worst(scored: PairSet, judged: Judged, label: int) -> bytes:
    pairs = [_to_sheet(scored, judged, pair) for pair in find_worst(judged, label, _REPORT_WORST)]
    headings = {label: f"{contact_sheets.HEADINGS[label]}, the worst first, with their similarity"}
    return contact_sheets.to_jpeg(
        contact_sheets.draw_pairs(pairs, _SHEET_COLUMNS, _SHEET_SIDE, headings)
    )


def _to_sheet(scored: PairSet, judged: Judged, pair: int) -> contact_sheets.Pair:
    ends = scored.first[pair], scored.second[pair]
    images = [scored.images.read(end) for end in ends]
    names = [os.path.splitext(os.path.basename(scored.images.paths[end]))[0] for end in ends]
    return contact_sheets.Pair(
        *images, int(judged.labels[pair]), f"{judged.similarities[pair]:.3f}  {names[0]}", names[1]
    )


# The files of an evaluation in its output folder: their names, and whose they are.

_PICTURES = (ROC, DET, HISTOGRAM, RELIABILITY)
OF_SCORES = (workdir.METRICS, *_PICTURES)
OF_MODEL = (
    workdir.METRICS,
    workdir.EVALUATE_FLAGS,
    workdir.SCORES,
    *_PICTURES,
    MAP,
    FILE_NAME,
)
_KEYS = {"accuracy", "threshold", "auc", "eer", "tar_at_far", "pairs"}  # of metrics.json


def claim_outputs(folder: str, names: Sequence[str], options: EvaluateOptions) -> None:
    """Checks, before anything is computed, that an evaluation may write its files into a folder.

    Raises:
      UserError: one of them is there and is not fv's, was changed since, or is read by this evaluation; or the folder
        is a file.
    """
    if os.path.isfile(folder):
        raise UserError(f"{folder} is a file, no folder for an evaluation: give --output")
    read = (options.pairs_list, options.threshold_pairs, options.scores, options.threshold_scores)
    for name in names:
        ownership.require_not_read(os.path.join(folder, name), "output", filter(None, read))
    ownership.claim(folder, names, lambda name: _is_of_earlier_version(folder))


def _is_of_earlier_version(folder: str) -> bool:
    """Whether an earlier fv, which listed no files, evaluated into a folder: then its metrics.json vouches for the rest."""
    path = os.path.join(folder, workdir.METRICS)
    try:
        return (
            workdir.METRICS not in ownership.listed_names(folder)
            and files.load_json(path).keys() >= _KEYS
        )
    except (UserError, AttributeError, FileNotFoundError, NotADirectoryError):
        return False
