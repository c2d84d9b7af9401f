"""Times `fv.evaluate --scores` on a million scores, as a whole command, and its peak memory.

python -m benchmarks.metrics --json=FILE
"""

import dataclasses
import functools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import pandas as pd

from fv import cli, files, workers
from fv.options import option

SEPARATION = 2.0  # of the classes' means, in standard deviations: accuracy 0.84
FOLDS = 10


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is timed, and where the figures go."""

    pairs: int = option(1_000_000, "Pairs, half of them genuine.", lower=2)
    people: int = option(10_000, "People in them.", lower=2)
    bootstrap: int = option(300, "Bootstrap samples of the intervals.", lower=0)
    repeats: int = option(5, "Runs of each; the median is reported.", lower=1)
    seed: int = option(0, "Seed of the similarities.")
    json: str | None = option(None, "File to write the figures to.")


def main(options: BenchmarkOptions) -> None:
    """Times the command with both kinds of threshold, prints a table and writes `--json`."""
    seconds = time_command(options)
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    print(f"{options.pairs:,} pairs, {workers.available_cores()} cores, peak memory {peak_mib} MiB")
    for name, median in seconds.items():
        print(f"{name:44} {median:8.3f} s")
    if options.json:
        sizes = dict(
            pairs=options.pairs, cores=workers.available_cores(), command_peak_mib=peak_mib
        )
        files.save_json({**sizes, "seconds": seconds}, options.json)


def time_command(options: BenchmarkOptions) -> dict[str, float]:
    """Returns median seconds by the threshold of other scores and over folds."""
    labels = np.arange(options.pairs) % 2
    # A genuine pair has one person twice, an impostor pair two neighbours.
    draws = np.random.default_rng(options.seed)
    first = draws.integers(options.people // 2 * 2, size=options.pairs)
    second = np.where(labels == 1, first, first ^ 1)
    pairs = pd.DataFrame({"identity_a": first, "identity_b": second, "label": labels})
    with tempfile.TemporaryDirectory() as folder:
        scores, others = (os.path.join(folder, name) for name in ("scores.csv", "others.csv"))
        for seed, path in enumerate((scores, others), options.seed):
            pairs.assign(score=sample_similarities(labels, seed)).to_csv(path, index=False)
        command = [sys.executable, "-m", "fv.evaluate", f"--scores={scores}"]
        command += [f"--bootstrap={options.bootstrap}", f"--output={folder}/out"]
        ways = {
            "fv.evaluate --scores, threshold of others": f"--threshold_scores={others}",
            f"fv.evaluate --scores, {FOLDS} folds": f"--folds={FOLDS}",
        }
        run = functools.partial(subprocess.run, check=True, stdout=subprocess.DEVNULL)
        return {
            name: median_seconds(functools.partial(run, [*command, way]), options.repeats)
            for name, way in ways.items()
        }


def sample_similarities(labels: np.ndarray, seed: int) -> np.ndarray:
    """Draws similarities float32 [pairs] in (0, 1): a sigmoid of normal scores."""
    scores = np.random.default_rng(seed).normal(SEPARATION * (labels - 0.5))
    return (1 / (1 + np.exp(-scores))).astype(np.float32)


def median_seconds(work, repeats: int) -> float:
    """Returns the median time of `work()` over `repeats` runs, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
