"""Writes the face recognition network of an npm package as an ONNX file, for fv.train and fv.embed.

pip install 'fv[onnx]'
npm pack @vladmandic/face-api && tar xzf vladmandic-face-api-*.tgz
python tools/face_api_to_onnx.py --model=package/model --output=face_api.onnx

The weights (MIT licence, 6.4 MB) are dlib's ResNet of 29 layers, which was trained on about three
million faces of 7,485 people. Who they are is not known: some may be in your test data.

The network expects squares around the face, without rotation. With --faces, a file of face points
such as the converter's faces.csv, the tool also writes these squares as a CSV for --crop:

python tools/face_api_to_onnx.py … --faces=tfrecords/lfw/faces.csv --boxes=boxes.csv
python -m fv.embed --images=lfw --onnx=face_api.onnx --crop=boxes.csv --store_size=150 …

As --teacher_onnx it takes the training images. The square of faces that the converter aligned with
--align_margin=0.4, and that are trained with --crop_fraction=0.6 at 96 pixels:

python tools/face_api_to_onnx.py … --image_size=96 --square=0.125,0.25,0.75
"""

import dataclasses
import json
import os

import numpy as np
import pandas as pd

from fv import cli, face_files, files, ownership, quiet_tensorflow, tables
from fv.errors import UserError
from fv.options import option, required

_NAME = "face_recognition_model"
_SIDE = 150  # pixels
_MEAN = (122.782, 117.001, 104.298)  # of each channel, RGB
_STAGES = (("32", 3), ("64", 3), ("128", 2), ("256", 2))  # channels and blocks behind the first
# The square of a face: the distance from eyes to mouth, and the centre of both eyes and mouth.
_EYES_TO_MOUTH, _CENTRE_X, _CENTRE_Y = 0.45, 0.5, 0.43  # over its side
_OPSET = 17


@dataclasses.dataclass(frozen=True)
class Options:
    """Where the weights are, and what to write."""

    model: str = required(f"folder that holds {_NAME}.bin and its manifest")
    output: str = required("ONNX file to write")
    faces: str | None = option(None, "File of face points, as the converter's faces.csv.")
    boxes: str | None = option(None, "CSV of squares to write, for --crop; needs --faces.")
    image_size: int = option(_SIDE, "Side of the images that the ONNX file takes.", lower=2)
    square: tuple[float, float, float] = option(
        (0.0, 0.0, 1.0),
        "LEFT,TOP,SIDE: where the network's square lies in these images, over their side.",
        lower=(0.0, 0.0, 0.01),
        upper=(1.0, 1.0, 1.0),
    )


def main(options: Options) -> None:
    """Writes the ONNX file and the CSV of squares."""
    _require_new(options)
    square = _find_square(options)
    # Before the network is written: a mistake in the list leaves no file behind.
    table = list_boxes(options.faces) if options.faces and options.boxes else None
    if bool(options.faces) != bool(options.boxes):
        raise UserError("--faces and --boxes belong together: give both or none")
    try:
        import tf2onnx  # an extra
    except ImportError as error:
        raise UserError(f"{options.output} needs tf2onnx: pip install 'fv[onnx]'") from error
    network = _build(read_weights(options.model), options.image_size, square)
    with quiet_tensorflow.hold_back_stderr():
        model, _ = tf2onnx.convert.from_function(
            network, input_signature=network.input_signature, opset=_OPSET
        )
    with files.atomic_open(options.output, "wb") as file:
        file.write(model.SerializeToString(deterministic=True))
    print(f"wrote {options.output}")
    if table is not None and options.boxes:
        tables.write(options.boxes, table)
        print(f"wrote {len(table):,} squares: {options.boxes}")


def read_weights(folder: str) -> dict[str, np.ndarray]:
    """Reads the weights by name, float32: w = scale · q + min of uint8 numbers q.

    Raises:
      UserError: the manifest is damaged, or the weights are of another size than it says.
    """
    manifest, data = (files.read_bytes(path) for path in _find_inputs(folder))
    weights: dict[str, np.ndarray] = {}
    offset = 0
    try:
        for entry in json.loads(manifest)[0]["weights"]:
            coding = entry.get("quantization", {"dtype": entry["dtype"], "scale": 1.0, "min": 0.0})
            count, dtype = int(np.prod(entry["shape"])), np.dtype(coding["dtype"])
            numbers = np.frombuffer(data, dtype, count, offset).reshape(entry["shape"])
            offset += numbers.nbytes
            weights[entry["name"]] = (numbers * coding["scale"] + coding["min"]).astype(np.float32)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        unfit = f"{folder} holds weights or a manifest that are damaged or cut short"
        raise UserError(f"{unfit} ({error!r}): fetch it again") from error
    if offset != len(data):
        raise UserError(f"{folder} holds weights that do not fit their manifest: fetch it again")
    return weights


def _find_inputs(folder: str) -> tuple[str, str]:
    """The paths of the manifest and of the weights."""
    manifest, weights = f"{_NAME}-weights_manifest.json", f"{_NAME}.bin"
    return os.path.join(folder, manifest), os.path.join(folder, weights)


def _require_new(options: Options) -> None:
    """Raises UserError if an output exists, or both are one file."""
    inputs = [*_find_inputs(options.model), *filter(None, [options.faces])]
    for flag, path in (("output", options.output), ("boxes", options.boxes)):
        ownership.require_not_read(path, flag, inputs)
        ownership.require_new(path, flag)
    if options.boxes and os.path.realpath(options.boxes) == os.path.realpath(options.output):
        raise UserError(f"--boxes={options.boxes} is --output, too: give another name")


def list_boxes(path: str) -> pd.DataFrame:
    """The squares of the faces in a file of face points, as a table for --crop."""
    rows = []
    for name, face in face_files.read(path)[0].items():
        if face:
            left_eye, right_eye, _, *mouth = np.asarray(face.points)
            ends = np.stack([left_eye, right_eye, np.mean(mouth, axis=0)])
            side = np.linalg.norm(ends[:2] - ends[2], axis=1).mean() / _EYES_TO_MOUTH
            corner = ends.mean(axis=0) - side * np.array([_CENTRE_X, _CENTRE_Y])
            rows.append((name, *np.rint(corner).astype(int), *[round(side)] * 2))
    return pd.DataFrame(rows, columns=["path", "left", "top", "width", "height"])


def _find_square(options: Options) -> tuple[int, int, int]:
    """Left, top and side of --square in pixels.

    Raises:
      UserError: it exceeds the images.
    """
    left, top, side = (round(share * options.image_size) for share in options.square)
    if side < 1 or max(left, top) + side > options.image_size:
        given = ",".join(f"{share:g}" for share in options.square)
        raise UserError(
            f"--square={given} exceeds the images: LEFT + SIDE and TOP + SIDE are at most 1"
        )
    return left, top, side


def cut_square(images, square: tuple[int, int, int]):
    """Cuts a square out of images and resizes it to what the network takes.

    Args:
      images: uint8 [n, side, side, 3].
      square: left, top and side in pixels.

    Returns:
      float32 [n, 150, 150, 3].
    """
    import tensorflow as tf

    left, top, side = square
    cut = tf.cast(images[:, top : top + side, left : left + side], tf.float32)
    return cut if side == _SIDE else tf.image.resize(cut, (_SIDE, _SIDE))


def _build(weights: dict[str, np.ndarray], image_size: int, square: tuple[int, int, int]):
    """The network as a function uint8 [n, image_size, image_size, 3] → float32 [n, 128]."""
    import tensorflow as tf

    def convolve(x, name: str, stride: int = 1, padding: str = "SAME"):
        x = tf.nn.conv2d(x, weights[f"{name}/conv/filters"], stride, padding)
        x = (x + weights[f"{name}/conv/bias"]) * weights[f"{name}/scale/weights"]
        return x + weights[f"{name}/scale/biases"]

    def add_block(x, name: str):
        inner = tf.nn.relu(convolve(x, f"{name}/conv1"))
        return tf.nn.relu(convolve(inner, f"{name}/conv2") + x)

    def add_shrinking_block(x, name: str):
        inner = tf.nn.relu(convolve(x, f"{name}/conv1", 2, "VALID"))
        inner = convolve(inner, f"{name}/conv2")
        pooled = tf.nn.avg_pool2d(x, 2, 2, "VALID")
        rows = pooled.shape[1] - inner.shape[1]  # zero rows and columns, where sides are even
        inner = tf.pad(inner, [[0, 0], [0, rows], [0, rows], [0, 0]])
        channels = inner.shape[3] - pooled.shape[3]
        return tf.nn.relu(tf.pad(pooled, [[0, 0], [0, 0], [0, 0], [0, channels]]) + inner)

    @tf.function(
        input_signature=[tf.TensorSpec([None, image_size, image_size, 3], tf.uint8, "image")],
        autograph=False,
    )
    def embed(image):
        x = (cut_square(image, square) - tf.constant(_MEAN)) / 255.0
        x = tf.nn.relu(convolve(x, "conv32_down", 2, "VALID"))
        x = tf.nn.max_pool2d(x, 3, 2, "VALID")
        for channels, blocks in _STAGES:
            if channels != "32":
                x = add_shrinking_block(x, f"conv{channels}_down")
            for number in range(1, blocks + 1):
                x = add_block(x, f"conv{channels}_{number}")
        x = add_shrinking_block(x, "conv256_down_out")
        return {"embedding": tf.matmul(tf.reduce_mean(x, axis=[1, 2]), weights["fc"])}

    return embed


if __name__ == "__main__":
    cli.run(main, Options, description=__doc__)
