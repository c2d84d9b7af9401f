"""Time of an evaluation of given scores of a million pairs, bootstrap included, and of its parts; beside scikit-learn."""

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

from fv import cli, files, metrics, workers
from fv.evaluation import bootstrap, figures, pictures, plots, protocols
from fv.options import option

SEPARATION = 2.0  # of the classes' means, in standard deviations: accuracy 0.84
KIB_PER_MIB = 1024


@dataclasses.dataclass(frozen=True)
class Options:
    """What is timed, and where the figures go."""

    pairs: int = option(1_000_000, "Pairs, half of them genuine.", lower=2)
    people: int = option(10_000, "People in them.", lower=2)
    bootstrap: int = option(300, "Times that people are drawn anew for the intervals.", lower=0)
    repeats: int = option(5, "Runs of each; the median is reported.", lower=1)
    seed: int = option(0, "Seed of the similarities.")
    json: str | None = option(None, "File for the figures.")


def main(options: Options) -> None:
    """Times each, prints a table and writes `--json`."""
    similarities, labels = sample_similarities(options.pairs, options.seed)
    seconds = time_whole(similarities, labels, options)
    seconds |= time_fv(similarities, labels, options.repeats)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // KIB_PER_MIB  # before the peer adds its own
    seconds["scikit-learn roc_curve + auc"] = median_seconds(lambda: sklearn_roc_auc(similarities, labels), options.repeats)
    report(options, seconds, peak_mib)


def time_whole(similarities: np.ndarray, labels: np.ndarray, options: Options) -> dict[str, float]:
    """Median seconds of all that follows the scores: threshold and calibration of others, figures, intervals, pictures."""
    people = sample_people(labels, options.people, options.seed)
    plan = bootstrap.Plan(options.bootstrap, options.seed)
    others, _ = sample_similarities(options.pairs, options.seed + 1)

    def evaluate() -> None:
        judged = protocols.hold_out(similarities, labels, others, labels)
        figures.measure(judged)
        found = figures.measure_probability(judged)
        figures.measure_intervals(judged, people, plan)
        with tempfile.TemporaryDirectory() as folder:
            plots.draw_roc(os.path.join(folder, "roc.png"), similarities, labels)
            pictures.draw_det(os.path.join(folder, "det.png"), similarities, labels)
            plots.draw_histogram(os.path.join(folder, "histogram.png"), similarities, labels, judged.threshold)
            pictures.draw_reliability(os.path.join(folder, "reliability.png"), found["reliability"])

    def draw() -> None:
        bootstrap.intervals(similarities, labels, labels == 1, people, metrics.FARS, plan)

    return {
        "fv, all of it": median_seconds(evaluate, options.repeats),
        f"fv bootstrap, {options.bootstrap} draws": median_seconds(draw, options.repeats),
    }


def sample_people(labels: np.ndarray, people: int, seed: int) -> np.ndarray:
    """Numbers int64 [pairs, 2] of the people of each pair: one twice in a genuine pair, two in an impostor pair."""
    generator = np.random.default_rng(seed)
    first = generator.integers(people, size=len(labels))
    second = (first + generator.integers(1, people, size=len(labels))) % people
    return np.stack([first, np.where(labels == 1, first, second)], axis=1)


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
    print(f"{options.pairs:,} pairs, median of {options.repeats}; {workers.cores()} cores, fv's peak memory {peak_mib} MiB")
    for name, median in seconds.items():
        print(f"{name:30} {median:8.3f} s")
    if options.json:
        figures = dict(pairs=options.pairs, cores=workers.cores(), fv_peak_mib=peak_mib, seconds=seconds)
        files.save_json(figures, options.json)


if __name__ == "__main__":
    cli.run(main, Options, description=__doc__)
