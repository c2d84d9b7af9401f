"""Verification without learning: distance of pixels and structural similarity, the floor that a trained model must beat."""

import numpy as np

WINDOW = 7  # pixels, the side of SSIM's local window
DYNAMIC_RANGE = 255.0
K1, K2 = 0.01, 0.03  # the constants of the SSIM paper


def pixel_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distance of raw pixels.

    Args:
      first, second: images (N, H, W, ...) in [0, 255].

    Returns:
      (N,) float32, 0 for equal images.
    """
    difference = first.astype(np.float32) - second.astype(np.float32)
    return np.sqrt((difference**2).reshape(len(first), -1).sum(axis=1))


def ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean structural similarity over local windows.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity", IEEE
    Transactions on Image Processing 13(4), 2004, equation 13, here with a square window of even weights.

    Args:
      first, second: grey images (N, H, W) in [0, 255].

    Returns:
      (N,) float in [-1, 1], 1 for equal images.
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    mean_a, mean_b = _local_mean(first), _local_mean(second)
    variance_a = _local_mean(first * first) - mean_a**2
    variance_b = _local_mean(second * second) - mean_b**2
    covariance = _local_mean(first * second) - mean_a * mean_b
    c1, c2 = (K1 * DYNAMIC_RANGE) ** 2, (K2 * DYNAMIC_RANGE) ** 2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity /= (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return similarity.mean(axis=(1, 2))


def _local_mean(images: np.ndarray) -> np.ndarray:
    """Mean over every WINDOW × WINDOW window that lies inside the image, by summed areas."""
    sums = np.pad(images, ((0, 0), (1, 0), (1, 0))).cumsum(axis=1).cumsum(axis=2)
    corners = (
        sums[:, WINDOW:, WINDOW:] - sums[:, WINDOW:, :-WINDOW] - sums[:, :-WINDOW, WINDOW:] + sums[:, :-WINDOW, :-WINDOW]
    )
    return corners / WINDOW**2


def sample_pairs(identities: np.ndarray, images: int, pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Balanced pairs: even places hold two images of one person, odd places images of two people.

    Args:
      identities: numbers of the people to draw from, at least two.
      images: how many images each has, at least two.
      pairs: how many pairs to draw.
      seed: fixes the draw.

    Returns:
      first (pairs, 2) and second (pairs, 2), rows of (identity, image), and genuine (pairs,) bool.
    """
    rng = np.random.default_rng(seed)
    genuine = np.arange(pairs) % 2 == 0
    people = np.stack([rng.choice(identities, 2, replace=False) for _ in range(pairs)])
    people[genuine, 1] = people[genuine, 0]
    shots = np.stack([rng.choice(images, 2, replace=False) for _ in range(pairs)])
    return np.stack([people[:, 0], shots[:, 0]], 1), np.stack([people[:, 1], shots[:, 1]], 1), genuine


def best_threshold(similarities: np.ndarray, genuine: np.ndarray) -> float:
    """The threshold that decides most pairs rightly; a pair is genuine from the threshold on.

    Args:
      similarities: (N,), more is more alike.
      genuine: (N,) bool.
    """
    candidates = np.append(np.unique(similarities), np.inf)
    scores = [accuracy(similarities, genuine, threshold) for threshold in candidates]
    return float(candidates[int(np.argmax(scores))])


def accuracy(similarities: np.ndarray, genuine: np.ndarray, threshold: float) -> float:
    """Share of pairs decided rightly, in [0, 1]."""
    return float(np.mean((similarities >= threshold) == genuine))
