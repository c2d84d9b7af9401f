"""Fixtures that the tests of exports share."""

import pytest

import fv
from tests.serving import loading


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
