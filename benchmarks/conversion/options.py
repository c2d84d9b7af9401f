"""What benchmarks/convert.py takes."""

import dataclasses

from fv import workers
from fv.options import option, required

PARTS = ("rates", "peers", "memory", "index", "kills", "broken")


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured, and on what."""

    images: str = required("folder that holds one folder of JPEG images per person")
    parts: str = option(",".join(PARTS), f"Which parts to run, of {', '.join(PARTS)}, with commas.")
    pairs: int = option(100_000, "Pairs that the images are converted to.", lower=2)
    max_pairs_per_identity: int = option(5_000, "As the converter's flag.", lower=1)
    max_pairs_per_image: int = option(100, "As the converter's flag.", lower=1)
    workers: int | None = option(None, "Processes; one per core if not given.", lower=1)
    repeats: int = option(3, "Times each rate is measured; the best counts.", lower=1)
    kills: int = option(30, "Times a conversion is killed.", lower=1)
    index_identities: int = option(
        1_000_000, "People of the simulated index, of ten images each.", lower=1_000
    )
    seed: int = option(0, "Of made-up images, damage and the moments of kills.", lower=0)
    scratch: str | None = option(
        None, "Folder for what is written, removed at the end; the system's temporary one if none."
    )
    json: str | None = option(None, "File to write the figures to.")

    @property
    def processes(self) -> int:
        """Number of worker processes."""
        return self.workers or workers.cores()

    def flags(self, output: str) -> list[str]:
        """The converter's command line for the images and pairs."""
        names = ("images", "pairs", "max_pairs_per_identity", "max_pairs_per_image")
        return [
            f"--output={output}",
            f"--workers={self.processes}",
            *(f"--{name}={getattr(self, name)}" for name in names),
        ]
