"""An export from its options: a workdir's last checkpoint → a version folder that TensorFlow Serving serves."""

import dataclasses
import os
import shutil

import tensorflow as tf

from fv import files, workdir
from fv.errors import UserError
from fv.model import model_record, restoring
from fv.options import option, required
from fv.serving.signatures import ServedVerifier


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What is exported, and where to."""

    workdir: str = required("folder that fv.train wrote and fv.evaluate measured.")
    output: str = required("folder that gets a subfolder <version>, the next free integer.")
    threshold: float | None = option(
        None, "Similarity from which on two images are the same person; fv.evaluate's by default.", lower=0.0, upper=1.0
    )


def export(options: ExportOptions) -> None:
    """Writes OUTPUT/<version>/ under a temporary name and renames it: a server never sees half a model.

    Raises:
      UserError: no model, or no threshold for its last checkpoint.
    """
    record = model_record.load(options.workdir)
    model, step = restoring.load_model(options.workdir, record)
    threshold = options.threshold if options.threshold is not None else _evaluated_threshold(options.workdir, step)
    served = ServedVerifier(model, record.options, threshold)
    version = _write_version(served, options.output)
    print(f"{version}  threshold {threshold:.4f}, step {step}")


def _evaluated_threshold(folder: str, step: int) -> float:
    path = os.path.join(folder, workdir.METRICS)
    if not os.path.exists(path):
        raise UserError(f"{folder} holds no {workdir.METRICS} with a threshold: run fv.evaluate first, or give --threshold")
    figures = files.load_json(path)
    if figures.get("step") != step:
        raise UserError(
            f"{path} is of step {figures.get('step')}, the last checkpoint of step {step}: run fv.evaluate again"
        )
    return figures["threshold"]


def _write_version(served: ServedVerifier, output: str) -> str:
    os.makedirs(output, exist_ok=True)
    temporary = os.path.join(output, f"writing-{os.getpid()}")  # no integer, so servers pass it over
    try:
        tf.saved_model.save(served, temporary, signatures=served.signatures())
        version = os.path.join(output, str(_next_version(output)))
        os.rename(temporary, version)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return version


def _next_version(output: str) -> int:
    return 1 + max((int(name) for name in os.listdir(output) if name.isdecimal()), default=0)
