"""An export from its options: a workdir's last checkpoint → a version folder that TensorFlow Serving serves."""

import dataclasses
import functools
import io
import os
import sys

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import fingerprint_pb2

import fv
from fv import calibration, files, preprocess, record, tables, workdir
from fv.calibration import Calibration
from fv.conversion import images as conversion
from fv.errors import UserError
from fv.model import checkpoint_files, model_record
from fv.model.model_record import ModelRecord
from fv.options import option, required
from fv.pipeline.input_pipeline import PairSource
from fv.serving import decoding, model_card, signatures, validation, versions
from fv.serving import formats as formats_module
from fv.serving.decoding import Rules
from fv.serving.signatures import ServedVerifier
from fv.serving.validation import OperatingPoint
from fv.workdir import checkpoint_flag

# Warm-up requests for TensorFlow Serving: the first caller does not wait for lazy initialisation.
#
# They are a TFRecord of `tensorflow.serving.PredictionLog`. The message class is built here, so
# that
# an export needs no tensorflow-serving-api. Source: prediction_log.proto, predict.proto and
# model.proto in tensorflow_serving/apis.

PATH = os.path.join("assets.extra", "tf_serving_warmup_requests")
MODEL_NAME = "fv"
BATCH_SIZES = (1, 8)
_SIDE = 160  # pixels, of the images
# Only the fields that a request sets. A TensorProto stands as bytes, which have its wire format.
_PREDICTION_LOG = """
name: "prediction_log.proto" package: "tensorflow.serving" syntax: "proto3"
message_type {
  name: "ModelSpec"
  field { name: "name" number: 1 type: TYPE_STRING }
  field { name: "signature_name" number: 3 type: TYPE_STRING }
}
message_type {
  name: "PredictRequest"
  nested_type {
    name: "InputsEntry"
    options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type: TYPE_BYTES }
  }
  field { name: "model_spec" number: 1 type_name: ".tensorflow.serving.ModelSpec" }
  field {
    name: "inputs" number: 2 label: LABEL_REPEATED
    type_name: ".tensorflow.serving.PredictRequest.InputsEntry"
  }
}
message_type {
  name: "PredictLog"
  field { name: "request" number: 1 type_name: ".tensorflow.serving.PredictRequest" }
}
message_type {
  name: "PredictionLog"
  field { name: "predict_log" number: 6 type_name: ".tensorflow.serving.PredictLog" }
}
"""
_PredictionLog = record.message_class(_PREDICTION_LOG, "tensorflow.serving.PredictionLog")


def write_warm_up(folder: str, embedding_size: int) -> None:
    """Writes requests of noise for every signature, at batch sizes 1 and 8, to a version folder."""
    path = os.path.join(folder, PATH)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        for size in BATCH_SIZES:
            for name, inputs in _requests(size, embedding_size).items():
                file.write(record.frame(prediction_log(name, inputs)))


def prediction_log(signature: str, inputs: dict[str, np.ndarray | list[bytes]]) -> bytes:
    """A serialised PredictionLog of one request.

    Args:
      signature: name of the signature that is called.
      inputs: its arguments by name.
    """
    log = _PredictionLog()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = MODEL_NAME, signature
    for name, values in inputs.items():
        tensor = tf.make_tensor_proto(values)
        request.inputs[name] = tensor.SerializeToString(deterministic=True)
    return log.SerializeToString(deterministic=True)


def _requests(size: int, embedding_size: int) -> dict[str, dict[str, np.ndarray | list[bytes]]]:
    rng = np.random.default_rng(size)
    pixels = rng.integers(0, 256, (size, _SIDE, _SIDE, preprocess.CHANNELS), dtype=np.uint8)
    jpegs, pngs = [[_encode(image, form) for image in pixels] for form in ("JPEG", "PNG")]
    embeddings = rng.normal(size=(size, embedding_size))
    embeddings = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    return {
        "serving_default": {signatures.IMAGE_A: jpegs, signatures.IMAGE_B: jpegs},
        "embed": {signatures.IMAGE: pngs},
        "embed_pixels": {signatures.IMAGE: pixels},
        "compare": {signatures.EMBEDDING_A: embeddings, signatures.EMBEDDING_B: embeddings},
    }


def _encode(pixels: np.ndarray, form: str) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, form)
    return encoded.getvalue()


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
    checkpoint: str = checkpoint_flag()
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
    wanted = formats_module.parse_formats(options.formats)
    held = model_record.load(options.workdir)
    model, step = checkpoint_files.load_model(options.workdir, held, options.checkpoint)
    found = validation.find_held_out(options.workdir, step, options.tfrecords, options.checkpoint)
    pairs = validation.validation_source(found, held)
    if options.tfrecords:
        validation.require_others(found)
    advice = "calibrate on shards that were converted as the training shards, --tfrecords names their folder"
    model_record.check_images(held, options.workdir, pairs.preprocessing, found.tfrecords, advice)
    similarities, labels = validation.score_pairs(pairs, model)
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
        write_warm_up(folder, held.options.embedding_size)
        if wanted:
            written = formats_module.write_formats(
                wanted, folder, model.encoder, formats_module.pixels_of(pairs, _RANGE_IMAGES)
            )
            measured = _parity_pairs(found, held, pairs)
            card["formats"] = formats_module.compare_formats(
                written, model, measured, point.threshold, pairs, _rule(options, found)
            )
        model_card.write(card, folder)
        versions.write_checksums(folder)
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
    version = os.path.join(output, str(versions.list_versions(output)[-1]))
    accepted = (
        f"{point.impostors_accepted:,} of {point.impostors:,} impostor {point.split} pairs accepted"
    )
    return (
        f"{version}  threshold {point.threshold:.4f} ({point.chosen_by}; {accepted}), step {step}"
    )


def _operating_point(
    options: ExportOptions, found: validation.Measured, similarities, labels
) -> OperatingPoint:
    choose = functools.partial(validation.choose_threshold, similarities, labels, found.split)
    free = options.threshold is None and options.target_far is None
    if free and found.figures and not options.tfrecords:
        # fv.evaluate chose by the same rule on the same pairs; its number, so that every decision is the same.
        point = choose(threshold=found.figures["threshold"], target_far=None)
        return dataclasses.replace(point, chosen_by=validation.BEST_ACCURACY)
    return choose(threshold=options.threshold, target_far=options.target_far)


def _rule(options: ExportOptions, found: validation.Measured) -> formats_module.Choose:
    """How a format's own threshold is chosen: as the export's."""
    asked = {"threshold": options.threshold, "target_far": options.target_far}
    return lambda similarities, labels: (
        validation.choose_threshold(similarities, labels, found.split, **asked).threshold
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
    stored = conversion.load_sound_jpeg(encoded, conversion.Rules(*limits)).stored
    wanted = preprocess.load_jpeg(tf.constant(stored), rules.image_size, rules.crop_fraction)
    (found,) = decoding.batch_loader(rules)(tf.constant([encoded]), tf.constant(["image"]))
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
    return validation.validation_source(
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
