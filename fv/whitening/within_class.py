"""Within-class whitening: directions in which images of one person differ much come to count for less.

Training makes the images of one person alike, in some directions more than in others; where they still differ (light, pose,
age) is weighed like what tells people apart. Dividing by that spread mends it.
Source: Hatch, Kajarekar and Stolcke, Within-Class Covariance Normalization for SVM-based Speaker Recognition, 2006.
"""

import numpy as np


def covariance(embeddings_a: np.ndarray, embeddings_b: np.ndarray) -> np.ndarray:
    """The within-class covariance, float64 [d, d], of genuine pairs: half the mean square of their differences.

    Args:
      embeddings_a: float [pairs, d].
      embeddings_b: as embeddings_a, of the same people.
    """
    differences = np.float64(embeddings_a) - np.float64(embeddings_b)
    return differences.T @ differences / (2 * len(differences))


def whitening(within: np.ndarray, shrinkage: float) -> np.ndarray:
    """The symmetric matrix W, float64 [d, d], for which embeddings · W spread alike within a person in every direction.

    Args:
      within: within-class covariance, float64 [d, d], not all zero.
      shrinkage: share of a sphere of the same mean spread that is mixed into it, (0, 1]; at 1, W is the identity.

    Returns:
      ((1 − shrinkage) · within + shrinkage · s · I)^(−1/2) · √s, where s is the mean of the diagonal of `within`.
    """
    mean = np.trace(within) / len(within)
    spreads, directions = np.linalg.eigh((1.0 - shrinkage) * within / mean + shrinkage * np.eye(len(within)))
    return (directions / np.sqrt(spreads)) @ directions.T
