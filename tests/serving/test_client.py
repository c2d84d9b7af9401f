import subprocess
import sys
import urllib.request

import numpy as np
import pytest

import fv
from fv.errors import TemporaryError, UserError
from tests import samples
from tests.serving import making

pytest.importorskip("uvicorn", reason="pip install 'fv[serve]'")

from fv.serving import served_model
from fv.serving.limits import Limits, Monitor
from tests.serving.test_server import Running, load  # noqa: F401

GOOD, OTHER = samples.image_bytes(12, 0), samples.image_bytes(13, 0)
TOKEN = "t" * 32


@pytest.fixture(scope="module")
def service(exported, load):  # noqa: F811
    monitor = Monitor()
    model = served_model.ServedModel(str(exported), load, monitor)
    running = Running(model, monitor, Limits(200_000, 8, 20.0, TOKEN))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(service):
    return fv.Client(service.url, token=TOKEN)


def test_a_client_answers_as_the_verifier(client, verifier, tmp_path):
    picture = making.picture()
    path = tmp_path / "a.webp"
    path.write_bytes(making.encode(picture, "WEBP"))
    for pair in ((GOOD, OTHER), (str(path), picture), (np.asarray(picture), GOOD)):
        found, wanted = client.verify(*pair), verifier.verify(*pair)
        assert found.similarity == pytest.approx(wanted.similarity, abs=1e-6)
        assert (found.same, found.threshold) == (wanted.same, wanted.threshold)
    embeddings = client.embed([GOOD, OTHER])
    np.testing.assert_allclose(embeddings, verifier.embed([GOOD, OTHER]), atol=1e-6)
    assert client.compare(*embeddings, threshold=0.0).same
    assert len(client.verify([GOOD, OTHER], [OTHER, GOOD])) == 2


def test_errors_of_the_server_name_the_image_of_the_caller(client, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(GOOD[:400])
    with pytest.raises(UserError, match=r"broken\.jpg is no whole JPEG"):
        client.verify(GOOD, broken)
    with pytest.raises(UserError, match=r"at most 8 are taken \(status 413\)"):
        client.embed([GOOD] * 9)


def test_what_is_no_server_is_reported_in_one_line(service):
    with pytest.raises(UserError, match=r"a bearer token is needed \(status 401\)"):
        fv.Client(service.url)
    with pytest.raises(UserError, match="export is no URL"):
        fv.Client("export")
    with pytest.raises(TemporaryError, match="does not answer"):
        fv.Client("http://127.0.0.1:9")
    assert urllib.request.urlopen(service.url).status == 200


def test_a_client_imports_no_tensorflow():
    code = "import sys, fv; fv.Client; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
