"""What a run leaves in its workdir, the contract between training, evaluation and export.

train.flags     the resolved flags, in a form that --flagfile reads back
model.json      what rebuilds the model (`fv.model.model_record`)
checkpoints/    TensorFlow checkpoints of all that a run needs to go on: weights, optimizer, step
best/           the checkpoint that validated best, and validation.json, which says how well
run.json        what each start computed with and how it ended (`fv.training.run_record`)
tensorboard/    scalars, similarities and sample pairs of each validation
whitening.json  by what fv.whiten whitened, in the folders that it writes
metrics.json    what fv.evaluate measured, with report.html, scores.csv, evaluate.flags and pictures beside it
"""

import os

from fv import files
from fv.errors import UserError

FLAGS = "train.flags"
MODEL = "model.json"
RUN = "run.json"
CHECKPOINTS = "checkpoints"
BEST = "best"
TENSORBOARD = "tensorboard"
METRICS = "metrics.json"
SCORES = "scores.csv"
EVALUATE_FLAGS = "evaluate.flags"


def starts(folder: str) -> list[dict]:
    """What run.json says of each start of a run, the first first; none where there is no run.json, as of an older fv.

    Raises:
      UserError: there is a run.json of another program.
    """
    path = os.path.join(folder, RUN)
    if not files.exists(path):
        return []
    content = files.load_json(path, not_finite_as_none=True)
    if not isinstance(content.get("starts"), list):
        raise UserError(
            f"{path} is not the record of a run of fv.train: move it away, or give another folder"
        )
    return content["starts"]


def training_flag(folder: str, name: str) -> str | None:
    """The value of a flag of the last training run in a workdir; None where it had none, or nothing says so."""
    path = os.path.join(folder, FLAGS)
    lines = files.read_bytes(path).decode().splitlines() if files.exists(path) else []
    return next((line.partition("=")[2] for line in lines if line.startswith(f"--{name}=")), None)
