"""Comparison of finished evaluations: a table on the terminal and the page comparison.html."""

import os
import re
from collections.abc import Mapping, Sequence

from fv import files, ownership, page, workdir
from fv.errors import UserError
from fv.evaluation import figures

FILE_NAME = "comparison.html"
_LABEL_LENGTH = 16  # characters beside a bar
# flags of an evaluation that change figures
_EVALUATION_FLAGS = ("flip", "checkpoint", "crop", "store_size", "threshold_split", "folds")
_FOLDER_FLAGS = ("workdir", "tfrecords")  # of training; they differ without an effect
_HEADER = ("run", "pairs", "accuracy", "interval", "AUC", "EER", "Brier score")
_NEEDED = (
    *("accuracy", "accuracy_standard_error", "auc", "eer", "tar_at_far"),
    *("pairs", "split", "probability", "notes"),
)


def compare(runs: Sequence[str], output: str | None) -> None:
    """Prints a table of finished evaluations and writes comparison.html.

    Args:
      runs: folders that hold metrics.json.
      output: folder for the page; the first run's if None.

    Raises:
      UserError: fewer than two runs, or one is not an evaluation of this fv.
    """
    if len(runs) < 2:
        raise UserError(f"--compare={runs[0]} is one run: give two or more, --compare RUN RUN …")
    contents = {run: _load(run) for run in runs}
    folder = output or runs[0]
    path = os.path.join(folder, FILE_NAME)
    ownership.claim(folder, [FILE_NAME], lambda name: _is_comparison(path))
    with ownership.atomic_open(path) as file:
        file.write(render_page(contents))
    print("\n".join([*_warnings(contents), render_table(contents), path]))


def render_table(contents: Mapping[str, dict]) -> str:
    """The table for a terminal of metrics.json by run, one line a run."""
    rows = [list(_header(contents)), *_rows(contents)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def render_page(contents: Mapping[str, dict]) -> str:
    """The page of metrics.json by run; it needs no other file."""
    settings = {run: _settings(content) for run, content in contents.items()}
    accuracies = [round(content["accuracy"], 4) for content in contents.values()]
    return page.render(
        "comparison.html",
        title=f"{len(contents)} evaluations",
        warnings=_warnings(contents),
        header=_header(contents),
        rows=_rows(contents),
        accuracies=list(zip(_labels(contents), accuracies, strict=True)),
        notes=[[run, note] for run, content in contents.items() for note in content["notes"]],
        differing=_find_differing(settings),
        settings=settings,
    )


def _is_comparison(path: str) -> bool:
    """Whether a file has the title of a comparison."""
    return re.search(rb"<title>\d+ evaluations</title>", files.read_bytes(path)) is not None


def _load(run: str) -> dict:
    path = os.path.join(run, workdir.METRICS)
    if not files.exists(path):
        raise UserError(f"{run} holds no {workdir.METRICS}: run fv.evaluate first")
    content = files.load_json(path)
    missing = [name for name in _NEEDED if name not in content]
    if missing:
        raise UserError(f"{path} has no '{missing[0]}': another fv wrote it, run fv.evaluate again")
    return content


def _common_fars(contents: Mapping[str, dict]) -> list[str]:
    first, *others = (content["tar_at_far"] for content in contents.values())
    return [far for far in first if all(far in other for other in others)]


def _header(contents: Mapping[str, dict]) -> tuple[str, ...]:
    return (*_HEADER, *(f"TAR@FAR {far}" for far in _common_fars(contents)))


def _rows(contents: Mapping[str, dict]) -> list[list[str]]:
    fars = _common_fars(contents)
    return [
        [
            run,
            f"{content['split']}: {content['pairs']:,}",
            figures.format_accuracy(content),
            figures.format_interval(content, "accuracy"),
            f"{content['auc']:.4f}",
            f"{content['eer']:.4f}",
            f"{content['probability']['brier']:.4f}",
            *(figures.format_tar(content["tar_at_far"][far]) for far in fars),
        ]
        for run, content in contents.items()
    ]


def _warnings(contents: Mapping[str, dict]) -> list[str]:
    warnings = []
    if not _have_same_pairs(list(contents.values())):
        warnings.append("These runs were not scored on the same pairs: do not compare them.")
    flags = {run: _evaluation_flags(content) for run, content in contents.items()}
    differing = _find_differing(flags)
    if differing:
        ways = "; ".join(
            f"{run}: {', '.join(f'{name} {own[name]}' for name in differing)}"
            for run, own in flags.items()
        )
        warnings.append(f"These runs were not scored in the same way: {ways}.")
    return warnings


def _have_same_pairs(contents: Sequence[dict]) -> bool:
    digests = {content.get("pairs_sha256") for content in contents}
    if None not in digests:
        return len(digests) == 1
    # Given scores have no digest.
    return (
        len({(content["split"], content["pairs"], content["genuine"]) for content in contents}) == 1
    )


def _evaluation_flags(content: dict) -> dict:
    # metrics.json has no crop if shards were scored
    flags = {"crop": "none"} | content["run"].get("flags", {})
    return {name: flags.get(name) for name in _EVALUATION_FLAGS}


def _labels(runs: Mapping[str, object]) -> list[str]:
    """A distinct short label for each run: the part of its path that differs."""
    parts = [os.path.normpath(run).split(os.sep) for run in runs]
    for end in (-1, 0):  # the runs of a sweep all end in 'evaluation'
        while all(len(part) > 1 for part in parts) and len({part[end] for part in parts}) == 1:
            for part in parts:
                part.pop(end)
    labels = ["/".join(part)[-_LABEL_LENGTH:] for part in parts]
    if len(set(labels)) == len(labels):
        return labels
    return [f"{number} {label[3:]}" for number, label in enumerate(labels, start=1)]


def _settings(content: dict) -> dict:
    """What the training and the evaluation of a run were told."""
    training = content["run"].get("training") or {}
    trained = {
        name: value
        for name, value in training.get("flags", {}).items()
        if name not in (*_FOLDER_FLAGS, "flip")
    }
    return {
        **trained,
        "revision": training.get("revision"),
        "manifest_sha256": training.get("manifest_sha256"),
        # fv.evaluate has a flag of that name
        "training flip": training.get("flags", {}).get("flip"),
        **content["run"]["model"],
        "step": content["step"],
        **_evaluation_flags(content),
    }


def _find_differing(settings: Mapping[str, dict]) -> list[str]:
    names = sorted({name for own in settings.values() for name in own})
    return [name for name in names if len({str(own.get(name)) for own in settings.values()}) > 1]
