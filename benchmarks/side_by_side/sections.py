"""The parts of the benchmark: which contestants run on which images."""

import dataclasses
import os

from benchmarks import input_peers
from benchmarks.side_by_side import contestant, preparing, synthetic
from benchmarks.side_by_side.rounds import Entrant
from benchmarks.side_by_side.workload import Workload

SECTIONS = ("original", "stored", "cached", "starting", "stages")
FV = "fv_pipeline"
PEERS = tuple(name for name in input_peers.TITLES if name != FV)
FV_ON_KERNELS = "fv, --decoder=tensorflow"
ON_ORIGINALS = ", originals"
PAIR_ROUNDS_CACHED = 5  # pairs that each image is in, where decoded images are cached
GRID = {  # name: shards, records
    "8 shards, 100,000 pairs": (8, 100_000),
    "1,000 shards, 100,000 pairs": (1_000, 100_000),
    "8 shards, 1,000 pairs": (8, 1_000),
    "8 shards, 1,000,000 pairs": (8, 1_000_000),
}


@dataclasses.dataclass(frozen=True)
class Source:
    """The images that the sections are made of, and the batches that are to come of them.

    Attributes:
      images: folder that holds one folder of JPEGs per person.
      count: how many of them.
      quality: of their JPEGs, as they are if None.
      scratch: folder for what is written.
      base: what every workload shares; its folder is filled by each section.
    """

    images: str
    count: int
    quality: int | None
    scratch: str
    base: Workload

    def prepare(self, name: str, side: int | None = None, rounds: int = 1) -> Workload:
        """The workload of that name, its images and shards written the first time."""
        work = dataclasses.replace(
            self.base, folder=os.path.join(self.scratch, name), side=side or self.base.side
        )
        if not os.path.exists(work.shards):
            preparing.write_images(self.images, work, self.count, side, self.quality)
            preparing.convert_pairs(work, rounds)
        return work


def entrants(
    section: str, source: Source, peers: list[str], stored_side: int
) -> dict[str, Entrant]:
    """The contestants of a section and what each is given.

    Args:
      section: one of `SECTIONS` but stages, which has no contestants.
      source: what the section is made of.
      peers: those that may run beside fv, of `PEERS`.
      stored_side: of the images in the section stored, in pixels.
    """
    makers = {
        "original": lambda: _original(source, peers),
        "stored": lambda: _stored(source, peers, stored_side),
        "cached": lambda: _cached(source),
        "starting": lambda: _starting(source),
    }
    return makers[section]()


def _original(source: Source, peers: list[str]) -> dict[str, Entrant]:
    """Everyone on the images as they are, with both ceilings and fv without libraries beside TensorFlow's kernels."""
    work = source.prepare("original")
    kernels = {FV_ON_KERNELS: Entrant(FV, dataclasses.replace(work, decoder="tensorflow"))}
    return {name: Entrant(name, work) for name in (*contestant.CEILINGS, FV, *peers)} | kernels


def _stored(source: Source, peers: list[str], side: int) -> dict[str, Entrant]:
    """fv and its peers on shards of smaller images, all at their stored size, beside the peers on the originals."""
    small, whole = source.prepare("stored", side), source.prepare("original")
    on_originals = {f"{name}{ON_ORIGINALS}": Entrant(name, whole) for name in peers}
    return {name: Entrant(name, small) for name in ("ceiling", FV, *peers)} | on_originals


def _cached(source: Source) -> dict[str, Entrant]:
    """fv with every distinct image decoded once and held, from the second epoch on, beside tf.data's fused map."""
    work = source.prepare("cached", rounds=PAIR_ROUNDS_CACHED)
    holding = dataclasses.replace(
        work, cache="decoded", warm_up_images=PAIR_ROUNDS_CACHED * source.count
    )
    return {FV: Entrant(FV, holding), "fused_map": Entrant("fused_map", work)}


def _starting(source: Source) -> dict[str, Entrant]:
    """fv on tiny images, few and many shards and records."""
    entrants = {}
    for name, (shards, records) in GRID.items():
        folder = os.path.join(source.scratch, f"starting-{shards}-{records}")
        work = dataclasses.replace(source.base, folder=folder, side=synthetic.SIDE)
        synthetic.write_shards(work.shards, shards, records)
        entrants[name] = Entrant(FV, work)
    return entrants
