"""What a run leaves in its workdir, the contract between training, evaluation and export.

train.flags     the resolved flags, in a form that --flagfile reads back
model.json      what rebuilds the model (`fv.model.model_record`)
checkpoints/    TensorFlow checkpoints of weights, optimizer and step
tensorboard/    scalars
metrics.json    what fv.evaluate measured, with roc.png and histogram.png beside it
"""

import json

from fv import files
from fv.errors import UserError

FLAGS = "train.flags"
MODEL = "model.json"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
METRICS = "metrics.json"


def save_json(content: dict, path: str) -> None:
    """Writes a JSON file, whole or not at all."""
    with files.atomic_open(path) as file:
        json.dump(content, file, indent=2)
        file.write("\n")


def load_json(path: str) -> dict:
    """Reads a JSON file.

    Raises:
      UserError: it is not JSON.
    """
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except json.JSONDecodeError as error:
            raise UserError(f"{path} is not JSON ({error}): it was cut short or changed") from error
