"""Says whether two images show the same person: python -m fv.verify --model=DIR/<version> A.jpg B.jpg

Exits with 0 for the same person, 1 for different people, 2 for an error.
"""

import dataclasses
import json

from fv import cli, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.options import option, required
from fv.serving.verifier import Verdict, Verifier

EXIT_SAME, EXIT_DIFFERENT = 0, 1


@dataclasses.dataclass(frozen=True)
class VerifyOptions:
    """Which model answers, and how."""

    model: str = required("version folder that fv.export wrote, such as export/1.")
    json: bool = option(False, "Print one JSON object instead of a sentence.")


def verify(options: VerifyOptions, image_a: str, image_b: str) -> int:
    """Prints the verdict and returns the exit code."""
    verdict = Verifier(options.model).verify(image_a, image_b)
    print(json.dumps(dataclasses.asdict(verdict)) if options.json else _sentence(verdict))
    return EXIT_SAME if verdict.same else EXIT_DIFFERENT


def _sentence(verdict: Verdict) -> str:
    said = "same person" if verdict.same else "different people"
    return f"{said}: similarity {verdict.similarity:.4f}, threshold {verdict.threshold:.4f}"


def run() -> None:
    """The console script."""
    cli.run(verify, VerifyOptions, positional=("IMAGE_A", "IMAGE_B"), description=__doc__)


if __name__ == "__main__":
    run()
