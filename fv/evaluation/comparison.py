"""Finished evaluations side by side: one table, one page."""

import os
import re
from collections.abc import Sequence

from fv import files, ownership, page, workdir
from fv.errors import UserError
from fv.evaluation import figures

FILE_NAME = "comparison.html"
_LABEL_LENGTH = 16  # letters beside a bar
_WAYS = (
    "flip",
    "checkpoint",
    "crop",
    "store_size",
    "threshold_split",
    "folds",
)  # flags of an evaluation that change figures
_PLACES = ("workdir", "tfrecords")
_HEADER = ("run", "pairs", "accuracy", "interval", "AUC", "EER", "Brier score")
_NEEDED = (
    "accuracy",
    "accuracy_standard_error",
    "auc",
    "eer",
    "tar_at_far",
    "pairs",
    "split",
    "probability",
    "notes",
)


def compare(runs: Sequence[str], output: str | None) -> None:
    """Prints a table of finished evaluations and writes comparison.html.

    Args:
      runs: folders that hold metrics.json.
      output: folder for the page; the first run's if None.

    Raises:
      UserError: fewer than two runs, or one is no evaluation of this fv.
    """
    if len(runs) < 2:
        raise UserError(f"--compare={runs[0]} is one run: give two or more, --compare RUN RUN …")
    found = {run: _load(run) for run in runs}
    folder = output or runs[0]
    path = os.path.join(folder, FILE_NAME)
    ownership.claim(folder, [FILE_NAME], lambda name: _is_comparison(path))
    with ownership.atomic_open(path) as file:
        file.write(render(found))
    print("\n".join([*_warnings(found), to_text(found), path]))


def to_text(found: dict[str, dict]) -> str:
    """The table for a terminal, a line a run."""
    rows = [list(_header(found)), *_rows(found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def render(found: dict[str, dict]) -> str:
    """The page, which needs no other file.

    Args:
      found: metrics.json by run.
    """
    settings = {run: _settings(content) for run, content in found.items()}
    accuracies = [round(content["accuracy"], 4) for content in found.values()]
    return page.render(
        "comparison.html",
        title=f"{len(found)} evaluations",
        warnings=_warnings(found),
        header=_header(found),
        rows=_rows(found),
        accuracies=list(zip(_labels(found), accuracies, strict=True)),
        notes=[[run, note] for run, content in found.items() for note in content["notes"]],
        differing=list(_differing(settings)),
        settings=settings,
    )


def _is_comparison(path: str) -> bool:
    """Whether a page is what `render` made, as far as its title tells."""
    return re.search(rb"<title>\d+ evaluations</title>", files.read_bytes(path)) is not None


def _load(run: str) -> dict:
    path = os.path.join(run, workdir.METRICS)
    if not os.path.exists(path):
        raise UserError(f"{run} holds no {workdir.METRICS}: run fv.evaluate first")
    content = files.load_json(path)
    lacking = [name for name in _NEEDED if name not in content]
    if lacking:
        raise UserError(
            f"{path} has no '{lacking[0]}': it is of an older fv, run fv.evaluate again"
        )
    return content


def _fars(found: dict[str, dict]) -> list[str]:
    """FARs that every run has."""
    first, *others = (content["tar_at_far"] for content in found.values())
    return [far for far in first if all(far in other for other in others)]


def _header(found: dict[str, dict]) -> tuple[str, ...]:
    return (*_HEADER, *(f"TAR@FAR {far}" for far in _fars(found)))


def _rows(found: dict[str, dict]) -> list[list[str]]:
    fars = _fars(found)
    return [
        [run, f"{content['split']}: {content['pairs']:,}", *_figures(content, fars)]
        for run, content in found.items()
    ]


def _figures(content: dict, fars: Sequence[str]) -> list[str]:
    rates = [content["auc"], content["eer"], content["probability"]["brier"]]
    cells = [
        figures.format_accuracy(content),
        figures.format_interval(content, "accuracy"),
        *(f"{rate:.4f}" for rate in rates),
    ]
    return [*cells, *(figures.format_tar(content["tar_at_far"][far]) for far in fars)]


def _warnings(found: dict[str, dict]) -> list[str]:
    warnings = []
    if not _same_pairs(list(found.values())):
        warnings.append(
            "These runs were not scored on the same pairs: their figures do not compare."
        )
    unlike = _differing({run: _way(content) for run, content in found.items()})
    if unlike:
        ways = "; ".join(
            f"{run}: {', '.join(f'{name} {_way(content)[name]}' for name in unlike)}"
            for run, content in found.items()
        )
        warnings.append(f"These runs were not scored in the same way: {ways}.")
    return warnings


def _same_pairs(contents: Sequence[dict]) -> bool:
    """By the pairs' digest; by their numbers where an older fv wrote none."""
    digests = {content.get("pairs_sha256") for content in contents}
    if None not in digests:
        return len(digests) == 1
    return (
        len({(content["split"], content["pairs"], content["genuine"]) for content in contents}) == 1
    )


def _way(content: dict) -> dict:
    flags = content["run"].get("flags", {})
    flags = {"crop": "none"} | flags  # not among the flags where shards were scored
    return {name: flags.get(name) for name in _WAYS}


def _labels(found: dict[str, dict]) -> list[str]:
    """What tells the runs' folders apart, short enough for a bar, each once."""
    parts = [os.path.normpath(run).split(os.sep) for run in found]
    while (
        all(len(part) > 1 for part in parts) and len({part[-1] for part in parts}) == 1
    ):  # a sweep's are all 'evaluation'
        parts = [part[:-1] for part in parts]
    while all(len(part) > 1 for part in parts) and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]
    labels = ["/".join(part)[-_LABEL_LENGTH:] for part in parts]
    if len(set(labels)) == len(labels):
        return labels
    return [f"{number} {label[3:]}" for number, label in enumerate(labels, start=1)]


def _settings(content: dict) -> dict:
    training = content["run"].get("training") or {}
    trained = {
        name: value for name, value in training.get("flags", {}).items() if name not in _PLACES
    }
    origin = {name: training.get(name) for name in ("revision", "manifest_sha256")}
    augmented = {"training flip": trained.pop("flip", None)}  # evaluation has a flag of that name
    return (
        trained
        | origin
        | augmented
        | content["run"]["model"]
        | {"step": content["step"]}
        | _way(content)
    )


def _differing(settings: dict[str, dict]) -> list[str]:
    names = sorted({name for own in settings.values() for name in own})
    return [name for name in names if len({str(own.get(name)) for own in settings.values()}) > 1]
