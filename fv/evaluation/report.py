"""The output folder of an evaluation: its files, the plots, and report.html, which embeds them."""

import json
import os
from collections.abc import Mapping, Sequence

import numpy as np

from fv import contact_sheets, files, ownership, page, record, workdir
from fv.errors import UserError
from fv.evaluation import figures, plots
from fv.evaluation.options import EvaluateOptions
from fv.evaluation.pairs import PairSet
from fv.evaluation.protocols import Decisions

FILE_NAME = "report.html"
ROC, DET, HISTOGRAM, RELIABILITY = "roc.png", "det.png", "histogram.png", "reliability.png"
MAP = "embeddings.png"
PLOTS = (ROC, DET, HISTOGRAM, RELIABILITY)
OF_SCORES = (workdir.METRICS, *PLOTS)
OF_MODEL = (workdir.METRICS, workdir.EVALUATE_FLAGS, workdir.SCORES, *PLOTS, MAP, FILE_NAME)

_KEYS = {"accuracy", "threshold", "auc", "eer", "tar_at_far", "pairs"}  # of metrics.json
_WORST = {
    record.GENUINE: "Genuine pairs with the lowest similarity",
    record.IMPOSTOR: "Impostor pairs with the highest similarity",
}
_WORST_PAIRS = 12  # of each class
_SHEET_COLUMNS, _SHEET_SIDE = 3, 150  # pairs in a row, and pixels of an image's side


def claim_outputs(folder: str, names: Sequence[str], options: EvaluateOptions) -> None:
    """Checks, before anything is computed, that an evaluation may write its files into a folder.

    Args:
      folder: the output folder; it need not exist.
      names: of the files, `OF_SCORES` or `OF_MODEL`.
      options: of the evaluation, which may not replace what it reads.

    Raises:
      UserError: a file of that name is not fv's, was changed, or is read by this evaluation; or the
        folder is a file.
    """
    if files.is_file(folder):
        raise UserError(f"{folder} is a file, no folder for an evaluation: give --output")
    read = (options.pairs_list, options.threshold_pairs, options.scores, options.threshold_scores)
    for name in names:
        ownership.require_not_read(os.path.join(folder, name), "output", filter(None, read))
    ownership.claim(folder, names, lambda name: _is_unlisted_copy(folder))


def _is_unlisted_copy(folder: str) -> bool:
    """Whether a folder holds the metrics.json of an evaluation, but not the list of its files."""
    path = os.path.join(folder, workdir.METRICS)
    try:
        return (
            workdir.METRICS not in ownership.listed_names(folder)
            and files.load_json(path).keys() >= _KEYS
        )
    except (UserError, AttributeError, FileNotFoundError, NotADirectoryError):
        return False


def draw_plots(folder: str, decisions: Decisions, content: dict) -> None:
    """Writes `PLOTS`; arguments as in `write_report`."""
    paths = {name: os.path.join(folder, name) for name in PLOTS}
    pairs = (decisions.similarities, decisions.labels)
    plots.draw_roc(paths[ROC], *pairs)
    plots.draw_det(paths[DET], *pairs)
    plots.draw_histogram(paths[HISTOGRAM], *pairs, content["threshold"])
    plots.draw_reliability(paths[RELIABILITY], content["probability"]["reliability"])


def write_report(
    folder: str, scored: PairSet, embeddings: np.ndarray, decisions: Decisions, content: dict
) -> None:
    """Writes the plots and report.html.

    Args:
      folder: where to.
      scored: the pairs.
      embeddings: float32 [m, embedding_size], of the images of the pairs.
      decisions: on the pairs.
      content: of metrics.json.
    """
    draw_plots(folder, decisions, content)
    used = np.union1d(scored.first, scored.second)
    people = [scored.images.identities[image] for image in used]
    plots.draw_map(os.path.join(folder, MAP), embeddings[used], people)
    drawn = {name: files.read_bytes(os.path.join(folder, name)) for name in (*PLOTS, MAP)}
    worst = {caption: _draw_worst(scored, decisions, label) for label, caption in _WORST.items()}
    with files.atomic_open(os.path.join(folder, FILE_NAME)) as file:
        file.write(_render(content, drawn, worst))


def _render(content: dict, drawn: Mapping[str, bytes], worst: Mapping[str, bytes]) -> str:
    """Renders the page.

    Args:
      content: of metrics.json.
      drawn: PNG bytes by name, of `PLOTS` and `MAP`.
      worst: JPEG bytes of sheets of pairs, by caption.
    """
    run, training = content["run"], content["run"]["training"] or {}
    facts = {name: value for name, value in run.items() if not isinstance(value, dict | None)}
    flags = [*run["model"].items(), *run["flags"].items()]
    shown = {name: value for name, value in training.items() if name != "flags"}
    return page.render(
        "evaluation.html",
        title=f"Evaluation on {content['split']}",
        content=content,
        drawn=drawn,
        worst=worst,
        figures=figures,
        named={"this model": content} | content["baselines"],
        run=[*facts.items(), ("pairs_sha256", content["pairs_sha256"])],
        run_flags=[(name, json.dumps(value)) for name, value in flags],
        training=[(name, value) for name, value in shown.items() if value is not None],
        training_flags=training.get("flags", {}).items(),
    )


def _draw_worst(scored: PairSet, decisions: Decisions, label: int) -> bytes:
    """A sheet of the pairs of a class whose similarity is most against it, the worst first."""
    members = np.flatnonzero(decisions.labels == label)
    against = decisions.similarities[members] * (1 if label == record.GENUINE else -1)
    worst = members[np.argsort(against, kind="stable")[:_WORST_PAIRS]]
    headings = {label: f"{contact_sheets.HEADINGS[label]}, the worst first, with their similarity"}
    sheet = contact_sheets.draw_pairs(
        [_to_sheet(scored, decisions, pair) for pair in worst],
        _SHEET_COLUMNS,
        _SHEET_SIDE,
        headings,
    )
    return contact_sheets.to_jpeg(sheet)


def _to_sheet(scored: PairSet, decisions: Decisions, pair: int) -> contact_sheets.Pair:
    first, second = scored.first[pair], scored.second[pair]
    name_a, name_b = (
        os.path.splitext(os.path.basename(scored.images.paths[image]))[0]
        for image in (first, second)
    )
    return contact_sheets.Pair(
        scored.images.read(first),
        scored.images.read(second),
        int(decisions.labels[pair]),
        f"{decisions.similarities[pair]:.3f}  {name_a}",
        name_b,
    )
