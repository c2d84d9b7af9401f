"""The files of a workdir: the contract between training, evaluation and export.

train.flags     the resolved flags, in a form that --flagfile reads back
model.json      what rebuilds the model (`fv.model.model_record`)
checkpoints/    TensorFlow checkpoints of all that a run needs to continue: weights, optimizer, step
best/           the checkpoint that validated best, and validation.json with its figures
run.json        what each start computed with and how it ended (`fv.training.run_record`)
tensorboard/    scalars, similarities and sample pairs of each validation
whitening.json  the pairs and options of fv.whiten, in the folders that it writes
metrics.json    what fv.evaluate measured; beside it report.html, scores.csv, evaluate.flags and
                pictures
"""

import os

from fv import files
from fv.errors import UserError
from fv.options import option

FLAGS = "train.flags"
MODEL = "model.json"
RUN = "run.json"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
METRICS = "metrics.json"
SCORES = "scores.csv"
EVALUATE_FLAGS = "evaluate.flags"
WHITENING = "whitening.json"
LAST = "last"  # a value of --checkpoint
BEST = "best"  # likewise, and the folder of that checkpoint


def checkpoint_flag() -> str:
    """Makes the field of an options dataclass for --checkpoint."""
    text = "Checkpoint to use: the last one, or the one that validated best."
    return option(LAST, text, choices=(LAST, BEST))


def checkpoint_folder(workdir: str, which: str) -> str:
    """Returns the folder of a workdir's last checkpoints, or of the best one."""
    return os.path.join(workdir, BEST if which == BEST else CHECKPOINTS)


def starts(folder: str) -> list[dict]:
    """Reads from run.json what each start of a run computed with, the first start first.

    Returns:
      One entry per start; none where there is no run.json.

    Raises:
      UserError: run.json is not from fv.train.
    """
    path = os.path.join(folder, RUN)
    if not files.exists(path):
        return []
    content = files.load_json(path)
    if not isinstance(content.get("starts"), list):
        raise UserError(
            f"{path} is not the record of a run of fv.train: move it away, or give another folder"
        )
    return content["starts"]


def last_start(folder: str) -> dict:
    """The entry of the last start; {} if there is none."""
    return next(reversed(starts(folder)), {})


def training_flag(folder: str, name: str) -> str | None:
    """Reads the value of a flag of a workdir's last training run; None if it is not recorded."""
    path = os.path.join(folder, FLAGS)
    lines = files.read_bytes(path).decode().splitlines() if files.exists(path) else []
    return next((line.partition("=")[2] for line in lines if line.startswith(f"--{name}=")), None)
