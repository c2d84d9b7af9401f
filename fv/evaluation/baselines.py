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
        sums[:, WINDOW:, WINDOW:]
        - sums[:, WINDOW:, :-WINDOW]
        - sums[:, :-WINDOW, WINDOW:]
        + sums[:, :-WINDOW, :-WINDOW]
    )
    return corners / WINDOW**2
