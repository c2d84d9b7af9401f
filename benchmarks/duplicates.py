"""Measures how well copies of a picture are found, and at what cost.

Every image of a folder (one folder per person) is hashed; some are compressed, resized, cropped and
brightened. The figures: bits between an image and its variant, bits between different images, the
time of a hash, and time and memory of the search among random hashes whose bits correlate like
those of the images.

python benchmarks/duplicates.py --images=/data/lfw --json=/tmp/duplicates.json
"""

import dataclasses
import glob
import os
import time
import tracemalloc

import cv2
import numpy as np
import simplejpeg

from fv import cli, files
from fv.conversion import checking, duplicates
from fv.options import option, required

SMALL_DISTANCES = (4, 8, 12, 16, 24, 32, 40)  # bits
PLANTED_EVERY, PLANTED_BITS = (
    100,
    8,
)  # one made-up hash in so many is a copy with so many bits changed
CHUNK = 50_000


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What the benchmark takes."""

    images: str = required("folder of JPEG images, one folder per person")
    variants: int = option(2000, "Images of which variants are made.", lower=1)
    searched: int = option(1_000_000, "Hashes in the larger of two searches.", lower=1000)
    seed: int = option(0, "Which images, and which hashes.", lower=0)
    json: str | None = option(None, "File to write the figures to.")


def dct_hash(grey: np.ndarray) -> np.ndarray:
    """What fv uses, as bits."""
    return np.unpackbits(checking.perceptual_hash(grey).view(np.uint8)).astype(bool)


def difference_hash(grey: np.ndarray) -> np.ndarray:
    """256 signs of differences between neighbours."""
    small = cv2.resize(grey, (17, 16), interpolation=cv2.INTER_AREA)
    return (small[:, 1:] > small[:, :-1]).ravel()


def mean_hash(grey: np.ndarray) -> np.ndarray:
    """256 cells, brighter than their median or not."""
    small = cv2.resize(grey, (16, 16), interpolation=cv2.INTER_AREA)
    return (small > np.median(small)).ravel()


HASHES = {"dct": dct_hash, "difference": difference_hash, "mean": mean_hash}
VARIANTS = {
    "quality 75": lambda rgb: _again(rgb, 75),
    "quality 50": lambda rgb: _again(rgb, 50),
    "size × 0.5": lambda rgb: _again(_resize(rgb, 0.5, cv2.INTER_AREA), 90),
    "size × 1.5": lambda rgb: _again(_resize(rgb, 1.5, cv2.INTER_CUBIC), 90),
    "size × 0.5, quality 75": lambda rgb: _again(_resize(rgb, 0.5, cv2.INTER_LINEAR), 75),
    "grey": lambda rgb: _again(
        cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), 90
    ),
    "contrast + 10 %, brightness + 8": lambda rgb: _again(
        cv2.convertScaleAbs(rgb, alpha=1.1, beta=8), 90
    ),
    "cropped by 2 %": lambda rgb: _again(
        rgb[len(rgb) // 50 : -len(rgb) // 50, rgb.shape[1] // 50 : -rgb.shape[1] // 50], 90
    ),
}


def main(options: BenchmarkOptions) -> None:
    cv2.setNumThreads(1)
    figures = measure(options)
    print(files.to_json(figures, indent=2))
    if options.json:
        files.save_json(figures, options.json)


def measure(options: BenchmarkOptions) -> dict:
    """The figures: distances by hash, microseconds, seconds and bytes."""
    paths = sorted(glob.glob(os.path.join(glob.escape(options.images), "*", "*.jpg")))
    owners = np.unique(
        [os.path.basename(os.path.dirname(path)) for path in paths], return_inverse=True
    )[1]
    images = [_read(path) for path in paths]
    greys = [_grey(image) for image in images]
    picked = np.random.default_rng(options.seed).permutation(len(paths))[: options.variants]
    variants = {
        name: [_grey(change(images[index])) for index in picked]
        for name, change in VARIANTS.items()
    }
    bits = {name: np.stack([hash_of(grey) for grey in greys]) for name, hash_of in HASHES.items()}
    return {
        "images": len(paths),
        "hashes": {name: _distances(name, bits[name], owners, picked, variants) for name in HASHES},
        "hash_us": _microseconds(checking.perceptual_hash, greys),
        "decode_us": _microseconds(
            lambda data: simplejpeg.decode_jpeg(data, "RGB"),
            list(map(files.read_bytes, paths[:1000])),
        ),
        "search": [
            _search(bits["dct"], count, options.seed)
            for count in (options.searched // 10, options.searched)
        ],
    }


def _distances(
    name: str, bits: np.ndarray, owners: np.ndarray, picked: np.ndarray, variants: dict
) -> dict:
    """Returns the share of variants and the number of pairs of files within each distance."""
    found = {}
    for variant, greys in variants.items():
        away = (np.stack([HASHES[name](grey) for grey in greys]) != bits[picked]).sum(axis=1)
        found[variant] = {
            str(limit): round(float((away <= limit).mean()), 4) for limit in SMALL_DISTANCES
        }
    signs = bits.astype(np.float32) * 2 - 1
    away = (bits.shape[1] - signs @ signs.T) / 2
    upper, same = np.triu(np.ones(away.shape, bool), 1), owners[:, None] == owners
    pairs = {
        kind: {str(limit): int((away[upper & of] <= limit).sum()) for limit in SMALL_DISTANCES}
        for kind, of in (("same_person", same), ("different_people", ~same))
    }
    return {
        "variants_within": found,
        "pairs_within": pairs,
        "median": float(np.median(away[upper])),
    }


def _search(bits: np.ndarray, count: int, seed: int) -> dict:
    """Measures the search among `count` hashes and counts the planted copies that it finds."""
    hashes, planted = _made_up(bits, count, np.random.default_rng(seed))
    digests, identities = np.arange(count, dtype=np.uint64), np.zeros(count, np.int32)
    start = time.perf_counter()
    found = duplicates.find_duplicates(digests, hashes, identities, checking.DISTANCE)
    seconds = time.perf_counter() - start
    tracemalloc.start()
    duplicates.find_duplicates(digests, hashes, identities, checking.DISTANCE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    figures = {
        "hashes": count,
        "seconds": round(seconds, 2),
        "bytes_per_image": round(peak / count),
    }
    return {
        **figures,
        "planted": planted,
        "found": int(found["second"].isin(range(count - planted, count)).sum()),
    }


def _made_up(bits: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Draws hashes with bits as frequent and correlated as in `bits`; the last are copies."""
    values, vectors = np.linalg.eigh(np.corrcoef(bits.T))
    mixing = (vectors * np.sqrt(np.maximum(values, 0))).T.astype(np.float32)
    limits = [
        np.quantile(column, share)
        for column, share in zip(_normal(rng, CHUNK, mixing).T, bits.mean(axis=0), strict=True)
    ]
    parts = [
        _normal(rng, min(CHUNK, count - at), mixing) < np.asarray(limits, np.float32)
        for at in range(0, count, CHUNK)
    ]
    hashes = np.concatenate([np.packbits(part, axis=1).view(np.uint64) for part in parts])
    planted = count // PLANTED_EVERY
    copies = hashes[rng.permutation(count - planted)[:planted]]
    for _ in range(PLANTED_BITS):
        bit = rng.integers(0, checking.HASH_BITS, planted)
        copies[np.arange(planted), bit // 64] ^= np.uint64(1) << (bit % 64).astype(np.uint64)
    hashes[count - planted :] = copies
    return hashes, planted


def _normal(rng: np.random.Generator, count: int, mixing: np.ndarray) -> np.ndarray:
    return rng.standard_normal((count, len(mixing)), dtype=np.float32) @ mixing


def _microseconds(function, items: list) -> float:
    """Median over five rounds of the mean time of a call."""
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for item in items:
            function(item)
        rounds.append((time.perf_counter() - start) / len(items))
    return round(float(np.median(rounds)) * 1e6, 1)


def _again(rgb: np.ndarray, quality: int) -> np.ndarray:
    encoded = simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality=quality)
    return simplejpeg.decode_jpeg(encoded, "RGB")


def _resize(rgb: np.ndarray, scale: float, interpolation: int) -> np.ndarray:
    return cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=interpolation)


def _grey(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def _read(path: str) -> np.ndarray:
    return simplejpeg.decode_jpeg(files.read_bytes(path), "RGB")


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
