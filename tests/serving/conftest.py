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
        fields = json.loads((folder / "model.json").read_text())
        fields["preprocessing"] = making.ALIGNED.to_json()
        (folder / "model.json").write_text(json.dumps(fields))

    return make_once("aligned", copy)


@pytest.fixture(scope="session")
def aligned_version(aligned_run, make_once):
    """The version folder of its export."""

    def run(output) -> None:
        export(ExportOptions(workdir=str(aligned_run), output=str(output), merge_images=0))

    return make_once("aligned_export", run) / "1"
