"""Says whether two images show the same person: python -m fv.verify --model=DIR/<version> A.jpg B.jpg

Exits with 0 for the same person, 1 for different people, 2 for an error. With --pairs_csv it answers for every row of a
table (columns image_a and image_b, and label, 1 for the same person and 0 for two people, if known) and exits with 0.
"""

import dataclasses
import os
import sys

import numpy as np

from fv import cli, files, metrics, ownership, record, tables
from fv.errors import UserError
from fv.options import option, required
from fv.serving import pairs_table
from fv.serving.pairs_table import call_quietly
from fv.serving.verifier import Verdict, Verifier

EXIT_SAME, EXIT_DIFFERENT = 0, 1


@dataclasses.dataclass(frozen=True)
class VerifyOptions:
    """Which model answers, and how."""

    model: str = required(
        "version folder that fv.export wrote, such as export/1, or the folder above: its highest version."
    )
    threshold: float | None = option(
        None,
        "Similarity from which on two images are the same person; the model's by default.",
        lower=0.0,
        upper=1.0,
    )
    json: bool = option(False, "Print one JSON object instead of a sentence.")
    picture: str | None = option(None, "Write a PNG of both images and the score on its scale.")
    pairs_csv: str | None = option(
        None, "CSV with columns image_a and image_b, paths from its own folder on: many pairs."
    )
    output: str | None = option(
        None, "CSV of verdicts on --pairs_csv; its name with -verdicts before .csv by default."
    )


def verify(options: VerifyOptions, *images: str) -> int:
    """Prints the verdict, or what the verdicts come to, and returns the exit code."""
    ownership.require_not_read(options.picture, "picture", images)
    if options.pairs_csv:
        output = _output(options.pairs_csv, options.output)
        verifier = Verifier(options.model, options.threshold)
        _verify_pairs(options.pairs_csv, output, verifier, as_json=options.json)
        return EXIT_SAME
    image_a, image_b = images
    verdict = call_quietly(Verifier(options.model, options.threshold).verify, image_a, image_b)
    assert isinstance(verdict, Verdict)  # of two images, not of two batches
    if options.picture:
        from fv.serving import picture  # loads matplotlib, which takes a tenth of a verdict's time

        picture.draw(options.picture, image_a, image_b, verdict)
    print(files.to_json(dataclasses.asdict(verdict)) if options.json else verdict.sentence())
    return EXIT_SAME if verdict.same else EXIT_DIFFERENT


def _output(pairs_csv: str, output: str | None) -> str:
    """Where the verdicts go: a file that was asked for, or one of the name that fv makes up, if no foreign one has it.

    Raises:
      UserError: it is the table itself, or somebody else's.
    """
    if output:
        ownership.require_not_read(output, "output", [pairs_csv])
        return output
    output = f"{os.path.splitext(pairs_csv)[0]}-verdicts.csv"
    answers = (*pairs_table.ANSWERS, pairs_table.ERROR)
    asked = [name for name in tables.read_names(pairs_csv) if name not in answers]
    if os.path.lexists(output) and tables.read_names(output) != [*asked, *answers]:
        raise UserError(
            f"{output} is there and is no table of verdicts on {pairs_csv}: give another --output"
        )
    return output


def _verify_pairs(pairs_csv: str, output: str, verifier: Verifier, *, as_json: bool) -> None:
    found = pairs_table.verify_table(verifier, pairs_csv, output)
    answered = (found.table[pairs_table.ERROR] == "").to_numpy()
    summary = {
        "output": output,
        "pairs": len(answered),
        "answered": int(answered.sum()),
        "same": int(found.table["same"][answered].sum()),
        **_measure(found, answered, verifier.threshold),
    }
    note = _note_unlabelled(found)
    if note:
        print(note, file=sys.stderr)
    if as_json:
        print(files.to_json(summary))
    else:
        said = {
            name: "not measurable" if value is None else value for name, value in summary.items()
        }
        print(", ".join(f"{name} {value}" for name, value in said.items()))


def _note_unlabelled(found: pairs_table.Verdicts) -> str:
    """What is said of rows without a label, and of a column that looks like labels and is not read; "" for nothing."""
    if found.labels is None:
        near = [name for name in found.table if name.lower() == pairs_table.LABEL]
        advice = f"is not read: name it {pairs_table.LABEL} to get figures"
        return f"NOTE: column '{near[0]}' {advice}" if near else ""
    blank = np.flatnonzero(found.labels == tables.NO_LABEL)
    if not len(blank):
        return ""
    rows = f"{len(blank):,} of {len(found.labels):,} rows have no label, the first in line {found.lines[blank[0]]}"
    return f"NOTE: {rows}: the figures are of the others"


def _measure(
    found: pairs_table.Verdicts, answered: np.ndarray, threshold: float
) -> dict[str, float | int | None]:
    """Figures over the answered rows that have a label; None where one of them needs a label that no row has."""
    if found.labels is None:
        return {}
    labelled = answered & (found.labels != tables.NO_LABEL)
    if not labelled.any():
        return {"labelled": 0}
    genuine, same = (
        found.labels[labelled] == record.GENUINE,
        found.table["same"][labelled].to_numpy(bool),
    )
    both = 0 < genuine.sum() < len(genuine)
    return {
        "labelled": len(genuine),
        "accuracy": float((same == genuine).mean()),
        "false_accept_rate": float(same[~genuine].mean()) if not genuine.all() else None,
        "false_reject_rate": float((~same[genuine]).mean()) if genuine.any() else None,
        "auc": metrics.auc(found.table["similarity"][labelled].to_numpy(float), genuine)
        if both
        else None,
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
