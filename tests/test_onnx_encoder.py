"""Encoders in ONNX files embed images, or say why they cannot."""

import logging
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from fv import onnx_encoder
from fv.errors import UserError
from fv.onnx_encoder import OnnxEncoder
from tools import face_api_to_onnx


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.FLOAT, TensorProto.FLOAT16])
def test_an_onnx_file_with_a_fixed_batch_embeds_any_number_of_images(kind, tmp_path):
    path = str(tmp_path / "four.onnx")
    _write_flattening_onnx(path, kind, [4, 3, 8, 8])
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    expected = pixels.transpose(0, 3, 1, 2).reshape(6, -1).astype(np.float64)
    expected -= 0 if kind == TensorProto.UINT8 else 127.5
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(OnnxEncoder(path)(pixels), expected, atol=1e-4)


def test_pixels_beyond_the_range_of_uint8_become_its_nearest_values(tmp_path):
    path = str(tmp_path / "a.onnx")
    _write_flattening_onnx(path, TensorProto.UINT8, ["n", 1, 1, 3])
    pixels = np.array([100.0, -5.0, 260.0], np.float32).reshape(1, 1, 1, 3)
    expected = np.array([[100, 0, 255]]) / np.hypot(100, 255)
    np.testing.assert_allclose(OnnxEncoder(path)(pixels), expected, atol=1e-6)


def test_an_onnx_file_that_embeds_no_images_is_refused(tmp_path):
    path = str(tmp_path / "a.onnx")
    for kind, shape, message in (
        (TensorProto.INT64, ["n", 3, 8, 8], r"takes tensor\(int64\): export it"),
        (TensorProto.FLOAT, ["n"], r"takes \['n'\], not a batch"),
        (TensorProto.FLOAT, ["n", 3, "h", "w"], "not a batch of square RGB images of one size"),
    ):
        _write_flattening_onnx(path, kind, shape)
        with pytest.raises(UserError, match=message):
            OnnxEncoder(path)


def test_an_onnx_file_that_runs_on_the_cpu_is_warned_of_once(tmp_path, monkeypatch, caplog):
    path = str(tmp_path / "a.onnx")
    _write_flattening_onnx(path, TensorProto.UINT8, ["n", 3, 8, 8])
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    onnx_encoder._warn_of_unused_gpu.cache_clear()
    with caplog.at_level(logging.WARNING):
        OnnxEncoder(path, gpu=False)
        assert not caplog.messages
        for _ in range(2):
            OnnxEncoder(path)
    assert len(caplog.messages) == 1 and "install onnxruntime-gpu" in caplog.messages[0]


def test_face_api_without_the_extra_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    chosen = face_api_to_onnx.Options(str(tmp_path), str(tmp_path / "out.onnx"))
    with pytest.raises(UserError, match=r"out\.onnx needs tf2onnx: pip install 'fv\[onnx\]'"):
        face_api_to_onnx.main(chosen)


def _write_flattening_onnx(path: str, kind: int, shape: list) -> None:
    """Writes a network whose embedding is its input."""
    pixels = onnx.helper.make_tensor_value_info("x", kind, shape)
    numbers = onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    steps = [
        onnx.helper.make_node("Cast", ["x"], ["z"], to=TensorProto.FLOAT),
        onnx.helper.make_node("Flatten", ["z"], ["y"], axis=min(1, len(shape))),
    ]
    graph = onnx.helper.make_graph(steps, "g", [pixels], [numbers])
    opsets = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
