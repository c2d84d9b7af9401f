"""Concurrent callers of one loaded SavedModel: every request gets an answer, and its own; one in eight is a broken image."""

import time
from concurrent import futures

import numpy as np

import fv
from benchmarks.serving_parts.options import BenchmarkOptions
from fv.errors import UserError

THREADS = (1, 4, 16)
_PAIRS = 32  # that differ
_TOLERANCE = 1e-5
_BROKEN_EVERY = 8  # requests
_KEPT = 0.5  # of a broken image


def measure(chosen: BenchmarkOptions) -> dict:
    """Pairs a second, latency, answers lost, mixed up or failed by others' broken images, by number of threads."""
    verifier, images = fv.Verifier(chosen.model), chosen.encoded(2 * _PAIRS)
    pairs = list(zip(images[::2], images[1::2], strict=True))
    wanted = np.array([verifier.verify(*pair).similarity for pair in pairs])
    gaps = np.diff(np.sort(wanted))
    found = {
        f"{threads} threads": _call(verifier, pairs, wanted, threads, chosen.requests)
        for threads in THREADS
    }
    return found | {"smallest difference between two pairs' similarities": float(gaps.min())}


def _call(
    verifier: fv.Verifier, pairs: list, wanted: np.ndarray, threads: int, requests: int
) -> dict:
    def ask(index: int) -> tuple[float, float]:
        begun, pair = time.perf_counter(), pairs[index % _PAIRS]
        if index % _BROKEN_EVERY == 0:
            pair = pair[0], pair[1][: int(_KEPT * len(pair[1]))]
        try:
            answer = verifier.verify(*pair).similarity
        except UserError:
            answer = np.nan
        return answer, time.perf_counter() - begun

    start = time.perf_counter()
    with futures.ThreadPoolExecutor(threads) as pool:
        answers, latencies = np.array(list(pool.map(ask, range(requests)))).T
    seconds = time.perf_counter() - start
    broken = np.arange(requests) % _BROKEN_EVERY == 0
    expected = wanted[np.arange(requests) % _PAIRS]
    p50, p99 = np.percentile(latencies[~broken], (50, 99)) * 1e3
    return {
        "pairs_per_second": round(requests / seconds, 1),
        "p50_ms": round(p50, 1),
        "p99_ms": round(p99, 1),
        "lost": requests - len(answers),
        "mixed": int(np.sum(np.abs(answers - expected)[~broken] > _TOLERANCE)),
        "sound_pairs_failed": int(np.isnan(answers[~broken]).sum()),
        "broken_images_answered": int(np.sum(~np.isnan(answers[broken]))),
    }
