"""Fixtures that the tests of exports share."""

import json
import shutil

import pytest

import fv
from fv.serving.export import ExportOptions, export
from tests.serving import loading, making


@pytest.fixture(scope="session")
def model(exported):
    """The exported SavedModel, loaded."""
    return loading.load(str(exported))


@pytest.fixture(scope="session")
def verifier(exported):
    """A verifier on the same loaded model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tensorflow.saved_model.load", loading.load)
        return fv.Verifier(str(exported))


@pytest.fixture(scope="session")
def aligned_run(trained, make_once):
    """A trained run that says it was trained on aligned faces."""

    def copy(folder) -> None:
        shutil.copytree(trained.workdir, folder)
        _say_aligned(folder / "model.json")

    return make_once("aligned", copy)


def _say_aligned(path) -> None:
    """Says in a record that its images are aligned."""
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"preprocessing": making.ALIGNED.to_json()}))


@pytest.fixture(scope="session")
def aligned_version(aligned_run, shards, make_once):
    """The version folder of its export."""

    def run(output) -> None:
        data = shutil.copytree(shards, output / "shards")
        _say_aligned(data / "manifest.json")
        options = dict(tfrecords=str(data), merge_images=0)
        export(ExportOptions(workdir=str(aligned_run), output=str(output / "export"), **options))

    return make_once("aligned_export", run) / "export" / "1"
