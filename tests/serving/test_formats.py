import importlib.util
import itertools
import json
import pathlib

import numpy as np
import pytest

import fv
from fv.conversion.image_files import BadImage
from fv.errors import UserError
from fv.evaluation import pair_sources
from fv.evaluation.pairs import Images, PairSet
from fv.model import checkpoint_files, model_record
from fv.serving import export, formats
from fv.serving.export import ExportOptions
from tests.conftest import TINY

PACKAGES = {"tflite": ["ai_edge_litert"], "onnx": ["tf2onnx", "onnxruntime"]}


def test_unknown_formats_and_missing_packages_are_named(monkeypatch):
    assert formats.parse_formats("saved_model") == ()
    with pytest.raises(UserError, match="'caffe' is none of"):
        formats.parse_formats("saved_model,caffe")
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"onnx needs tf2onnx, which is not installed: pip install 'fv\[onnx\]'"
    ):
        formats.parse_formats("onnx")


def test_an_image_that_cannot_be_embedded_is_named():
    def read(number: int) -> bytes:
        raise BadImage("cut short")

    images = Images(["a/1.jpg"], ["a"], np.array([1]), read)
    pairs = PairSet("val", images, *np.zeros((4, 1), np.int64))
    with pytest.raises(
        UserError, match=r"^a/1\.jpg of the val pairs .*: cut short; convert it again"
    ):
        formats._embed_images({}, pairs, TINY)


def test_held_out_pairs_are_used_where_the_evaluated_shards_are_gone(trained, shards):
    record = model_record.load(trained.workdir)
    model, _ = checkpoint_files.load_model(trained.workdir, record)
    pairs, gone = pair_sources.read_shard_pairs(str(shards), "val"), {"tfrecords": "gone"}
    (row,) = formats.compare_formats([], model, record.options, pairs, gone, 0.5, lambda *_: None)
    assert row["format"] == "trained encoder" and 0 <= row["accuracy"] <= 1


@pytest.fixture(scope="module")
def in_all_formats(trained, tmp_path_factory) -> pathlib.Path:
    """The version folder of an export in every format whose packages are there."""
    output = tmp_path_factory.mktemp("formats")
    export.export(
        ExportOptions(
            workdir=trained.workdir, output=str(output), formats=",".join(["saved_model", *there()])
        )
    )
    return output / "1"


def there() -> list[str]:
    """Formats beside the SavedModel whose packages are installed."""
    return [
        name for name, packages in PACKAGES.items() if all(map(importlib.util.find_spec, packages))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
def test_a_format_embeds_as_the_saved_model_does(in_all_formats, name):
    if name not in there():
        pytest.skip(f"pip install 'fv[{name}]'")
    rows = {
        row["format"]: row
        for row in json.loads((in_all_formats / "model_card.json").read_text())["formats"]
    }
    assert set(rows) == {
        "trained encoder",
        *itertools.chain.from_iterable(formats.FILES[name] for name in there()),
    }
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    wanted = fv.Verifier(str(in_all_formats)).embed(pixels)
    for file_name in formats.FILES[name]:
        embed = formats.open_engine(str(in_all_formats / formats.FOLDER / file_name))
        tolerance = 0.2 if "int8" in file_name else 2e-2 if "float16" in file_name else 1e-5
        np.testing.assert_allclose(embed(pixels), wanted, atol=tolerance)
        np.testing.assert_allclose(embed(pixels[:2]), embed(pixels)[:2], atol=1e-6)
        assert (
            rows[file_name]["largest_difference"] <= tolerance and rows[file_name]["megabytes"] > 0
        )
        assert rows[file_name]["accuracy_at_own"] > 0.5 and 0 < rows[file_name]["own_threshold"] < 1
