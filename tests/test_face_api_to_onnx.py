import json
import pathlib

import numpy as np
import pytest

from fv import face_files
from fv.alignment import TEMPLATE, Face
from fv.errors import UserError
from tools import face_api_to_onnx
from tools.face_api_to_onnx import Options

WEIGHTS, MANIFEST = (f"face_recognition_model{end}" for end in (".bin", "-weights_manifest.json"))
ENTRY = {"name": "fc", "shape": [2, 3], "dtype": "float32"}
QUANTIZED = ENTRY | {"quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0}}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> pathlib.Path:
    """The current folder: a model of six weights in model/, and points of a face in faces.csv."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / WEIGHTS).write_bytes(bytes(range(6)))
    (tmp_path / "model" / MANIFEST).write_text(json.dumps([{"weights": [QUANTIZED]}]))
    face_files.write(str(tmp_path / "faces.csv"), {"Al/1.jpg": Face(TEMPLATE)}, "hand")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: pathlib.Path) -> dict[pathlib.Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_weights_are_scaled_and_shifted(folder):
    weights = face_api_to_onnx.read_weights("model")
    np.testing.assert_array_equal(weights["fc"], [[-1, -0.5, 0], [0.5, 1, 1.5]])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"output": "mine.onnx"}, "--output=mine.onnx exists: remove it"),
        ({"boxes": "mine.onnx"}, "--boxes=mine.onnx exists: remove it"),
        ({"boxes": "faces.csv"}, "--boxes=faces.csv is a file that this command reads"),
        ({"output": "./faces.csv"}, "--output=./faces.csv is a file that this command reads"),
        ({"output": f"model/{WEIGHTS}"}, "is a file that this command reads"),
        ({"boxes": "./new.onnx"}, "--boxes=./new.onnx is --output, too"),
        ({"faces": "mine.onnx"}, "mine.onnx"),
    ],
)
def test_an_output_that_exists_is_refused_and_nothing_changes(folder, flags, message):
    (folder / "mine.onnx").write_text("mine")
    before = contents(folder)
    with pytest.raises(UserError, match=message):
        given = {"output": "new.onnx", "faces": "faces.csv", "boxes": "new.csv"} | flags
        face_api_to_onnx.main(Options("model", **given))
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("manifest", "data"),
    [
        ([{"weights": [QUANTIZED]}], bytes(5)),
        ([{"weights": [QUANTIZED]}], b""),
        ([{"weights": [QUANTIZED]}], bytes(7)),
        ([{"weights": [QUANTIZED, QUANTIZED]}], bytes(6)),
        ([{"weights": [ENTRY]}], bytes(6)),
        ({}, bytes(6)),
        ([], bytes(6)),
        ([{}], bytes(6)),
        ([{"weights": ["fc"]}], bytes(6)),
        ([{"weights": [ENTRY | {"dtype": "float33"}]}], bytes(24)),
        ([{"weights": [ENTRY | {"shape": None}]}], bytes(24)),
    ],
)
def test_a_damaged_model_is_refused_with_its_folder(folder, manifest, data):
    (folder / "model" / WEIGHTS).write_bytes(data)
    (folder / "model" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"model holds weights .*: fetch it again"):
        face_api_to_onnx.read_weights("model")


def test_a_manifest_that_is_cut_short_is_refused(folder):
    (folder / "model" / MANIFEST).write_text('[{"weights": [')
    with pytest.raises(UserError, match="damaged or cut short"):
        face_api_to_onnx.read_weights("model")


def test_the_square_is_cut_out_and_resized():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 200, 200, 3), dtype=np.uint8)
    whole = face_api_to_onnx.cut_square(pixels, (40, 20, 150))
    np.testing.assert_array_equal(whole, pixels[:, 20:170, 40:190])
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None], (1, 200, 200))
    half = face_api_to_onnx.cut_square(np.stack([ramp] * 3, axis=-1), (10, 60, 75))
    # A pixel of the result is half a pixel of the image.
    np.testing.assert_allclose(half[0, 1:-1, 0, 0], 60 + (np.arange(1, 149) - 0.5) / 2, atol=1e-3)


def test_a_square_beyond_the_images_is_refused_and_nothing_is_written(folder):
    options = Options("model", "new.onnx", image_size=96, square=(0.5, 0.0, 0.75))
    with pytest.raises(UserError, match=r"--square=0.5,0,0.75 exceeds the images"):
        face_api_to_onnx.main(options)
    assert not (folder / "new.onnx").exists()
