import dataclasses
import json
import pathlib

import numpy as np
import pytest

import fv
from fv.errors import UserError
from fv.serving import engines, export, formats
from fv.serving.export import ExportOptions


def test_unknown_formats_and_missing_packages_are_named(monkeypatch):
    assert formats.parse("saved_model") == ()
    with pytest.raises(UserError, match="'caffe' is none of"):
        formats.parse("saved_model,caffe")
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"onnx needs tf2onnx, which is not installed: pip install 'fv\[onnx\]'"):
        formats.parse("onnx")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "needed"), [("tflite", ["ai_edge_litert"]), ("onnx", ["tf2onnx", "onnxruntime"])])
def test_a_format_embeds_as_the_saved_model_does(trained, tmp_path, name, needed):
    for package in needed:
        pytest.importorskip(package, reason=f"pip install 'fv[{name}]'")
    chosen = ExportOptions(workdir=trained.workdir, output=str(tmp_path), formats=f"saved_model,{name}")
    export.export(dataclasses.replace(chosen))
    rows = {row["format"]: row for row in json.loads((tmp_path / "1" / "model_card.json").read_text())["formats"]}
    assert set(rows) == {"trained encoder", *formats.FILES[name]}
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    wanted = fv.Verifier(str(tmp_path)).embed(pixels)
    for file_name in formats.FILES[name]:
        embed = engines.open_engine(str(pathlib.Path(tmp_path, "1", formats.FOLDER, file_name)))
        tolerance = 0.2 if "int8" in file_name else 2e-2 if "float16" in file_name else 1e-5
        np.testing.assert_allclose(embed(pixels), wanted, atol=tolerance)
        np.testing.assert_allclose(embed(pixels[:2]), embed(pixels)[:2], atol=1e-6)
        assert rows[file_name]["largest_difference"] <= tolerance and rows[file_name]["megabytes"] > 0
        assert rows[file_name]["accuracy_at_own"] > 0.5 and 0 < rows[file_name]["own_threshold"] < 1
