"""What every contestant trains: InceptionV3 to an embedding, and a binary classifier of the pair, by SGD."""

import dataclasses
import json
import pathlib

FILE_NAME = "work.json"
SEED = 0
IMAGES_PER_PAIR = 2
MOMENTUM = 0.9  # Nesterov's, as fv's sgd has it


@dataclasses.dataclass(frozen=True)
class Work:
    """What a contestant is given.

    Attributes:
      folder: for what it writes.
      tfrecords: fv's shards.
      image_size: side of the network's input in pixels.
      pairs: in a step.
      embedding_size: numbers in an embedding.
      learning_rate: constant.
      stamp_steps: steps between two looks at the clock.
    """

    folder: str
    tfrecords: str
    image_size: int
    pairs: int
    embedding_size: int = 128
    learning_rate: float = 1e-3
    stamp_steps: int = 4

    @property
    def stamp_images(self) -> int:
        """Images between two looks at the clock."""
        return IMAGES_PER_PAIR * self.pairs * self.stamp_steps


def save(work: Work) -> str:
    """Writes the work down for another process and returns the file's path."""
    path = pathlib.Path(work.folder, FILE_NAME)
    path.write_text(json.dumps(dataclasses.asdict(work)), encoding="utf-8")
    return str(path)


def load(path: str) -> Work:
    """Reads what `save` wrote."""
    return Work(**json.loads(pathlib.Path(path).read_text(encoding="utf-8")))
