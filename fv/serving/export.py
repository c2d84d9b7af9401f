"""An export from its options: a workdir's last checkpoint → a version folder that TensorFlow Serving serves."""

import dataclasses
import functools
import os

import numpy as np
import pandas as pd
import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2

import fv
from fv import calibration, files, workdir
from fv.calibration import Calibration
from fv.errors import UserError
from fv.model import checkpoint_choice, model_record, restoring
from fv.model.model_record import ModelRecord
from fv.options import option, required
from fv.pipeline.input_pipeline import PairSource
from fv.serving import checksums, formats, model_card, operating_point, parity, validation, versions, warm_up
from fv.serving.decoding import Rules
from fv.serving.operating_point import OperatingPoint
from fv.serving.signatures import ServedVerifier

_PIXELS_PER_MEGAPIXEL = 1_000_000
_CHECKED_PAIRS = 16  # that the finished graph must score as the evaluator does
_TOLERANCE = 1e-5  # of these similarities
_RANGE_IMAGES = 100  # whose activations set the ranges of int8
_FINGERPRINT = "fingerprint.pb"


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What is exported, and where to."""

    workdir: str = required("folder that fv.train wrote and fv.evaluate measured.")
    output: str = required("folder that gets a subfolder <version>, the next free integer.")
    checkpoint: str = checkpoint_choice.flag()
    tfrecords: str | None = option(
        None, "Folder of shards whose validation pairs calibrate the export; fv.evaluate's by default."
    )
    threshold: float | None = option(
        None, "Similarity from which on two images are the same person; the most accurate by default.", lower=0.0, upper=1.0
    )
    target_far: float | None = option(
        None, "Choose the threshold by this share of impostor validation pairs accepted instead.", lower=0.0, upper=1.0
    )
    keep: int = option(0, "Versions kept in --output; older ones are removed. 0 keeps all.", lower=0)
    max_megapixels: float = option(50.0, "Largest image taken, in millions of pixels.", lower=0.001)
    merge_images: int = option(
        64, "Images of requests that arrive together which go through the network at once; 0: each request alone.", lower=0
    )
    formats: str = option("saved_model", "What is written, separated by commas: saved_model, tflite, onnx.")


def export(options: ExportOptions) -> None:
    """Writes OUTPUT/<version>/ under a temporary name and renames it: a server never sees half a model.

    Raises:
      UserError: no model, no validation pairs, fv.evaluate measured another checkpoint, options that exclude each other, or
        the finished graph does not score as the evaluator does.
    """
    if options.threshold is not None and options.target_far is not None:
        raise UserError("--threshold and --target_far exclude each other: give one of them")
    wanted = formats.parse(options.formats)
    held = model_record.load(options.workdir)
    model, step = restoring.load_model(options.workdir, held, options.checkpoint)
    found = validation.find(options.workdir, step, options.tfrecords, options.checkpoint)
    pairs = validation.source(found, held)
    similarities, labels = validation.score(pairs, model)
    point = _operating_point(options, found, similarities, labels)
    fitted = calibration.fit(similarities, labels)
    served = ServedVerifier(model, held.options, _rules(options, held), point.threshold, fitted, options.merge_images)
    _check_promise(served, pairs, similarities)
    card = _card(options, found, held, step, point, fitted)
    with versions.new_version(options.output) as folder:
        _save(served, folder)
        warm_up.write(folder, held.options.embedding_size)
        if wanted:
            written = formats.write(wanted, folder, model.encoder, parity.pixels_of(pairs, _RANGE_IMAGES))
            measured = _parity_pairs(found, held, pairs)
            card["formats"] = parity.compare(written, model, measured, point.threshold, pairs, _rule(options, found))
        model_card.write(card, folder)
        checksums.write(folder)
    print(_summary(options.output, point, step))
    versions.remove_oldest(options.output, options.keep)


def _rules(options: ExportOptions, held: ModelRecord) -> Rules:
    max_pixels = round(options.max_megapixels * _PIXELS_PER_MEGAPIXEL)
    return Rules(held.options.image_size, held.options.crop_fraction, max_pixels)


def _summary(output: str, point: OperatingPoint, step: int) -> str:
    version = os.path.join(output, str(versions.versions(output)[-1]))
    accepted = f"{point.impostors_accepted:,} of {point.impostors:,} impostor {point.split} pairs accepted"
    return f"{version}  threshold {point.threshold:.4f} ({point.chosen_by}; {accepted}), step {step}"


def _operating_point(options: ExportOptions, found: validation.Measured, similarities, labels) -> OperatingPoint:
    choose = functools.partial(operating_point.choose, similarities, labels, found.split)
    free = options.threshold is None and options.target_far is None
    if free and found.figures and not options.tfrecords:
        # fv.evaluate chose by the same rule on the same pairs; its number, so that every decision is the same.
        point = choose(threshold=found.figures["threshold"], target_far=None)
        return dataclasses.replace(point, chosen_by=operating_point.BEST_ACCURACY)
    return choose(threshold=options.threshold, target_far=options.target_far)


def _rule(options: ExportOptions, found: validation.Measured) -> parity.Choose:
    """How a format's own threshold is chosen: as the export's."""
    asked = {"threshold": options.threshold, "target_far": options.target_far}
    return lambda similarities, labels: operating_point.choose(similarities, labels, found.split, **asked).threshold


def _check_promise(served: ServedVerifier, pairs: PairSource, similarities: np.ndarray) -> None:
    images_a, images_b = validation.first_images(pairs, _CHECKED_PAIRS)
    answers = served.serve(tf.constant(images_a), tf.constant(images_b))["similarity"].numpy()
    difference = float(np.abs(answers - similarities[: len(answers)]).max())
    if difference > _TOLERANCE:
        raise UserError(
            f"the exported graph scores validation pairs up to {difference:.2g} off the evaluator's similarity: convert the "
            "images anew with --store_size, and report their kind"
        )


def _parity_pairs(found: validation.Measured, held: ModelRecord, pairs: PairSource) -> PairSource:
    """The pairs that fv.evaluate scored, or else the validation pairs."""
    if found.figures is None:
        return pairs
    return validation.source(validation.Measured(found.figures, found.figures["tfrecords"], found.figures["split"]), held)


def _save(served: ServedVerifier, folder: str) -> None:
    tf.saved_model.save(served, folder, signatures=served.signatures())
    path = os.path.join(folder, _FINGERPRINT)
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(files.read_bytes(path))
    fingerprint.ClearField("uuid")  # random: the one thing that differs between two exports of one checkpoint
    with files.atomic_open(path, "wb") as file:
        file.write(fingerprint.SerializeToString(deterministic=True))


def _card(options: ExportOptions, found, held, step: int, point: OperatingPoint, fitted: Calibration) -> dict:
    flags = _training_flags(options.workdir)
    trained_on = _flag(flags, "tfrecords") or "unknown"
    share = point.genuine / (point.genuine + point.impostors)
    return {
        "fv": fv.__version__,
        "tensorflow": tf.__version__,
        "step": step,
        "checkpoint": options.checkpoint,
        "weights_averaged_by": _flag(flags, "average_weights") or "none",  # restored where a run kept them
        "model": dataclasses.asdict(held.options),
        "images": {name: getattr(options, name) for name in ("max_megapixels", "merge_images")},
        "operating_point": dataclasses.asdict(point),
        "calibration": dataclasses.asdict(fitted) | {"genuine_share": share, "held_out": _held_out(options, found, fitted)},
        "metrics": found.figures,
        "data": {
            "training": {"folder": trained_on, "manifest_sha256": validation.manifest_sha256(trained_on)},
            "validation": {"folder": found.tfrecords, "manifest_sha256": validation.manifest_sha256(found.tfrecords)},
        },
        "training_flags": flags,
    }


def _held_out(options: ExportOptions, found: validation.Measured, fitted: Calibration) -> dict | None:
    """The calibration's figures on the pairs that fv.evaluate scored."""
    path = os.path.join(options.workdir, workdir.SCORES)
    if found.figures is None or not os.path.exists(path):
        return None
    scores = pd.read_csv(path)
    return calibration.evaluate(fitted, scores["similarity"].to_numpy(), scores["label"].to_numpy())


def _flag(flags: str, name: str) -> str | None:
    """A flag's value among the lines of a flagfile."""
    return next((line.split("=", 1)[1] for line in flags.splitlines() if line.startswith(f"--{name}=")), None)


def _training_flags(folder: str) -> str:
    path = os.path.join(folder, workdir.FLAGS)
    return files.read_bytes(path).decode() if os.path.exists(path) else ""
