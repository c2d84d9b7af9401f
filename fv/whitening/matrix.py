"""The matrix that whitens embeddings: each direction comes to count for as much as it says of the person.

Training makes the images of one person alike, in some directions more than in others. Where they still differ (light, pose,
age) is divided by its spread; of what is left, each direction keeps the part that another image of the person would repeat.
Sources: Hatch, Kajarekar and Stolcke, Within-Class Covariance Normalization for SVM-based Speaker Recognition, 2006, for the
first step; Ioffe, Probabilistic Linear Discriminant Analysis, ECCV 2006, for the model of a person behind the second.
"""

import numpy as np


def covariances(
    embeddings_a: np.ndarray, embeddings_b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What differs within a person, and what the two images of genuine pairs share.

    Args:
      embeddings_a: float [pairs, d].
      embeddings_b: as embeddings_a, of the same people.

    Returns:
      Two symmetric matrices, float64 [d, d]: the within-class covariance W, half the mean square of the differences, and the
      mean product S of either image's embedding with the other's. Nothing is centred, as the cosine centres nothing.
    """
    embeddings_a, embeddings_b = np.float64(embeddings_a), np.float64(embeddings_b)
    differences = embeddings_a - embeddings_b
    products = embeddings_a.T @ embeddings_b
    return differences.T @ differences / (2 * len(differences)), (products + products.T) / (
        2 * len(differences)
    )


def whitening(within: np.ndarray, shared: np.ndarray, shrinkage: float) -> np.ndarray:
    """The matrix M, float64 [d, d]: embeddings · M are compared by their cosine.

    Where embeddings are whitened, that is where W is the identity, an image's embedding x foretells that of another image
    of the person best, in least squares and linearly, as x · S (S + I)^(−1), which is what M adds to whitening.

    Args:
      within: W, within-class covariance, not all zero.
      shared: S, as `covariances` gives it; what of it is negative in a direction is noise, and counts as 0.
      shrinkage: share of a sphere of the same mean spread that is mixed into W, (0, 1].

    Returns:
      W'^(−1/2) · S' (S' + I)^(−1), where W' = (1 − shrinkage) · W + shrinkage · w · I, w is the mean of the diagonal of W,
      and S' = W'^(−1/2) · S · W'^(−1/2).
    """
    sphere = np.trace(within) / len(within) * np.eye(len(within))
    spreads, directions = np.linalg.eigh((1.0 - shrinkage) * within + shrinkage * sphere)
    whitened = (directions / np.sqrt(spreads)) @ directions.T
    strengths, directions = np.linalg.eigh(whitened @ shared @ whitened)
    strengths = np.maximum(strengths, 0.0)
    return whitened @ (directions * (strengths / (strengths + 1.0))) @ directions.T
