"""The page of an evaluation, in the order in which a reader asks: can it be trusted, how good is it, where does it fail."""

import json
from collections.abc import Mapping

from fv import page, record
from fv.evaluation import table

_FIGURES = ("accuracy", "interval", "AUC", "interval", "EER", "interval")
_DIGITS = 3  # of the intervals of the broad table


def render(content: dict, drawn: Mapping[str, bytes], worst: Mapping[int, bytes]) -> str:
    """The whole page, which needs no other file.

    Args:
      content: of metrics.json.
      drawn: PNG bytes of roc.png, det.png, histogram.png, reliability.png and embeddings.png.
      worst: by label, JPEG bytes of a sheet of the pairs that are decided worst.

    Returns:
      HTML, the same for the same arguments.
    """
    return page.page(
        f"Evaluation on {content['split']}",
        _summary(content),
        _figures(content),
        _curves(content, drawn),
        _probability(content["probability"], drawn["reliability.png"]),
        _slices(content),
        _worst(worst),
        _map(drawn["embeddings.png"]),
        _folds(content),
        _run(content),
    )


def _summary(content: dict) -> str:
    people = content["seen_identities"]["people"]
    rule = f"A pair is the same person where its similarity is {content['threshold']:.4f} or more, {content['threshold_rule']}."
    pairs = f"{content['genuine']:,} genuine and {content['impostor']:,} impostor pairs of {people:,} people"
    counts = f"{pairs}, model at step {content['step']:,}. {rule}"
    seen = content["seen_identities"]
    strangers = (
        "The model trained on none of these people." if seen["known"] and not seen["seen"] else ""
    )
    notes = [page.paragraph(note, "alert") for note in content["notes"]]
    return "\n".join(
        (*notes, page.paragraph(counts), page.paragraph(strangers) if strangers else "")
    )


def _figures(content: dict) -> str:
    rows = [_row("this model", content)] + [
        _row(name, figures) for name, figures in content["baselines"].items()
    ]
    tars = [
        [
            *map(
                page.Written,
                (f"{float(far):g}", table.tar(point), table.tar_interval(content, far)),
            ),
            table.counts(point),
        ]
        for far, point in content["tar_at_far"].items()
    ]
    return page.section(
        "Figures",
        page.table(
            ["", *_FIGURES],
            rows,
            "Each with a threshold chosen in the same way; the baselines learned nothing.",
        ),
        page.table(
            ["FAR", "TAR", "interval", "counts"],
            tars,
            "Genuine pairs accepted where impostor pairs rarely are",
        ),
        _baseline_tars(content),
        page.paragraph(_explain_intervals(content), "soft"),
    )


def _row(name: str, figures: dict) -> list[str]:
    cells = [
        table.accuracy(figures),
        table.interval(figures, "accuracy", _DIGITS),
        f"{figures['auc']:.4f}",
        table.interval(figures, "auc", _DIGITS),
        f"{figures['eer']:.4f}",
        table.interval(figures, "eer", _DIGITS),
    ]
    return [name, *map(page.Written, cells)]


def _baseline_tars(content: dict) -> str:
    if not content["baselines"]:
        return ""
    fars = list(content["tar_at_far"])
    named = {"this model": content} | content["baselines"]
    rows = [
        [name, *(page.Written(table.tar(found["tar_at_far"][far])) for far in fars)]
        for name, found in named.items()
    ]
    return page.table(
        ["", *(f"FAR {float(far):g}" for far in fars)], rows, "TAR, of what learned nothing too"
    )


def _explain_intervals(content: dict) -> str:
    drawn = content["bootstrap"]
    error = (
        "the standard error over the folds"
        if "folds" in content
        else "the binomial standard error of the pairs"
    )
    if not drawn["samples"]:
        return f"± is {error}."
    share = f"{drawn['confidence']:.0%} intervals: {drawn['method']}, {drawn['samples']:,} draws"
    return f"± is {error}, which takes pairs for independent. {share}. Neither says anything of other seeds of training."


def _curves(content: dict, drawn: Mapping[str, bytes]) -> str:
    return page.section(
        "Curves",
        page.image(
            drawn["roc.png"],
            f"ROC curve, AUC {content['auc']:.4f}, EER {content['eer']:.4f}.",
            kind="png",
        ),
        page.image(
            drawn["det.png"],
            "DET curve: false reject rate over false accept rate, both logarithmic.",
            kind="png",
        ),
        page.image(
            drawn["histogram.png"],
            "Histograms of the similarities of genuine and impostor pairs.",
            kind="png",
        ),
    )


def _probability(found: dict, picture: bytes) -> str:
    text = (
        f"Brier score {found['brier']:.4f} (a coin: 0.25), log loss {found['log_loss']:.4f} (a coin: 0.69), expected "
        f"calibration error {found['expected_calibration_error']:.4f}. The probability was fitted on the pairs that chose "
        "the threshold, never on those scored here."
    )
    rows = [
        [
            page.Written(f"{row['probability']:.3f}"),
            page.Written(f"{row['genuine']:.3f}"),
            row["pairs"],
        ]
        for row in found["reliability"]
    ]
    return page.section(
        "Probability",
        page.paragraph(text),
        page.image(
            picture, "Share of genuine pairs over the probability that was said.", kind="png"
        ),
        page.fold("The bins", page.table(["mean probability", "share genuine", "pairs"], rows)),
    )


def _slices(content: dict) -> str:
    tables = [
        page.table(
            [name, "pairs", "genuine", "accuracy"],
            [
                [_range(row), row["pairs"], row["genuine"], page.Written(f"{row['accuracy']:.4f}")]
                for row in rows
            ],
        )
        for name, rows in content["slices"].items()
    ]
    text = "The same thresholds decide every slice; a pair counts with the lower value of its two images."
    return page.section("Slices", page.paragraph(text, "soft"), *tables)


def _range(row: dict) -> str:
    low, high = f"{row['low']:,.4g}", f"{row['high']:,.4g}"
    return low if low == high else f"{low} – {high}"


def _worst(worst: Mapping[int, bytes]) -> str:
    kinds = {
        record.GENUINE: "Genuine pairs with the lowest similarity",
        record.IMPOSTOR: "Impostor pairs with the highest similarity",
    }
    parts = [
        page.image(worst[label], f"{caption}, with their file names.", caption)
        for label, caption in kinds.items()
    ]
    return page.section("Worst pairs", *parts)


def _map(picture: bytes) -> str:
    text = "Two of many dimensions: people who overlap here may lie apart in the others."
    alt = "The first two principal components of the embeddings; the people with most images have colours."
    return page.section(
        "Map of embeddings", page.image(picture, alt, kind="png"), page.paragraph(text, "soft")
    )


def _folds(content: dict) -> str:
    if "folds" not in content:
        return ""
    rows = [
        [
            number,
            *(page.Written(f"{fold[key]:.4f}") for key in ("accuracy", "threshold")),
            fold["pairs"],
            fold["chosen_on"],
        ]
        for number, fold in enumerate(content["folds"], start=1)
    ]
    return page.section(
        "Folds", page.table(["fold", "accuracy", "threshold", "pairs", "chosen on"], rows)
    )


def _run(content: dict) -> str:
    run = content["run"]
    rows = [[name, str(value)] for name, value in run.items() if not isinstance(value, dict | None)]
    rows += [["pairs_sha256", content["pairs_sha256"]]]
    flags = [
        [f"--{name}", json.dumps(value)]
        for part in ("model", "flags")
        for name, value in run[part].items()
    ]
    evaluation = [
        page.table(["", ""], rows),
        page.fold("Flags", page.table(["flag", "value"], flags)),
    ]
    return page.section("Run", *evaluation, *_training(run["training"]))


def _training(training: dict | None) -> list[str]:
    if training is None:
        return [page.paragraph("The workdir does not say how its model was trained.", "soft")]
    rows = [
        [name, str(value)]
        for name, value in training.items()
        if name != "flags" and value is not None
    ]
    flags = [[f"--{name}", value] for name, value in training["flags"].items()]
    return [
        page.table(["training", ""], rows),
        page.fold("Flags of training", page.table(["flag", "value"], flags)),
    ]
