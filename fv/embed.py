"""Embeds images: python -m fv.embed --workdir=DIR --images=DIR --output=faces.parquet

Takes a data source (--images) or shards (--tfrecords), and a workdir, an export (--model) or an
ONNX file (--onnx). Writes one row for each image: path, identity, embedding, width and height in
pixels, brightness, sharpness. Images are prepared as the training images were. A run that was
killed continues with the same command.
"""

from fv import quiet_tensorflow  # noqa: F401  TensorFlow first, without its noise

# isort: split
import contextlib
import dataclasses
import hashlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pandas as pd

from fv import (
    cli,
    detection,
    embedding,
    embedding_files,
    encoders,
    files,
    image_blocks,
    manifest,
    ownership,
    progress,
    tables,
)
from fv.alignment import Alignment
from fv.conversion import sources, verification_sets
from fv.conversion.faces import FaceOptions
from fv.encoders import Encoder
from fv.errors import UserError
from fv.evaluation import pair_sources
from fv.evaluation.options import EvaluateOptions
from fv.image_blocks import Block
from fv.model import model_record
from fv.options import group, option, required
from fv.preprocessing import Preprocessing
from fv.workdir import checkpoint_flag

_TYPES = ("float32", "float16")


@dataclasses.dataclass(frozen=True)
class EmbedOptions:
    """Which images, by which model."""

    output: str = required("file to write: .parquet (pip install 'fv[parquet]') or .npz.")
    images: str | None = option(
        None, "Images, in any format of python -m fv.make_tfrecords; see docs/convert.md."
    )
    labels: str | None = option(None, "Who is in the images, as in the converter.")
    identity_level: int | None = option(
        None, "Level of the folder below --images that names the person, from 1.", lower=1
    )
    tfrecords: str | None = option(None, "Folder of shards, whose distinct images are embedded.")
    split: str | None = option(
        None, "Split of the shards; all if not given.", choices=manifest.SPLITS
    )
    workdir: str | None = option(None, "Folder that fv.train wrote.")
    checkpoint: str = checkpoint_flag()
    model: str | None = option(None, "Export: version folder that fv.export wrote.")
    onnx: str | None = option(
        None,
        "ONNX file: of fv.export, or a foreign one. Its input of type uint8 takes pixels, a float "
        "one takes (pixel - 127.5) / 127.5.",
    )
    crop: str | None = option(
        None,
        "Part of an image to use, as in the converter; that of the training images if not given.",
    )
    store_size: int | None = option(
        None, "Size that images are reduced to; that of the training images if not given.", lower=8
    )
    faces: FaceOptions = group(FaceOptions)
    align_margin: float = option(
        0.0, "Room around aligned faces, for a foreign ONNX file.", lower=-0.2, upper=2.0
    )
    dtype: str = option("float32", "Type of the numbers in an embedding.", choices=_TYPES)
    batch_size: int = option(64, "Images embedded at once.", lower=1)


def embed(options: EmbedOptions) -> None:
    """Writes the file of embeddings; images that cannot be used go to a CSV beside it.

    Raises:
      UserError: flags contradict each other, images do not fit the model, none can be used, or the
        file exists.
    """
    _check(options)
    encoder = load_encoder(options)
    folder, kept = _kept(options)
    files.make_folder(kept)
    busy = f"another run writes {options.output}: wait for it, or give another --output"
    try:
        with files.lock_folder(kept, busy):  # before images are unpacked there
            left_out = write(options, encoder, *find_images(options, encoder))
        ownership.remove_private(folder, os.path.basename(kept))
    finally:
        with contextlib.suppress(OSError):  # it holds finished blocks
            os.rmdir(kept)
        ownership.remove_leftovers(folder)
    _report(options, encoder, left_out)


def write(
    options: EmbedOptions, encoder: Encoder, total: int, odd: pd.DataFrame, blocks: Iterator[Block]
) -> dict[str, str]:
    """Embeds blocks and writes the file; keeps each finished block until the file is written.

    Args:
      options: of the run.
      encoder: embeds.
      total: number of images, for the progress line.
      odd: files that cannot be used, with columns `path` and `reason`.
      blocks: the images.

    Returns:
      The reason by the path of each image that is left out.
    """
    kept = _kept(options)[1]
    files.make_folder(kept)
    faces = options.faces
    flags: list = [encoder.digest, dataclasses.replace(options, output="")]
    flags += [files.sha256(path) for path in filter(None, [faces.face_points])]
    if faces.detector:
        flags.append(detection.require(faces.detector, faces.detector_model))
    finished: list[str] = []

    def read_finished() -> Iterator[dict[str, np.ndarray]]:
        for path in finished:
            block = _read_block(path)
            del block["left_out"], block["reasons"]
            if len(block["path"]):
                yield block

    left_out: dict[str, str] = dict(zip(odd["path"], odd["reason"], strict=True))
    embedded = 0
    with progress.Progress(total, "embed", "image") as line:
        for number, block in enumerate(blocks):
            described = (*flags, block.paths, block.identities, block.stamp)
            key = hashlib.sha256(repr(described).encode()).hexdigest()
            finished.append(os.path.join(kept, f"{number:06d}-{key[:32]}.npz"))
            if files.exists(finished[-1]):
                columns = _read_block(finished[-1])
            else:
                columns = embed_block(encoder, block, options.batch_size, options.dtype)
                with files.atomic_open(finished[-1], "wb") as file:
                    np.savez(file, **cast("Any", columns))
            left_out.update(zip(columns["left_out"], columns["reasons"], strict=True))
            embedded += len(columns["path"])
            line.update(len(block.paths))
    if not embedded:
        first = ": ".join(next(iter(left_out.items())))
        raise UserError(f"none of the {total:,} images can be embedded, the first: {first}")
    # First, so that a file is never without its list.
    _write_left_out(options, left_out)
    embedding_files.write(options.output, read_finished)
    return left_out


def _read_block(path: str) -> dict[str, np.ndarray]:
    """Reads the columns of a finished block."""
    return dict(np.load(io.BytesIO(files.read_bytes(path))))


def embed_block(
    encoder: Encoder, block: Block, batch_size: int, dtype: str
) -> dict[str, np.ndarray]:
    """Embeds the images of a block; returns the columns of the file, and what is left out."""
    model, broken, parts = encoder.record.options, dict[int, str](), []
    images: Any = block
    numbers = range(len(block.paths))
    for batch in embedding.load_batches(images, numbers, model, batch_size, broken):
        quality = embedding.measure_quality(embedding.to_greys(batch.pixels))
        parts.append((batch.numbers, encoder.embed(batch.pixels), *quality))
    none = np.zeros(0, np.float32)  # where no image can be used
    parts.append((none.astype(int), np.zeros((0, model.embedding_size), none.dtype), none, none))
    found, vectors, brightness, sharpness = map(np.concatenate, zip(*parts, strict=True))
    paths, identities = (np.array(each, str)[found] for each in (block.paths, block.identities))
    vectors = vectors.astype(dtype)
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    good = np.isfinite(lengths) & (lengths > 0)  # a foreign network may give anything
    broken |= dict.fromkeys(found[~good].tolist(), "its embedding is zero or not finite")
    sizes = np.array([block.sizes[number] for number in found], np.int32).reshape(-1, 2)
    columns = {
        "path": paths,
        "identity": identities,
        "embedding": vectors,
        "width": sizes[:, 0],
        "height": sizes[:, 1],
        "brightness": brightness,
        "sharpness": sharpness,
    }
    return {name: values[good] for name, values in columns.items()} | {
        "left_out": np.array([block.paths[number] for number in sorted(broken)], str),
        "reasons": np.array([broken[number] for number in sorted(broken)], str),
    }


def load_encoder(options: EmbedOptions) -> Encoder:
    """Loads the model that the options name."""
    if options.workdir:
        return encoders.load_workdir(options.workdir, options.checkpoint)
    if options.onnx:
        return encoders.load_onnx(options.onnx)
    return encoders.load_export(options.model or "")


def find_images(
    options: EmbedOptions, encoder: Encoder
) -> tuple[int, pd.DataFrame, Iterator[Block]]:
    """Returns the number of images, unusable files with the reason, and the images in blocks.

    Raises:
      UserError: there are none, or they do not fit the model.
    """
    folder, preprocessing = options.tfrecords, encoder.record.preprocessing
    is_foreign = options.onnx and preprocessing == Preprocessing()  # nothing says how to cut images
    if folder:
        held = manifest.load(folder)
        splits = [held.split(options.split)] if options.split else list(held.splits.values())
        advice = "give shards that were converted as the training shards"
        stored, total = held.preprocessing, sum(split.images for split in splits)
        if not is_foreign:
            model_record.check_images(encoder.record, encoder.source, stored, folder, advice)
        none = pd.DataFrame({"path": [], "reason": []})
        return total, none, image_blocks.read_shards(folder, splits)
    size = options.store_size
    if is_foreign and options.faces.given:
        preprocessing = Preprocessing(alignment=Alignment(options.align_margin))
        size = size or encoder.record.options.image_size
    images = options.images or ""
    if verification_sets.is_verification_set(images):
        digest = files.sha256(images)
        held_images = verification_sets.load(images)
        catalog = verification_sets.unpack(held_images, _make_scratch(options, digest))
    else:
        digest = ""
        catalog = sources.find_images(
            images, options.labels, options.identity_level, merge_names=False
        )
    given: Any = dict(images=catalog.root, crop=options.crop, store_size=size, faces=options.faces)
    chosen = EvaluateOptions(encoder.source, **given)
    chosen = pair_sources.with_training_crop(chosen, preprocessing)
    rules, boxes = pair_sources.choose_storage(chosen, preprocessing)
    scratch = _make_scratch(options, digest)
    return image_blocks.read_source(catalog, images, scratch, rules, boxes, digest=digest)


def _kept(options: EmbedOptions) -> tuple[str, str]:
    """The folder of the output, and the folder in it that keeps finished blocks."""
    folder, name = os.path.split(options.output)
    return folder or ".", os.path.join(ownership.private_folder(folder or "."), f"embed-{name}")


def _left_out_file(options: EmbedOptions) -> tuple[str, str]:
    """The folder and the name of the CSV of images that are left out."""
    folder, name = os.path.split(f"{os.path.splitext(options.output)[0]}-left_out.csv")
    return folder or ".", name


def _write_left_out(options: EmbedOptions, left_out: dict[str, str]) -> None:
    folder, name = _left_out_file(options)
    if left_out:
        reasons = {"path": list(left_out), "reason": list(left_out.values())}
        with ownership.staged(folder, [name]) as staging:
            tables.write(os.path.join(staging, name), pd.DataFrame(reasons))
    else:
        ownership.remove(folder, [name])  # of an earlier run


def _make_scratch(options: EmbedOptions, digest: str) -> str:
    """The folder for copies of images that cannot be read by themselves; `digest` of their file."""
    source = f"{options.images} {options.labels} {digest}".encode(errors="surrogateescape")
    name = hashlib.sha256(source).hexdigest()[:16]
    folder = os.path.join(_kept(options)[1], f"unpacked-{name}")
    files.make_folder(folder)
    return folder


def _check(options: EmbedOptions) -> None:
    unused = {}
    if options.tfrecords:
        unused = dict.fromkeys(("labels", "identity_level", "crop", "store_size"), "--images")
    elif options.split:
        unused = {"split": "--tfrecords"}
    for name, other in unused.items():
        if getattr(options, name) is not None:
            raise UserError(f"--{name} is for {other}: leave it out")
    if options.tfrecords and options.faces.given:
        raise UserError("--face_points and --detector are for --images: leave them out")
    for flags, values in (
        ("--workdir, --model and --onnx", (options.workdir, options.model, options.onnx)),
        ("--images and --tfrecords", (options.images, options.tfrecords)),
    ):
        if sum(value is not None for value in values) != 1:
            raise UserError(f"give one of {flags}")
    embedding_files.require_format(options.output)
    ownership.require_new(options.output, "output")
    folder, name = _left_out_file(options)
    ownership.claim(folder, [name])


def _report(options: EmbedOptions, encoder: Encoder, left_out: dict[str, str]) -> None:
    size = encoder.record.options.embedding_size
    print(f"wrote {options.output}: embeddings of {size} numbers by {encoder.source}")
    if left_out:
        name, first = _left_out_file(options)[1], ": ".join(next(iter(left_out.items())))
        print(f"{len(left_out):,} left out ({name}), the first: {first}", file=sys.stderr)


def run() -> None:
    """The console script."""
    cli.run(embed, EmbedOptions, description=__doc__)


if __name__ == "__main__":
    run()
