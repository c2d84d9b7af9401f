"""One contestant in a process of its own: python -m benchmarks.side_by_side.contestant NAME WORKLOAD SECONDS WARM_UP_S

Prints one line of JSON: rates, or what is missing.
"""

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks.side_by_side import ceilings, memory, workload
from benchmarks.side_by_side.workload import Workload
from fv import files, metering

OURS = ("benchmarks", "fv")
CEILINGS = {"ceiling": ceilings.decode_and_resize, "decode_only": ceilings.decode_only}


def compete(name: str, work: Workload, seconds: float, warm_up_s: float) -> dict:
    """Measures one contestant.

    Returns:
      images_per_s, images_per_cpu_s, dtype, import_s, first_batch_s (from the call to the first batch) and memory_mb
      (in the end, of the process and all that it started); or, where its package is not installed, its name as `missing`.
    """
    start = time.perf_counter()
    try:
        batches = _find(name)
    except ModuleNotFoundError as error:
        if error.name.startswith(OURS):
            raise
        return {"missing": error.name.partition(".")[0]}
    imported = time.perf_counter()
    drawn = batches(work)
    first = next(drawn)
    opening = {
        "import_s": imported - start,
        "first_batch_s": time.perf_counter() - imported,
        "dtype": _dtype(first),
    }
    spans = dict(seconds=seconds, warm_up_s=warm_up_s, warm_up_images=work.warm_up_images)
    rate = metering.measure(drawn, images_in, **spans)
    rates = {"images_per_s": rate.images_per_s, "images_per_cpu_s": rate.images_per_cpu_s}
    return {**rates, "memory_mb": memory.bytes_now() / 1e6, **opening}


def images_in(batch) -> int:
    """Images of a batch [pairs, 2, …]; a ceiling counts its own."""
    return batch if isinstance(batch, int) else batch.shape[0] * batch.shape[1]


def _find(name: str) -> Callable[[Workload], Iterator]:
    return (
        CEILINGS[name]
        if name in CEILINGS
        else importlib.import_module(f"benchmarks.input_peers.{name}").batches
    )


def _dtype(batch) -> str:
    if isinstance(batch, int):
        return ""
    return "float32" if "float" in str(batch.dtype).lower() else "uint8"


if __name__ == "__main__":
    name, path, *spans = sys.argv[1:]
    print(files.to_json(compete(name, workload.load(path), *map(float, spans))), flush=True)
    os._exit(0)  # threads that still decode abort an orderly exit
