"""Concurrent callers of one loaded SavedModel: every request gets an answer, and its own."""

import time
from concurrent import futures

import numpy as np

import fv
from benchmarks.serving_parts.options import BenchmarkOptions

THREADS = (1, 4, 16)
_PAIRS = 32  # that differ
_TOLERANCE = 1e-5


def measure(chosen: BenchmarkOptions) -> dict:
    """Requests a second, answers lost and answers mixed up, by number of threads."""
    verifier, images = fv.Verifier(chosen.model), chosen.encoded(2 * _PAIRS)
    pairs = list(zip(images[::2], images[1::2], strict=True))
    wanted = np.array([verifier.verify(*pair).similarity for pair in pairs])
    gaps = np.diff(np.sort(wanted))
    found = {f"{threads} threads": _call(verifier, pairs, wanted, threads, chosen.requests) for threads in THREADS}
    return found | {"smallest difference between two pairs' similarities": float(gaps.min())}


def _call(verifier: fv.Verifier, pairs: list, wanted: np.ndarray, threads: int, requests: int) -> dict:
    start = time.perf_counter()
    with futures.ThreadPoolExecutor(threads) as pool:
        answers = list(pool.map(lambda index: verifier.verify(*pairs[index % _PAIRS]).similarity, range(requests)))
    seconds = time.perf_counter() - start
    expected = wanted[np.arange(requests) % _PAIRS]
    mixed = int(np.sum(np.abs(np.array(answers) - expected) > _TOLERANCE))
    return {"pairs_per_second": round(requests / seconds, 1), "lost": requests - len(answers), "mixed": mixed}
