"""Exports a checkpoint of a workdir as a version folder that TensorFlow Serving serves."""

import dataclasses
import functools
import os
import sys

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2

import fv
from fv import alignment, calibration, embedding, files, image_ops, manifest, tables, workdir
from fv.calibration import Calibration, OperatingPoint
from fv.conversion import storage
from fv.errors import UserError
from fv.evaluation import pair_sources
from fv.evaluation.pairs import PairSet
from fv.model import checkpoint_files, model_record
from fv.model.model_record import ModelRecord
from fv.options import option, required
from fv.preprocessing import Preprocessing
from fv.serving import contract, decoding, formats, signatures, versions
from fv.serving.decoding import DecodingRules
from fv.serving.signatures import ServedVerifier
from fv.workdir import checkpoint_flag

_PIXELS_PER_MEGAPIXEL = 1_000_000
_CHECKED_PAIRS = 16  # that the finished graph must score as the evaluator does
_TOLERANCE = 1e-5  # of these similarities
# Mean levels of the pixels of a whole image. The DCT that wrote the stored JPEGs gives up to 1.
_PIXEL_TOLERANCE = 2.0
_CHECKED_SIDE = 1000  # pixels at most of the test image
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
        "Lowest similarity of two images of the same person; the most accurate one by default.",
        lower=0.0,
        upper=1.0,
    )
    target_far: float | None = option(
        None,
        "False-accept rate on the validation pairs by which the threshold is chosen instead.",
        lower=0.0,
        upper=1.0,
    )
    keep: int = option(
        0,
        "Exports kept in --output; older ones that are unchanged are removed. 0 keeps all.",
        lower=0,
    )
    max_megapixels: float = option(
        50.0, "Largest image that the export takes, in megapixels.", lower=0.001
    )
    merge_images: int = option(
        64,
        "Most images of concurrent requests that go through the network together; 0 for each "
        "request alone.",
        lower=0,
    )
    formats: str = option(
        "saved_model", "Formats to write, separated by commas: saved_model, tflite, onnx."
    )


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The pairs that an export is calibrated on, and the evaluator's figures.

    Attributes:
      figures: metrics.json of the workdir; None if there is none, or it is not of shards.
      tfrecords: folder of the shards that hold the pairs.
      split: the split of the pairs.
    """

    figures: dict | None
    tfrecords: str
    split: str


def export(options: ExportOptions) -> None:
    """Writes OUTPUT/<version>/ under a temporary name and renames it when it is complete.

    Raises:
      UserError: there is no model, or there are no validation pairs; the pairs show other parts of
        images than it was trained on; fv.evaluate measured another checkpoint; options exclude each
        other; or the finished graph does not score as the evaluator does.
    """
    if options.threshold is not None and options.target_far is not None:
        raise UserError("--threshold and --target_far exclude each other: give one of them")
    wanted = formats.parse_formats(options.formats)
    trained = model_record.load(options.workdir)
    model, step = checkpoint_files.load_model(options.workdir, trained, options.checkpoint)

    held_out = find_held_out(options.workdir, step, options.tfrecords, options.checkpoint)
    pairs = _read_pairs(held_out, options.tfrecords is not None)
    stored = manifest.read(held_out.tfrecords).preprocessing
    advice = (
        "calibrate on shards that were converted as the training shards, --tfrecords names their "
        "folder"
    )
    model_record.check_images(trained, options.workdir, stored, held_out.tfrecords, advice)

    choose = functools.partial(
        calibration.choose_threshold,
        split=held_out.split,
        threshold=options.threshold,
        target_far=options.target_far,
    )
    embeddings = embedding.embed(model.encoder, trained.options, pairs.images)
    similarities = formats.score_pairs(pairs, embeddings, model)
    evaluated = None if options.tfrecords else held_out.figures
    best = evaluated["threshold"] if evaluated else None
    point = choose(similarities, pairs.labels, best=best)
    fitted = calibration.fit(similarities, pairs.labels)
    rules = DecodingRules(
        trained.options.image_size,
        trained.options.crop_fraction,
        max_pixels=round(options.max_megapixels * _PIXELS_PER_MEGAPIXEL),
        preprocessing=trained.preprocessing,
    )
    served = ServedVerifier(
        model, trained.options, rules, point.threshold, fitted, options.merge_images
    )
    _check_similarities(served, pairs, similarities)
    _check_preprocessing(rules)

    card = _describe(options, held_out, trained, step, point, fitted)
    with versions.new_version(options.output) as folder:
        _save(served, folder)
        signatures.write_warm_up(folder, served.signatures())
        if wanted:
            examples = formats.load_examples(pairs, trained.options)
            paths = formats.write_formats(wanted, folder, model.encoder, examples)
            card["formats"] = formats.compare_formats(
                paths, model, trained.options, pairs, held_out.figures, point.threshold, choose
            )
        contract.write_card(card, folder)
        versions.write_checksums(folder)
    print(_summarize(options.output, point, step))
    _describe_input(options, trained)
    versions.remove_oldest(options.output, options.keep)


def find_held_out(folder: str, step: int, tfrecords: str | None, checkpoint: str) -> HeldOut:
    """Finds the held-out pairs for a checkpoint.

    Args:
      folder: the workdir.
      step: of the checkpoint.
      tfrecords: folder of shards with a validation split; None for the one fv.evaluate read.
      checkpoint: which one it is, last or best, for messages.

    Raises:
      UserError: fv.evaluate measured another checkpoint, or it did not run and there is no folder.
    """
    path = os.path.join(folder, workdir.METRICS)
    figures = files.load_json(path) if files.exists(path) else None
    if figures is None or not _is_of_shards(figures):
        if tfrecords is None:
            raise UserError(
                f"{folder} holds no {workdir.METRICS} that says where validation pairs are: run "
                "fv.evaluate first, or give --tfrecords, in either case shards with val pairs"
            )
        return HeldOut(None, tfrecords, "val")
    if figures.get("step") != step:
        raise UserError(
            f"{path} is of step {figures.get('step')}, the {checkpoint} checkpoint of step {step}: "
            f"run fv.evaluate again with --checkpoint={checkpoint}"
        )
    source = tfrecords or figures.get("threshold_tfrecords") or figures["tfrecords"]
    return HeldOut(figures, source, figures.get("threshold_split", "val"))


def _is_of_shards(figures: dict) -> bool:
    """Whether shards were scored and chose the threshold; an export cannot use lists or folds."""
    splits = (figures.get("split", "test"), figures.get("threshold_split", "val"))
    return bool(figures.get("tfrecords")) and set(splits) <= set(manifest.SPLITS)


def _read_pairs(held_out: HeldOut, named: bool) -> PairSet:
    """Reads the held-out pairs; if `named` by the user, not those that were scored."""
    try:
        pairs = pair_sources.read_shard_pairs(held_out.tfrecords, held_out.split)
    except UserError as error:
        raise UserError(
            f"{error} (the export is calibrated on these pairs; --tfrecords names shards that hold "
            "others)"
        ) from error
    if named and (held_out.figures or {}).get("pairs_sha256") == pairs.digest():
        raise UserError(
            f"--tfrecords={held_out.tfrecords} holds as its {held_out.split} split the pairs that "
            "fv.evaluate scored, and figures on the pairs that choose the threshold mean nothing: "
            "give other shards"
        )
    return pairs


def _check_similarities(served: ServedVerifier, pairs: PairSet, similarities: np.ndarray) -> None:
    """Checks that the graph scores stored images as the evaluator does."""
    images_a, images_b = (
        [pairs.images.read(image) for image in ends[:_CHECKED_PAIRS]]
        for ends in (pairs.first, pairs.second)
    )
    answers = served.similarities_of_stored(images_a, images_b).numpy()
    difference = float(np.abs(answers - similarities[: len(answers)]).max())
    if not difference <= _TOLERANCE:  # also NaN
        raise UserError(
            f"the exported graph scores validation pairs up to {difference:.2g} off the "
            "evaluator's similarity: convert the images anew with --store_size, and report their "
            "kind"
        )


def _check_preprocessing(rules: DecodingRules) -> None:
    """Checks that the graph makes of a whole image what the converter and the evaluator make."""
    preprocessing = rules.preprocessing
    if preprocessing is None or preprocessing.store_size is None:
        return
    rules = dataclasses.replace(rules, max_pixels=2 * _CHECKED_SIDE**2)
    side = min(round(1.7 * preprocessing.store_size / preprocessing.centre) + 1, _CHECKED_SIDE)
    pixels = _draw_waves(side, side + side // 3)
    encoded = tf.io.encode_jpeg(pixels, quality=95, chroma_downsampling=False).numpy()
    batch = [tf.constant([encoded]), tf.constant(["image"])]

    def require_equal(found: tf.Tensor, crops: Preprocessing, points: np.ndarray | None) -> None:
        stored_by = storage.StorageRules(rules.max_pixels, crops)
        stored = tf.constant(storage.prepare_image(encoded, stored_by, points).stored)
        wanted = image_ops.jpeg_to_input(stored, rules.image_size, rules.crop_fraction).numpy()
        difference = float(np.abs(found[0].numpy().astype(np.float32) - wanted).mean())
        if not difference <= _PIXEL_TOLERANCE:  # also NaN
            raise UserError(
                f"the exported graph makes a whole image {difference:.2g} levels unlike a stored "
                f"one: report this, with {preprocessing}"
            )

    # Of an image that is cut already, if the model takes aligned faces.
    crops = dataclasses.replace(preprocessing, alignment=None)
    require_equal(decoding.batch_loader(rules)(*batch), crops, None)
    if preprocessing.alignment:
        # A face that is turned and as large as half of the image.
        points = side / 224 * alignment.TEMPLATE @ np.array([[0.9, 0.4], [-0.4, 0.9]]) + side / 3
        found = decoding.batch_loader(rules, aligned=True)(
            *batch, tf.constant(points[np.newaxis], tf.float32)
        )
        require_equal(found, preprocessing, points)


def _draw_waves(height: int, width: int) -> np.ndarray:
    """A picture in which a shift by one pixel shows, uint8 [height, width, 3]."""
    down, across = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(40 * across + 15 * down), np.sin(50 * down), np.cos(35 * across - 30 * down)]
    return np.round(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def _save(served: ServedVerifier, folder: str) -> None:
    tf.saved_model.save(served, folder, signatures=served.signatures())
    path = os.path.join(folder, _FINGERPRINT)
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(files.read_bytes(path))
    # A random number, and the only difference between two exports of one checkpoint.
    fingerprint.ClearField("uuid")
    with files.atomic_open(path, "wb") as file:
        file.write(fingerprint.SerializeToString(deterministic=True))


def _summarize(output: str, point: OperatingPoint, step: int) -> str:
    version = os.path.join(output, str(versions.list_versions(output)[-1]))
    counts = f"{point.impostors_accepted:,} of {point.impostors:,} impostor {point.split} pairs"
    how = f"{point.chosen_by}; {counts} accepted"
    return f"{version}  threshold {point.threshold:.4f} ({how}), step {step}"


def _describe_input(options: ExportOptions, trained: ModelRecord) -> None:
    """Prints to stderr what a caller has to know of the images; nothing if it is the usual."""
    if trained.preprocessing.boxes:
        print(f"fv: note: {options.output}: {contract.BOXES_NOTE}", file=sys.stderr)
    elif trained.preprocessing.alignment:
        print(f"fv: note: {options.output}: {contract.ALIGNED_NOTE}", file=sys.stderr)


def _describe(
    options: ExportOptions,
    held_out: HeldOut,
    trained: ModelRecord,
    step: int,
    point: OperatingPoint,
    fitted: Calibration,
) -> dict:
    """The model card's content."""
    path = os.path.join(options.workdir, workdir.FLAGS)
    flags = files.read_bytes(path).decode() if files.exists(path) else ""
    lines = [line.removeprefix("--") for line in flags.splitlines() if "=" in line]
    given = dict(line.split("=", 1) for line in lines)
    folders = {"training": given.get("tfrecords") or "unknown", "validation": held_out.tfrecords}
    share = point.genuine / (point.genuine + point.impostors)
    return {
        "fv": fv.__version__,
        "tensorflow": tf.__version__,
        "step": step,
        "checkpoint": options.checkpoint,
        # These weights are restored if a run kept them.
        "weights_averaged_by": given.get("average_weights") or "none",
        "model": dataclasses.asdict(trained.options),
        "preprocessing": trained.preprocessing.to_json(),
        "external_teachers": list(trained.external_teachers),
        "images": {name: getattr(options, name) for name in ("max_megapixels", "merge_images")},
        "operating_point": dataclasses.asdict(point),
        "calibration": dataclasses.asdict(fitted)
        | {"genuine_share": share, "held_out": _measure_calibration(options, held_out, fitted)},
        "metrics": held_out.figures,
        "data": {name: _describe_data(folder) for name, folder in folders.items()},
        "training_flags": flags,
    }


def _measure_calibration(
    options: ExportOptions, held_out: HeldOut, fitted: Calibration
) -> dict | None:
    """The figures of the calibration on the pairs that fv.evaluate scored."""
    path = os.path.join(options.workdir, workdir.SCORES)
    if held_out.figures is None or not files.exists(path):
        return None
    scores = tables.read(path, ("similarity", "label"))
    return calibration.measure(
        fitted.probability(scores.numbers("similarity")), scores.labels("label")
    )


def _describe_data(folder: str) -> dict:
    """A data set's folder and manifest, which holds the checksums of its shards."""
    path = os.path.join(folder, manifest.FILE_NAME)
    digest = files.sha256(path) if files.exists(path) else None
    return {"folder": folder, "manifest_sha256": digest}
