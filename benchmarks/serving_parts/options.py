"""What benchmarks/serving.py takes."""

import dataclasses
import pathlib
from collections.abc import Sequence

from fv.errors import UserError
from fv.options import option, required

PARTS = ("latency", "concurrency", "fuzz")


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured, and on what."""

    workdir: str = required("folder that fv.train wrote: the bare encoder comes from it")
    model: str = required(
        "version folder that fv.export wrote from it, best with --formats=saved_model,tflite,onnx"
    )
    images: str = required("folder that holds one folder of JPEG images per person")
    parts: str = option(",".join(PARTS), f"Which parts to run, of {', '.join(PARTS)}, with commas.")
    repeats: int = option(60, "Calls of each engine at each batch size, in turn.", lower=3)
    requests: int = option(320, "Requests of the concurrent callers together.", lower=16)
    mutants: int = option(10_000, "Damaged images.", lower=1)
    seed: int = option(0, "Of the damage, and of the order of engines.", lower=0)
    json: str | None = option(None, "File to write the figures to.")

    def encoded(self, count: int) -> Sequence[bytes]:
        """The first images of the folder.

        Raises:
          UserError: there are fewer.
        """
        paths = sorted(pathlib.Path(self.images).glob("*/*.jpg"))[:count]
        if len(paths) < count:
            raise UserError(
                f"{self.images} holds {len(paths)} JPEG images in folders of people: give one with {count}"
            )
        return [path.read_bytes() for path in paths]
