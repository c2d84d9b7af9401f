"""fv's own model, and a batch for it, for the peers that run on TensorFlow."""

import numpy as np

from benchmarks.training_peers import synthetic
from benchmarks.training_peers.work import SEED, Work
from fv.model.options import ModelOptions


def options(work: Work) -> ModelOptions:
    """Of the model that fv trains here."""
    return ModelOptions(
        "inception_v3",
        image_size=work.image_size,
        embedding_size=work.embedding_size,
        head="sigmoid",
    )


def batch(work: Work) -> dict[str, np.ndarray]:
    """One batch in the form of fv's."""
    return synthetic.noise(work.pairs, work.image_size, identities=2, seed=SEED)
