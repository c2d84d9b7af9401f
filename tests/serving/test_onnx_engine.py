import pathlib
import subprocess
import sys

import numpy as np
import pytest

import fv
from fv.errors import UserError
from fv.serving import export, onnx_engine
from fv.serving.export import ExportOptions
from tests.serving import making


def test_an_export_without_onnx_says_how_to_get_it(exported):
    pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match=r"no formats.encoder\.onnx: export with --formats"):
        onnx_engine.OnnxEngine(str(exported))


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory) -> pathlib.Path:
    """A version folder with an ONNX file."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    output = tmp_path_factory.mktemp("onnx")
    export.export(
        ExportOptions(workdir=trained.workdir, output=str(output), formats="saved_model,onnx")
    )
    return output / "1"


@pytest.mark.slow
def test_the_engines_give_the_same_answers_and_refusals(folder):
    picture = making.picture()
    files = [making.encode(picture, form) for form in ("JPEG", "PNG", "BMP", "GIF")]
    plain, onnx = (fv.Verifier(str(folder), engine=name) for name in ("tensorflow", "onnx"))
    np.testing.assert_allclose(onnx.embed(files), plain.embed(files), atol=1e-5)
    for theirs, ours in zip(
        plain.verify(files, files[::-1]), onnx.verify(files, files[::-1]), strict=True
    ):
        assert abs(theirs.similarity - ours.similarity) <= 1e-5
        assert abs(theirs.probability - ours.probability) <= 1e-4 and theirs.same == ours.same
    first, second = plain.embed(files[:2])
    assert abs(plain.compare(first, second).distance - onnx.compare(first, second).distance) <= 1e-5
    engine = onnx_engine.OnnxEngine(str(folder))
    for data, _ in making.refused().values():
        if data[:4] != b"RIFF" and data[:2] != b"BM":  # host decoders take WebP and compressed BMP
            images = {"image": np.array([files[0], data], object)}
            with pytest.raises(UserError, match=r"^image\[1\] (is|has|cannot be used)"):
                engine.run("embed", images)
    pixels = np.asarray(picture)[np.newaxis]
    wanted = onnx.embed(files[1])
    np.testing.assert_allclose(
        engine.run("embed_pixels", {"image": pixels})["embedding"][0], wanted, atol=1e-6
    )
    assert engine.run("embed", {"image": np.array([], object)})["embedding"].shape[0] == 0


def test_the_engine_needs_no_tensorflow():
    code = "import sys, fv.serving.onnx_engine; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
