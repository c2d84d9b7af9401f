"""An export from its options: a workdir's last checkpoint → a version folder that TensorFlow Serving serves."""

import dataclasses
import functools
import os
import sys

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2

import fv
from fv import calibration, files, preprocess, tables, workdir
from fv.calibration import Calibration
from fv.conversion import images as conversion
from fv.errors import UserError
from fv.model import checkpoint_choice, model_record, restoring
from fv.model.model_record import ModelRecord
from fv.options import option, required
from fv.pipeline.input_pipeline import PairSource
from fv.serving import (
    checksums,
    formats,
    images,
    model_card,
    operating_point,
    parity,
    validation,
    versions,
    warm_up,
)
from fv.serving.decoding import Rules
from fv.serving.operating_point import OperatingPoint
from fv.serving.signatures import ServedVerifier

_PIXELS_PER_MEGAPIXEL = 1_000_000
_CHECKED_PAIRS = 16  # that the finished graph must score as the evaluator does
_TOLERANCE = 1e-5  # of these similarities
_PIXEL_TOLERANCE = (
    2.0  # mean levels of a whole image's pixels: the DCT that wrote the stored JPEGs gives up to 1
)
_CHECKED_SIDE = 1000  # pixels at most of the made-up image
_RANGE_IMAGES = 100  # whose activations set the ranges of int8
_FINGERPRINT = "fingerprint.pb"


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What is exported, and where to."""

    workdir: str = required("folder that fv.train wrote and fv.evaluate measured.")
    output: str = required("folder that gets a subfolder <version>, the next free integer.")
    checkpoint: str = checkpoint_choice.flag()
    tfrecords: str | None = option(
        None,
        "Folder of shards whose validation pairs calibrate the export; fv.evaluate's by default.",
    )
    threshold: float | None = option(
        None,
        "Similarity from which on two images are the same person; the most accurate by default.",
        lower=0.0,
        upper=1.0,
    )
    target_far: float | None = option(
        None,
        "Choose the threshold by this share of impostor validation pairs accepted instead.",
        lower=0.0,
        upper=1.0,
    )
    keep: int = option(
        0,
        "Exports kept in --output; older ones that are unchanged are removed. 0 keeps all.",
        lower=0,
    )
    max_megapixels: float = option(50.0, "Largest image taken, in millions of pixels.", lower=0.001)
    merge_images: int = option(
        64,
        "Images of requests that arrive together which go through the network at once; 0: each request alone.",
        lower=0,
    )
    formats: str = option(
        "saved_model", "What is written, separated by commas: saved_model, tflite, onnx."
    )


def export(options: ExportOptions) -> None:
    """Writes OUTPUT/<version>/ under a temporary name and renames it: a server never sees half a model.

    Raises:
      UserError: no model, no validation pairs, or such of other parts of images than it was trained on, fv.evaluate
        measured another checkpoint, options that exclude each other, or the finished graph does not score as the evaluator
        does.
    """
    if options.threshold is not None and options.target_far is not None:
        raise UserError("--threshold and --target_far exclude each other: give one of them")
    wanted = formats.parse(options.formats)
    held = model_record.load(options.workdir)
    model, step = restoring.load_model(options.workdir, held, options.checkpoint)
    found = validation.find(options.workdir, step, options.tfrecords, options.checkpoint)
    pairs = validation.source(found, held)
    if options.tfrecords:
        validation.require_others(found)
    advice = "calibrate on shards that were converted as the training shards, --tfrecords names their folder"
    model_record.check_images(held, options.workdir, pairs.preprocessing, found.tfrecords, advice)
    similarities, labels = validation.score(pairs, model)
    point = _operating_point(options, found, similarities, labels)
    fitted = calibration.fit(similarities, labels)
    served = ServedVerifier(
        model, held.options, _rules(options, held), point.threshold, fitted, options.merge_images
    )
    _check_promise(served, pairs, similarities)
    _check_preprocessing(_rules(options, held))
    card = _card(options, found, held, step, point, fitted)
    with versions.new_version(options.output) as folder:
        _save(served, folder)
        warm_up.write(folder, held.options.embedding_size)
        if wanted:
            written = formats.write(
                wanted, folder, model.encoder, parity.pixels_of(pairs, _RANGE_IMAGES)
            )
            measured = _parity_pairs(found, held, pairs)
            card["formats"] = parity.compare(
                written, model, measured, point.threshold, pairs, _rule(options, found)
            )
        model_card.write(card, folder)
        checksums.write(folder)
    print(_summary(options.output, point, step))
    _say_what_it_expects(options, held)
    versions.remove_oldest(options.output, options.keep)


def _rules(options: ExportOptions, held: ModelRecord) -> Rules:
    max_pixels = round(options.max_megapixels * _PIXELS_PER_MEGAPIXEL)
    return Rules(
        held.options.image_size, held.options.crop_fraction, max_pixels, held.preprocessing
    )


def _say_what_it_expects(options: ExportOptions, held: ModelRecord) -> None:
    """What a caller has to know of the images, on stderr; nothing where the graph does all that is needed."""
    if held.preprocessing is None:
        print(f"fv: warning: {options.workdir}: {model_card.UNKNOWN_INPUT}", file=sys.stderr)
    elif held.preprocessing.boxes:
        print(f"fv: note: {options.output}: {model_card.BOXES}", file=sys.stderr)


def _summary(output: str, point: OperatingPoint, step: int) -> str:
    version = os.path.join(output, str(versions.versions(output)[-1]))
    accepted = (
        f"{point.impostors_accepted:,} of {point.impostors:,} impostor {point.split} pairs accepted"
    )
    return (
        f"{version}  threshold {point.threshold:.4f} ({point.chosen_by}; {accepted}), step {step}"
    )


def _operating_point(
    options: ExportOptions, found: validation.Measured, similarities, labels
) -> OperatingPoint:
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
    return lambda similarities, labels: (
        operating_point.choose(similarities, labels, found.split, **asked).threshold
    )


def _check_promise(served: ServedVerifier, pairs: PairSource, similarities: np.ndarray) -> None:
    """Checks that the graph scores stored images as the evaluator does."""
    images_a, images_b = validation.first_images(pairs, _CHECKED_PAIRS)
    answers = served.similarities_of_stored(images_a, images_b).numpy()
    difference = float(np.abs(answers - similarities[: len(answers)]).max())
    if difference > _TOLERANCE:
        raise UserError(
            f"the exported graph scores validation pairs up to {difference:.2g} off the evaluator's similarity: convert the "
            "images anew with --store_size, and report their kind"
        )


def _check_preprocessing(rules: Rules) -> None:
    """Checks that the graph makes of a whole image what the converter stored and the evaluator made of that."""
    preprocessing = rules.preprocessing
    if preprocessing is None or preprocessing.store_size is None:
        return
    rules = dataclasses.replace(rules, max_pixels=2 * _CHECKED_SIDE**2)
    side = min(round(1.7 * preprocessing.store_size / preprocessing.centre) + 1, _CHECKED_SIDE)
    encoded = tf.io.encode_jpeg(
        _made_up(side, side + side // 3), quality=95, chroma_downsampling=False
    ).numpy()
    limits = (
        rules.max_pixels,
        preprocessing.jpeg_quality,
        preprocessing.store_size,
        preprocessing.crop_fraction,
    )
    stored = conversion.load(encoded, conversion.Rules(*limits)).stored
    wanted = preprocess.load_jpeg(tf.constant(stored), rules.image_size, rules.crop_fraction)
    (found,) = images.loader(rules)(tf.constant([encoded]), tf.constant(["image"]))
    difference = float(np.abs(found.numpy().astype(np.float32) - wanted.numpy()).mean())
    if difference > _PIXEL_TOLERANCE:
        raise UserError(
            f"the exported graph makes a whole image {difference:.2g} levels unlike a stored one: report this, with "
            f"{preprocessing}"
        )


def _made_up(height: int, width: int) -> np.ndarray:
    """A picture of waves, uint8 [height, width, 3], in which a shift by a pixel shows."""
    down, across = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(40 * across + 15 * down), np.sin(50 * down), np.cos(35 * across - 30 * down)]
    return np.uint8(np.round(127.5 + 100 * np.stack(waves, axis=-1)))


def _parity_pairs(found: validation.Measured, held: ModelRecord, pairs: PairSource) -> PairSource:
    """The pairs that fv.evaluate scored, or else the validation pairs."""
    if found.figures is None:
        return pairs
    return validation.source(
        validation.Measured(found.figures, found.figures["tfrecords"], found.figures["split"]), held
    )


def _save(served: ServedVerifier, folder: str) -> None:
    tf.saved_model.save(served, folder, signatures=served.signatures())
    path = os.path.join(folder, _FINGERPRINT)
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(files.read_bytes(path))
    fingerprint.ClearField(
        "uuid"
    )  # random: the one thing that differs between two exports of one checkpoint
    with files.atomic_open(path, "wb") as file:
        file.write(fingerprint.SerializeToString(deterministic=True))


def _card(
    options: ExportOptions, found, held, step: int, point: OperatingPoint, fitted: Calibration
) -> dict:
    flags = _training_flags(options.workdir)
    trained_on = _flag(flags, "tfrecords") or "unknown"
    share = point.genuine / (point.genuine + point.impostors)
    return {
        "fv": fv.__version__,
        "tensorflow": tf.__version__,
        "step": step,
        "checkpoint": options.checkpoint,
        "weights_averaged_by": _flag(flags, "average_weights")
        or "none",  # restored where a run kept them
        "model": dataclasses.asdict(held.options),
        "preprocessing": held.preprocessing and held.preprocessing.to_json(),
        "images": {name: getattr(options, name) for name in ("max_megapixels", "merge_images")},
        "operating_point": dataclasses.asdict(point),
        "calibration": dataclasses.asdict(fitted)
        | {"genuine_share": share, "held_out": _held_out(options, found, fitted)},
        "metrics": found.figures,
        "data": {
            "training": {
                "folder": trained_on,
                "manifest_sha256": validation.manifest_sha256(trained_on),
            },
            "validation": {
                "folder": found.tfrecords,
                "manifest_sha256": validation.manifest_sha256(found.tfrecords),
            },
        },
        "training_flags": flags,
    }


def _held_out(
    options: ExportOptions, found: validation.Measured, fitted: Calibration
) -> dict | None:
    """The calibration's figures on the pairs that fv.evaluate scored."""
    path = os.path.join(options.workdir, workdir.SCORES)
    if found.figures is None or not os.path.exists(path):
        return None
    scores = tables.read(path, ("similarity", "label"))
    return calibration.evaluate(fitted, scores.numbers("similarity"), scores.labels("label"))


def _flag(flags: str, name: str) -> str | None:
    """A flag's value among the lines of a flagfile."""
    return next(
        (line.split("=", 1)[1] for line in flags.splitlines() if line.startswith(f"--{name}=")),
        None,
    )


def _training_flags(folder: str) -> str:
    path = os.path.join(folder, workdir.FLAGS)
    return files.read_bytes(path).decode() if os.path.exists(path) else ""
