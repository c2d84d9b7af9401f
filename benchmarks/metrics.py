"""Time of every figure on a million pairs, and of both pictures, beside scikit-learn's ROC and AUC alone."""

import dataclasses
import gc
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
from sklearn import metrics as sklearn_metrics

from fv import cli, files, metrics
from fv.evaluation import plots
from fv.options import option

SEPARATION = 2.0  # of the classes' means, in standard deviations: accuracy 0.84
KIB_PER_MIB = 1024


@dataclasses.dataclass(frozen=True)
class Options:
    """What is timed, and where the figures go."""

    pairs: int = option(1_000_000, "Pairs, half of them genuine.", lower=2)
    repeats: int = option(5, "Runs of each; the median is reported.", lower=1)
    seed: int = option(0, "Seed of the similarities.")
    json: str | None = option(None, "File for the figures.")


def main(options: Options) -> None:
    """Times each, prints a table and writes `--json`."""
    similarities, labels = sample_similarities(options.pairs, options.seed)
    seconds = time_fv(similarities, labels, options.repeats)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // KIB_PER_MIB  # before the peer adds its own
    seconds["scikit-learn roc_curve + auc"] = median_seconds(lambda: sklearn_roc_auc(similarities, labels), options.repeats)
    report(options, seconds, peak_mib)


def time_fv(similarities: np.ndarray, labels: np.ndarray, repeats: int) -> dict[str, float]:
    """Median seconds of each part of fv, by name."""
    threshold = metrics.best_threshold(similarities, labels)
    with tempfile.TemporaryDirectory() as folder:
        picture = os.path.join(folder, "picture.png")
        parts = {
            "fv evaluate": lambda: metrics.evaluate(similarities, labels, threshold),
            "fv best_threshold": lambda: metrics.best_threshold(similarities, labels),
            "fv draw_roc": lambda: plots.draw_roc(picture, similarities, labels),
            "fv draw_histogram": lambda: plots.draw_histogram(picture, similarities, labels, threshold),
        }
        return {name: median_seconds(part, repeats) for name, part in parts.items()}


def sample_similarities(pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarities float32 [pairs] in [0, 1], normal before a sigmoid, and labels int64 [pairs]."""
    generator = np.random.default_rng(seed)
    labels = np.arange(pairs) % 2
    logits = generator.normal(SEPARATION * (labels - 0.5))
    return (1 / (1 + np.exp(-logits))).astype(np.float32), labels


def sklearn_roc_auc(similarities: np.ndarray, labels: np.ndarray) -> float:
    """AUC by scikit-learn from one ROC curve with every point, so it sorts once, as fv does."""
    far, tar, _ = sklearn_metrics.roc_curve(labels, similarities, drop_intermediate=False)
    return sklearn_metrics.auc(far, tar)


def median_seconds(work: Callable, repeats: int) -> float:
    """Median wall time of `work()` over `repeats` runs, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        gc.collect()  # matplotlib's figures are cycles: uncollected, five of them would count as the peak
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def report(options: Options, seconds: dict[str, float], peak_mib: int) -> None:
    """Prints the table and writes it where `--json` says."""
    print(f"{options.pairs:,} pairs, median of {options.repeats}; {os.cpu_count()} cores, fv's peak memory {peak_mib} MiB")
    for name, median in seconds.items():
        print(f"{name:30} {median:8.3f} s")
    if options.json:
        figures = dict(pairs=options.pairs, cores=os.cpu_count(), fv_peak_mib=peak_mib, seconds=seconds)
        files.save_json(figures, options.json)


if __name__ == "__main__":
    cli.run(main, Options, description=__doc__)
