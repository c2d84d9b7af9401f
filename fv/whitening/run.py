"""Whitening from its options: a workdir again, its embeddings turned by what the genuine training pairs differ in."""

import dataclasses
import os
import shutil

import numpy as np
import tensorflow as tf

from fv import files, manifest, ownership, progress, record, workdir
from fv.errors import UserError
from fv.model import checkpoint_files, encoder, model_record, restoring
from fv.model.siamese import Siamese
from fv.pipeline import damage, input_pipeline
from fv.pipeline.source import PairSource
from fv.whitening import matrix
from fv.whitening.options import WhitenOptions

FILE_NAME = "whitening.json"
_COPIED = (workdir.FLAGS, workdir.RUN)  # how it was trained
_TRAIN = "train"


def whiten(options: WhitenOptions) -> None:
    """Writes the whitened model, and says by what; a run that was killed is run again, and `options.workdir` is only read.

    Raises:
      UserError: the workdir holds no model, one whose head would not fit, or one of other people than the shards'; the
        shards hold no genuine training pairs; the output is a workdir already.
    """
    held = model_record.load(options.workdir)
    if files.exists(os.path.join(options.output, workdir.MODEL)):
        raise UserError(f"--output={options.output} holds a model already: give a new folder")
    _claim(options.output)
    found = manifest.load(options.tfrecords)
    pixels = held.options.image_size, held.options.crop_fraction
    source = PairSource.of(options.tfrecords, found, _TRAIN, *pixels)
    here = model_record.describe(held.options, source.identities, found.preprocessing)
    model_record.check_same(here, options.workdir)
    model, step = restoring.load_model(options.workdir, held, options.checkpoint)
    if model.head.scoring is not None:
        raise UserError(
            f"--head={held.options.head} of {options.workdir} weighs each number of an embedding: train another head"
        )
    pairs = _genuine_embeddings(model, source, options.batch_size)
    turn = matrix.whitening(*matrix.covariances(*pairs), options.shrinkage)
    encoder.turn(model.encoder, turn)
    figures = {
        "pairs": len(pairs[0]),
        "mean_cosine_before": _mean_cosine(*pairs),
        "mean_cosine_after": _mean_cosine(*(each @ turn for each in pairs)),
    }
    if not np.isfinite(figures["mean_cosine_after"]):
        raise UserError(
            f"whitening leaves nothing of some embeddings of {options.tfrecords}: give another --shrinkage"
        )
    _write(model, step, held, options, figures)
    cosines = f"{figures['mean_cosine_before']:.3f} before, {figures['mean_cosine_after']:.3f} now"
    print(
        f"{options.output}: whitened by {figures['pairs']:,} genuine training pairs, their mean cosine {cosines}"
    )


def _claim(output: str) -> None:
    """Checks that nobody's files stand where the whitened model goes."""
    ownership.claim(output, [*_COPIED, FILE_NAME])
    folder = os.path.join(output, workdir.CHECKPOINTS)
    foreign = [
        path for path in checkpoint_files.find(folder) if not checkpoint_files.is_listed(path)
    ]
    ownership.require_none([f"{os.path.basename(path)}.index" for path in foreign], folder)


def _genuine_embeddings(
    model: Siamese, source: PairSource, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings float32 [genuine pairs, d] of either image."""
    embed = tf.function(
        lambda images: model.embed_pairs(images, training=False),
        reduce_retracing=True,
        autograph=False,
    )
    steps = input_pipeline.evaluation_steps(source, batch_size)
    batches = input_pipeline.evaluation_batches(source, batch_size=batch_size)
    embeddings = [np.zeros((0, 2, model.encoder.output_shape[-1]), np.float32)]
    with (
        damage.reported(source.folder, source.split.shards),
        progress.progress(steps, "embed", "batch") as line,
    ):
        for batch in batches:
            genuine = tf.logical_and(
                batch["label"] == record.GENUINE, tf.cast(batch["valid"], tf.bool)
            )
            embeddings.append(embed(tf.boolean_mask(batch["images"], genuine)).numpy())
            line.update()
    found = np.concatenate(embeddings)
    if not len(found):
        raise UserError(
            f"{source.folder} holds no genuine training pairs, by which embeddings are whitened"
        )
    pairs = found[:, 0], found[:, 1]
    if not np.isfinite(found).all() or np.allclose(*pairs) or _mean_cosine(*pairs) <= 0:
        raise UserError(
            "the model gives the images of a person all alike, nothing alike, or no numbers: train it again"
        )
    return pairs


def _mean_cosine(embeddings_a: np.ndarray, embeddings_b: np.ndarray) -> float:
    lengths = np.linalg.norm(embeddings_a, axis=1) * np.linalg.norm(embeddings_b, axis=1)
    return float(np.mean(np.sum(embeddings_a * embeddings_b, axis=1) / lengths))


def _write(
    model: Siamese, step: int, held: model_record.ModelRecord, options: WhitenOptions, figures: dict
) -> None:
    """model.json comes last: without one, the folder is no workdir."""
    folder = os.path.join(options.output, workdir.CHECKPOINTS)
    files.make_folder(folder)
    step_variable = tf.Variable(step, dtype=tf.int64, trainable=False)
    checkpoint_files.write(
        tf.train.Checkpoint(step=step_variable, model=model), checkpoint_files.path_of(folder, step)
    )
    for name in _COPIED:
        path = os.path.join(options.workdir, name)
        if files.exists(path):
            with (
                files.open_bytes(path) as before,
                ownership.atomic_open(os.path.join(options.output, name), "wb") as after,
            ):
                shutil.copyfileobj(before, after)
    ownership.save_json(
        dataclasses.asdict(options) | figures, os.path.join(options.output, FILE_NAME)
    )
    model_record.save(held, options.output)
