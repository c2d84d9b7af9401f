"""Time of `fv.evaluate --scores` on a million given scores, start and files included, and of parts; beside scikit-learn."""

import dataclasses
import functools
import gc
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn import metrics as sklearn_metrics

from fv import cli, files, metrics, workers
from fv.evaluation import plots
from fv.options import option

SEPARATION = 2.0  # of the classes' means, in standard deviations: accuracy 0.84
FOLDS = 10
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
    seconds = time_command(similarities, labels, options)
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // KIB_PER_MIB
    seconds |= time_parts(similarities, labels, options.repeats)
    seconds["scikit-learn roc_curve + auc"] = median_seconds(
        lambda: sklearn_roc_auc(similarities, labels), options.repeats
    )
    report(options, seconds, peak_mib)


def time_command(
    similarities: np.ndarray, labels: np.ndarray, options: Options
) -> dict[str, float]:
    """Median seconds of the whole command, by the threshold of others and over folds."""
    people = sample_people(labels, options.people, options.seed)
    others, _ = sample_similarities(options.pairs, options.seed + 1)
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("scores.csv", "others.csv")]
        named = pd.DataFrame(
            {"identity_a": people[:, 0], "identity_b": people[:, 1], "label": labels}
        )
        for path, said in zip(paths, (similarities, others), strict=True):
            named.assign(score=said).to_csv(path, index=False)
        del named, people
        command = [
            sys.executable,
            "-m",
            "fv.evaluate",
            f"--scores={paths[0]}",
            f"--bootstrap={options.bootstrap}",
        ]
        command += [f"--output={os.path.join(folder, 'out')}"]
        ways = {
            "fv.evaluate --scores, threshold of others": [
                *command,
                f"--threshold_scores={paths[1]}",
            ],
            f"fv.evaluate --scores, {FOLDS} folds": [*command, f"--folds={FOLDS}"],
        }
        run = functools.partial(subprocess.run, check=True, stdout=subprocess.DEVNULL)
        return {
            name: median_seconds(functools.partial(run, way), options.repeats)
            for name, way in ways.items()
        }


def sample_people(labels: np.ndarray, people: int, seed: int) -> np.ndarray:
    """Numbers int64 [pairs, 2] of the people of each pair: one twice in a genuine pair, neighbours in an impostor pair."""
    first = np.random.default_rng(seed).integers(people // 2 * 2, size=len(labels))
    return np.stack([first, np.where(labels == 1, first, first ^ 1)], axis=1)


def time_parts(similarities: np.ndarray, labels: np.ndarray, repeats: int) -> dict[str, float]:
    """Median seconds of each part of fv, by name."""
    threshold = metrics.best_threshold(similarities, labels)
    with tempfile.TemporaryDirectory() as folder:
        picture = os.path.join(folder, "picture.png")
        parts = {
            "metrics.evaluate": lambda: metrics.evaluate(similarities, labels, threshold),
            "metrics.best_threshold": lambda: metrics.best_threshold(similarities, labels),
            "plots.draw_roc": lambda: plots.draw_roc(picture, similarities, labels),
            "plots.draw_histogram": lambda: plots.draw_histogram(
                picture, similarities, labels, threshold
            ),
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
    print(
        f"{options.pairs:,} pairs, median of {options.repeats}; {workers.cores()} cores, peak memory {peak_mib} MiB"
    )
    for name, median in seconds.items():
        print(f"{name:44} {median:8.3f} s")
    if options.json:
        figures = dict(
            pairs=options.pairs, cores=workers.cores(), command_peak_mib=peak_mib, seconds=seconds
        )
        files.save_json(figures, options.json)


if __name__ == "__main__":
    cli.run(main, Options, description=__doc__)
