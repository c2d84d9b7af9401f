"""Says whether two images show the same person: python -m fv.verify --model=DIR/<version> A.jpg B.jpg

Exits with 0 for the same person, 1 for different people, 2 for an error. With --pairs_csv it answers for every row of a
table (columns image_a and image_b, and label, 1 for the same person, if known) and exits with 0.
"""

import csv
import dataclasses
import json
import os
import sys

import pandas as pd

from fv import cli, metrics, ownership, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.errors import UserError
from fv.options import option, required
from fv.serving import pairs_table
from fv.serving.quiet_calls import quietly
from fv.serving.verifier import Verifier

EXIT_SAME, EXIT_DIFFERENT = 0, 1


@dataclasses.dataclass(frozen=True)
class VerifyOptions:
    """Which model answers, and how."""

    model: str = required("version folder that fv.export wrote, such as export/1, or the folder above: its highest version.")
    threshold: float | None = option(
        None, "Similarity from which on two images are the same person; the model's by default.", lower=0.0, upper=1.0
    )
    json: bool = option(False, "Print one JSON object instead of a sentence.")
    picture: str | None = option(None, "Write a PNG of both images and the score on its scale.")
    pairs_csv: str | None = option(None, "CSV with columns image_a and image_b, paths from its own folder on: many pairs.")
    output: str | None = option(None, "CSV of verdicts on --pairs_csv; its name with -verdicts before .csv by default.")


def verify(options: VerifyOptions, *images: str) -> int:
    """Prints the verdict, or what the verdicts come to, and returns the exit code."""
    ownership.require_not_read(options.picture, "picture", images)
    output = _output(options) if options.pairs_csv else None
    verifier = Verifier(options.model, options.threshold)
    if options.pairs_csv:
        _verify_pairs(options, output, verifier)
        return EXIT_SAME
    verdict = quietly(verifier.verify, *images)
    if options.picture:
        from fv.serving import picture  # not above: with matplotlib, it takes a tenth of a verdict's time

        picture.draw(options.picture, *images, verdict)
    print(json.dumps(dataclasses.asdict(verdict)) if options.json else verdict.sentence())
    return EXIT_SAME if verdict.same else EXIT_DIFFERENT


def _output(options: VerifyOptions) -> str:
    """Where the verdicts go: a file that was asked for, or one of the name that fv makes up, if no foreign one has it.

    Raises:
      UserError: it is the table itself, or somebody else's.
    """
    if options.output:
        ownership.require_not_read(options.output, "output", [options.pairs_csv])
        return options.output
    output = f"{os.path.splitext(options.pairs_csv)[0]}-verdicts.csv"
    answers = (*pairs_table.ANSWERS, pairs_table.ERROR)
    asked = [name for name in _header(options.pairs_csv) if name not in answers]
    if os.path.lexists(output) and _header(output) != [*asked, *answers]:
        raise UserError(f"{output} is there and is no table of verdicts on {options.pairs_csv}: give another --output")
    return output


def _header(path: str) -> list[str]:
    """The columns of a CSV; none where there is no such file, or it is no text."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _verify_pairs(options: VerifyOptions, output: str, verifier: Verifier) -> None:
    table = pairs_table.verify_table(verifier, options.pairs_csv, output)
    answered = table[table[pairs_table.ERROR] == ""]
    summary = {
        "output": output,
        "pairs": len(table),
        "answered": len(answered),
        "same": int(answered["same"].sum()),
        **_measure(answered, verifier.threshold),
    }
    print(json.dumps(summary) if options.json else ", ".join(f"{name} {value}" for name, value in summary.items()))


def _measure(answered: pd.DataFrame, threshold: float) -> dict[str, float]:
    """Accuracy, false accept and false reject rate where the table has labels of both kinds."""
    labels = answered.get(pairs_table.LABEL)
    if labels is None or set(labels) != {0, 1}:
        return {}
    same, genuine = answered["same"].astype(bool), labels == 1
    similarities = answered["similarity"].to_numpy(float)
    return {
        "accuracy": float((same == genuine).mean()),
        "false_accept_rate": float(same[~genuine].mean()),
        "false_reject_rate": float((~same[genuine]).mean()),
        "auc": metrics.auc(similarities, labels.to_numpy()),
        "threshold": threshold,
    }


def _asks_for_pairs(arguments: list[str]) -> bool:
    return any(argument.lstrip("-").split("=")[0] == "pairs_csv" for argument in arguments)


def run() -> None:
    """The console script."""
    images = () if _asks_for_pairs(sys.argv[1:]) else ("IMAGE_A", "IMAGE_B")
    cli.run(verify, VerifyOptions, positional=images, description=__doc__)


if __name__ == "__main__":
    run()
