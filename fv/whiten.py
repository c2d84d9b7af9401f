"""Whitens a trained model's embeddings with its genuine training pairs.

python -m fv.whiten --workdir=DIR --tfrecords=DIR --output=NEW_DIR

Features in which images of one person differ, such as light or pose, get a lower weight in the
similarity. The matrix becomes part of the last layer, so the model is as fast as before. The output
is a workdir for fv.evaluate, fv.export and --teacher.
"""

from fv import quiet_tensorflow  # noqa: F401, I001  TensorFlow first, without its start-up noise

import dataclasses
import os
import shutil

import numpy as np
import tensorflow as tf

from fv import cli, embedding, files, manifest, ownership, record, workdir
from fv.errors import UserError
from fv.evaluation import pair_sources
from fv.model import checkpoint_files, model_record, siamese
from fv.model.model_record import ModelRecord
from fv.model.siamese import Siamese
from fv.options import option, required
from fv.workdir import checkpoint_flag

_COPIED = (workdir.FLAGS, workdir.RUN)  # how the model was trained
_TRAIN = "train"


@dataclasses.dataclass(frozen=True)
class WhitenOptions:
    """Which model, by which pairs, and how strongly."""

    workdir: str = required("folder that fv.train wrote; the model in it is only read.")
    tfrecords: str = required("folder of the shards that the model was trained on.")
    output: str = required("new folder for the whitened model, a workdir like the first.")
    checkpoint: str = checkpoint_flag()
    shrinkage: float = option(
        0.5,
        "Shrinkage of the within-class covariance to a multiple of the identity matrix, in (0, 1].",
        lower=0.001,
        upper=1.0,
    )


def whiten(options: WhitenOptions) -> None:
    """Writes a whitened copy of a model, measured on the genuine training pairs.

    Raises:
      UserError: the workdir holds no model, one whose head does not fit, or one of other people
        than the shards'; there are no genuine training pairs; the output holds a model already.
    """
    held = model_record.load(options.workdir)
    if files.exists(os.path.join(options.output, workdir.MODEL)):
        raise UserError(f"--output={options.output} holds a model already: give a new folder")
    _claim(options.output)
    found = manifest.load(options.tfrecords)
    identities = found.split(_TRAIN).identities
    here = model_record.describe(held.options, identities, found.preprocessing)
    model_record.check_same(here, options.workdir)
    model, step = checkpoint_files.load_model(options.workdir, held, options.checkpoint)
    if model.head.scoring is not None:
        head = f"--head={held.options.head} of {options.workdir}"
        raise UserError(f"{head} weighs each number of an embedding: train another head")
    embeddings_a, embeddings_b = _embed_genuine_pairs(model, held, options)
    within, shared = compute_covariances(embeddings_a, embeddings_b)
    matrix = compute_whitening(within, shared, options.shrinkage)
    before = _mean_cosine(embeddings_a, embeddings_b)
    after = _mean_cosine(embeddings_a @ matrix, embeddings_b @ matrix)
    if not np.isfinite(after):
        nothing = f"whitening leaves nothing of some embeddings of {options.tfrecords}"
        raise UserError(f"{nothing}: give another --shrinkage")
    siamese.apply_whitening(model.encoder, matrix)
    pairs = len(embeddings_a)
    figures = {"pairs": pairs, "mean_cosine_before": before, "mean_cosine_after": after}
    _write(model, step, held, options, figures)
    cosines = f"mean cosine {before:.3f} before, {after:.3f} now"
    print(f"{options.output}: whitened with {pairs:,} genuine training pairs, {cosines}")


def compute_covariances(
    embeddings_a: np.ndarray, embeddings_b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Computes how the two images of genuine pairs differ, and what they share.

    Args:
      embeddings_a: float [pairs, d].
      embeddings_b: float [pairs, d], of the same people.

    Returns:
      Two symmetric matrices, float64 [d, d]. The within-class covariance W is half the mean square
      of the differences. S is the mean product of either embedding with the other. Nothing is
      centred, because the cosine centres nothing.
    """
    a, b = np.asarray(embeddings_a, np.float64), np.asarray(embeddings_b, np.float64)
    differences, products, count = a - b, a.T @ b, 2 * len(a)
    return differences.T @ differences / count, (products + products.T) / count


def compute_whitening(within: np.ndarray, shared: np.ndarray, shrinkage: float) -> np.ndarray:
    """Computes the matrix M, float64 [d, d]; embeddings · M are compared by their cosine.

    Training makes the images of one person alike, in some directions more than in others. Whitening
    divides each direction by the spread that is left (Hatch et al., Within-Class Covariance
    Normalization for SVM-based Speaker Recognition, 2006). Of the result, each direction keeps the
    share that another image of the person would repeat (Ioffe, Probabilistic Linear Discriminant
    Analysis, ECCV 2006): where W is the identity, x · S (S + I)^(−1) is the best linear prediction,
    in least squares, of the embedding of another image of the person.

    Args:
      within: W, the within-class covariance, not all zero.
      shared: S, as `compute_covariances` returns it. Its negative directions are noise, and
        count as 0.
      shrinkage: share of a sphere of the same mean spread that is mixed into W, (0, 1].

    Returns:
      W'^(−1/2) · S' (S' + I)^(−1), where W' = (1 − shrinkage) · W + shrinkage · w · I, w is the
      mean of the diagonal of W, and S' = W'^(−1/2) · S · W'^(−1/2).
    """
    sphere = np.trace(within) / len(within) * np.eye(len(within))
    spreads, directions = np.linalg.eigh((1.0 - shrinkage) * within + shrinkage * sphere)
    whitened = (directions / np.sqrt(spreads)) @ directions.T
    strengths, directions = np.linalg.eigh(whitened @ shared @ whitened)
    strengths = np.maximum(strengths, 0.0)
    return whitened @ (directions * (strengths / (strengths + 1.0))) @ directions.T


def _claim(output: str) -> None:
    """Checks that fv may write all files of the output."""
    ownership.claim(output, [*_COPIED, workdir.WHITENING])
    folder = os.path.join(output, workdir.CHECKPOINTS)
    paths = checkpoint_files.find_checkpoints(folder)
    foreign = [path for path in paths if not checkpoint_files.is_listed(path)]
    ownership.refuse_foreign([f"{os.path.basename(path)}.index" for path in foreign], folder)


def _embed_genuine_pairs(
    model: Siamese, held: ModelRecord, options: WhitenOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings float32 [genuine pairs, d] of either image; each image is embedded once."""
    pairs = pair_sources.read_shard_pairs(options.tfrecords, _TRAIN)
    genuine = pairs.labels == record.GENUINE
    if not genuine.any():
        raise UserError(f"{options.tfrecords} holds no genuine training pairs to whiten with")
    used, ends = np.unique([pairs.first[genuine], pairs.second[genuine]], return_inverse=True)
    images = dataclasses.replace(
        pairs.images,
        paths=[pairs.images.paths[number] for number in used],
        read=lambda number: pairs.images.read(used[number]),
    )
    found = embedding.embed(model.encoder, held.options, images)
    embeddings_a, embeddings_b = found[ends.reshape(2, -1)]
    require_telling(embeddings_a, embeddings_b)
    return embeddings_a, embeddings_b


def require_telling(embeddings_a: np.ndarray, embeddings_b: np.ndarray) -> None:
    """Raises UserError if the embeddings of genuine pairs are all equal, or not alike."""
    if np.allclose(embeddings_a, embeddings_b) or _mean_cosine(embeddings_a, embeddings_b) <= 0:
        raise UserError("the model embeds images of a person all alike or unalike: train it again")


def _mean_cosine(embeddings_a: np.ndarray, embeddings_b: np.ndarray) -> float:
    lengths = np.linalg.norm(embeddings_a, axis=1) * np.linalg.norm(embeddings_b, axis=1)
    return float(np.mean(np.sum(embeddings_a * embeddings_b, axis=1) / lengths))


def _write(
    model: Siamese, step: int, held: ModelRecord, options: WhitenOptions, figures: dict
) -> None:
    """Writes the new workdir; model.json last, because a folder without it is no workdir."""
    folder = os.path.join(options.output, workdir.CHECKPOINTS)
    files.make_folder(folder)
    # Those of a run that was killed: a later step among them would be loaded in place of this one.
    for path in checkpoint_files.find_checkpoints(folder):
        checkpoint_files.remove_checkpoint(path)
    variable = tf.Variable(step, dtype=tf.int64, trainable=False)
    checkpoint = tf.train.Checkpoint(step=variable, model=model)
    checkpoint_files.write_checkpoint(checkpoint, checkpoint_files.checkpoint_path(folder, step))
    for name in _COPIED:
        path = os.path.join(options.workdir, name)
        if files.exists(path):
            copy = ownership.atomic_open(os.path.join(options.output, name), "wb")
            with files.open_bytes(path) as source, copy as target:
                shutil.copyfileobj(source, target)
    content = dataclasses.asdict(options) | figures
    ownership.save_json(content, os.path.join(options.output, workdir.WHITENING))
    model_record.save(held, options.output)


def run() -> None:
    """The console script."""
    cli.run(whiten, WhitenOptions, description=__doc__)


if __name__ == "__main__":
    run()
