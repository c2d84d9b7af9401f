"""The HTTP service, asked over real connections."""

import base64
import concurrent.futures
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import requests
from prometheus_client import parser

uvicorn = pytest.importorskip("uvicorn", reason="pip install 'fv[serve]'")

from fv.errors import UserError  # noqa: E402
from fv.serve import ServeOptions, serve  # noqa: E402
from fv.serving import engine, limits, served_model, server  # noqa: E402
from fv.serving.contract import InputError  # noqa: E402
from fv.serving.limits import Limits, Monitor  # noqa: E402
from tests import samples, waiting  # noqa: E402
from tests.serving import loading, making  # noqa: E402

GOOD, OTHER = samples.image_bytes(12, 0), samples.image_bytes(13, 0)
PREDICT = "/v1/models/fv:predict"
TOKEN = "t" * 32


@pytest.fixture(autouse=True, scope="module")
def poll_often():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "_POLL_SECONDS", 0.05)
        yield


class Running:
    """A service in a thread of this process."""

    def __init__(self, model: served_model.ServedModel, monitor: Monitor, bounds: Limits):
        app = server.make_app(model, monitor, bounds, max_images=8)
        self.model = model
        self._socket = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, http=limits.TimedProtocol, ws="none", log_config=None)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._thread.start()
        waiting.until(lambda: self._server.started)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def post(self, path: str, **given) -> requests.Response:
        return requests.post(self.url + path, timeout=30, **given)

    def get(self, path: str, **given) -> requests.Response:
        return requests.get(self.url + path, timeout=30, **given)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def load():
    """Makes engines that share one loaded model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tensorflow.saved_model.load", loading.load)
        yield engine.TensorFlowEngine


@pytest.fixture
def start(exported, load):
    """Starts services with other limits."""
    running = []

    def begin(bounds: Limits | None = None, folder=exported, load=load) -> Running:
        monitor = Monitor()
        model = served_model.ServedModel(str(folder), load, monitor)
        running.append(Running(model, monitor, bounds or Limits(200_000, 64, 20.0)))
        return running[-1]

    yield begin
    for service in running:
        service.stop()


@pytest.fixture(scope="module")
def service(exported, load):
    monitor = Monitor()
    model = served_model.ServedModel(str(exported), load, monitor)
    running = Running(model, monitor, Limits(200_000, 64, 20.0))
    yield running
    running.stop()


def b64(image: bytes) -> dict:
    return {"b64": base64.b64encode(image).decode()}


class Held:
    """An engine whose answers wait for `release`."""

    def __init__(self, path: str):
        self.path, self.card, self.threshold, self.embedding_size = path, {}, 0.5, 2
        self.release, self.calls = threading.Event(), []

    def run(self, signature, inputs):
        images = inputs["image"]
        self.calls.append(len(images))
        assert self.release.wait(20)
        bad = [place for place, image in enumerate(images) if image == b"bad"]
        if bad:
            raise InputError(f"image[{bad[0]}] is empty")
        return {"embedding": np.array([[len(image), 0] for image in images], np.float32)}


def test_rows_and_columns_get_the_answers_of_the_verifier(service, verifier):
    wanted = verifier.verify(GOOD, OTHER)
    rows = {"instances": [{"image_a": b64(GOOD), "image_b": b64(OTHER)}] * 2}
    (first, second) = service.post(PREDICT, json=rows).json()["predictions"]
    assert first == second and set(first) == {"similarity", "probability", "distance", "same"}
    assert first["similarity"] == pytest.approx(wanted.similarity, abs=1e-6)
    columns = {"inputs": {"image_a": [b64(GOOD)], "image_b": [b64(OTHER)]}}
    outputs = service.post("/v1/models/fv/versions/1:predict", json=columns).json()["outputs"]
    assert outputs["same"] == [wanted.same]


def test_every_signature_answers_and_a_single_argument_needs_no_name(service, verifier):
    named = {"signature_name": "embed", "instances": [{"image": b64(GOOD)}]}
    unnamed = {"signature_name": "embed", "instances": [b64(GOOD)]}
    (embedding,) = service.post(PREDICT, json=named).json()["predictions"]
    assert service.post(PREDICT, json=unnamed).json()["predictions"] == [embedding]
    np.testing.assert_allclose(embedding, verifier.embed(GOOD), atol=1e-6)
    pixels = {"signature_name": "embed_pixels", "inputs": np.asarray(making.picture())[None]}
    pixels["inputs"] = pixels["inputs"].tolist()
    assert np.shape(service.post(PREDICT, json=pixels).json()["outputs"]) == (1, 16)
    pair = {"embedding_a": [embedding], "embedding_b": [embedding]}
    compared = service.post(PREDICT, json={"signature_name": "compare", "inputs": pair}).json()
    assert compared["outputs"]["same"] == [True]
    nothing = {"signature_name": "embed", "inputs": []}
    assert service.post(PREDICT, json=nothing).json() == {"outputs": []}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        # The texts of TensorFlow Serving's json_tensor.cc.
        (b"", "JSON Parse error: The document is empty"),
        (b"no json", "JSON Parse error: Expecting value at offset: 0"),
        (b'{"instances": "\xff"}', "JSON Parse error: Invalid encoding in string. at offset: 15"),
        (b"[" * 100_000, "JSON Parse error"),
        (b"[]", "JSON Value: [] Is not object"),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        (
            b'{"instances": [], "inputs": []}',
            '"inputs": []} Not formatted correctly expecting only one '
            "of 'inputs' or 'instances' keys to exist ",
        ),
        (b'{"instances": {}}', "{}} Expecting 'instances' to be an list/array"),
        (b'{"instances": []}', "JSON Value: {\"instances\": []} No values in 'instances' array"),
        (b'{"signature_name": 1}', "'signature_name' key must be a string value."),
        (
            b'{"signature_name": "x", "inputs": []}',
            'Serving signature name: "x" not found in signature def',
        ),
        (
            b'{"instances": ["x"]}',
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map",
        ),
        (
            b'{"inputs": ["x"]}',
            "inputs is a plain value/list, but expecting an object as multiple input tensors "
            "required as per tensorinfo_map",
        ),
        (
            b'{"instances": [{"image_a": "x"}]}',
            'Failed to process element: 0 of \'instances\' list. JSON object: {"image_a": "x"} '
            "keys must be equal to: image_a,image_b",
        ),
        (
            b'{"instances": [{"image_a": "x", "image": "x"}]}',
            "Failed to process element: 0 key: image of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON object: does not have named input: image",
        ),
        (
            b'{"signature_name": "embed", "instances": ["x", {"image": "x"}]}',
            "Expecting value/list but got object at item 1 of input list",
        ),
        (
            b'{"signature_name": "embed", "instances": [{"image": "x"}, "x"]}',
            "Expecting object but got list at item 1 of input list",
        ),
        (
            b'{"inputs": {"image_a": ["x"]}}',
            "Missing named input: image_b in 'inputs' object.",
        ),
        (b'{"signature_name": "embed", "inputs": [{"b64": "?"}]}', "Unable to base64 decode"),
        (
            b'{"signature_name": "embed", "instances": [{"image": {"b64": "?"}}]}',
            "Failed to process element: 0 key: image of 'instances' list. Error: INVALID_ARGUMENT: "
            "Unable to base64 decode",
        ),
        (
            b'{"signature_name": "embed", "inputs": [true]}',
            "JSON Value: true Type: True is not of expected type: string",
        ),
        (
            b'{"signature_name": "embed", "inputs": [{"b64": 1}]}',
            'JSON Value: {"b64": 1} not formatted correctly for base64 data',
        ),
        (b'{"signature_name": "embed", "inputs": [""]}', "image[0] is empty"),
        (b'{"signature_name": "embed", "inputs": "x"}', "image is no batch"),
        (b'{"signature_name": "embed_pixels", "inputs": [[[[1, 2, 256]]]]}', "outside 0 to 255"),
        (b'{"signature_name": "embed_pixels", "inputs": [[[[1, 2], [3]]]]}', "is no array"),
        (
            b'{"signature_name": "compare", "inputs": {"embedding_a": [[1]], "embedding_b": []}}',
            "has the shape [1, 1]",
        ),
    ],
)
def test_a_bad_request_gets_an_error_in_tensorflow_servings_form(service, body, said):
    answer = service.post(PREDICT, data=body)
    assert answer.status_code == 400 and list(answer.json()) == ["error"]
    assert said in answer.json()["error"]


def test_status_and_metadata_have_tensorflow_servings_form(service):
    for path in ("/v1/models/fv", "/v1/models/fv/versions/1"):
        (status,) = service.get(path).json()["model_version_status"]
        assert (status["version"], status["state"]) == ("1", "AVAILABLE")
    metadata = service.get("/v1/models/fv/metadata").json()
    assert metadata["model_spec"]["version"] == "1"
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert signatures["embed"]["inputs"]["image"]["dtype"] == "DT_STRING"
    for path, said in (
        ("other", "Could not find any versions of model other"),
        ("fv/versions/7", "Could not find version 7 of model fv"),
        ("other/metadata", "Servable not found for request: Latest(other)"),
        ("fv/versions/7/metadata", "Servable not found for request: Specific(fv, 7)"),
    ):
        missing = service.get(f"/v1/models/{path}")
        assert (missing.status_code, missing.json()) == (404, {"error": said})
    assert "Malformed request" in service.post("/v1/models/fv:train").json()["error"]


def test_files_of_a_form_are_compared_and_embedded(service, verifier):
    answer = service.post("/verify", files={"a": GOOD, "b": OTHER}).json()
    wanted = verifier.verify(GOOD, OTHER)
    assert answer["similarity"] == pytest.approx(wanted.similarity, abs=1e-6)
    assert (answer["same"], answer["model_version"]) == (wanted.same, "1")
    webp = making.encode(making.picture(), "WEBP")
    files = [("image", ("a.webp", webp)), ("image", ("b.jpg", GOOD))]
    assert np.shape(service.post("/embed", files=files).json()["embeddings"]) == (2, 16)


def test_a_bad_file_is_named_as_the_form_names_it(service):
    for bad, said in ((b"", "b is empty"), (GOOD[:400], "b is no whole JPEG"), (b"x", "b cannot")):
        answer = service.post("/verify", files={"a": GOOD, "b": ("b.jpg", bad)})
        assert answer.status_code == 400 and answer.json()["error"].startswith(said)
    assert service.post("/verify", files={"a": GOOD}).status_code == 400
    assert service.post("/verify", data=b"x").status_code == 415


def test_concurrent_callers_get_their_own_answers_beside_bad_images(service, verifier):
    images = [samples.image_bytes(identity, 0) for identity in range(12, 18)]
    wanted = [verifier.verify(GOOD, image).similarity for image in images]

    def ask(index: int) -> float:
        if index % 4 == 0:
            answer = service.post("/verify", files={"a": GOOD, "b": GOOD[:400]})
            assert answer.json() == {"error": answer.json()["error"]}
            assert answer.json()["error"].startswith("b is no whole JPEG")
            return 0.0
        answer = service.post("/verify", files={"a": GOOD, "b": images[index % 6]})
        return abs(answer.json()["similarity"] - wanted[index % 6])

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert max(pool.map(ask, range(72))) < 1e-5


def test_waiting_requests_share_a_call_and_a_bad_one_fails_alone(start, exported):
    held = Held(str(exported))
    service = start(load=lambda path: held)

    def ask(image: bytes) -> dict:
        return service.post(
            PREDICT, json={"signature_name": "embed", "inputs": [b64(image)]}
        ).json()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        first = [pool.submit(ask, b"x" * length) for length in (1, 2)]
        waiting.until(lambda: len(held.calls) == 2)
        lengths = (3, 4, 5)
        rest = [pool.submit(ask, b"x" * length) for length in lengths]
        bad = pool.submit(ask, b"bad")
        waiting.until(lambda: "at_work 6.0" in service.get("/metrics").text)
        held.release.set()
        assert [one.result()["outputs"][0][0] for one in [*first, *rest]] == [1, 2, *lengths]
        assert bad.result() == {"error": "image[0] is empty"}
    assert max(held.calls) > 1


def test_requests_beyond_the_queue_are_told_to_come_back(start, exported):
    held = Held(str(exported))
    service = start(Limits(200_000, 2, 20.0), load=lambda path: held)
    body = {"signature_name": "embed", "inputs": [b64(GOOD)]}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = [pool.submit(service.post, PREDICT, json=body) for _ in range(2)]
        waiting.until(lambda: "at_work 2.0" in service.get("/metrics").text)
        refused = service.post(PREDICT, json=body)
        held.release.set()
        assert [one.result().status_code for one in first] == [200, 200]
    assert refused.status_code == 429 and refused.headers["retry-after"] == "1"


def test_a_slow_answer_and_a_slow_body_end_at_the_time_limit(start, exported):
    held = Held(str(exported))
    service = start(Limits(200_000, 8, 0.5), load=lambda path: held)
    answer = service.post(PREDICT, json={"signature_name": "embed", "inputs": [b64(GOOD)]})
    held.release.set()
    assert answer.status_code == 504
    with socket.create_connection(("127.0.0.1", service.port)) as slow:
        slow.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx".encode())
        assert b"408" in slow.recv(1000)


def test_a_connection_without_a_request_is_closed(start, monkeypatch):
    monkeypatch.setattr(limits, "_HEAD_SECONDS", 0.2)
    service = start()
    with socket.create_connection(("127.0.0.1", service.port)) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        slow.settimeout(20)
        assert slow.recv(1000) == b""


def test_large_bodies_and_too_many_images_are_refused(service):
    def chunks():
        yield from [b"x" * 50_000] * 10

    announced = service.post(PREDICT, data=b"x" * 300_000)
    streamed = service.post(PREDICT, data=chunks())
    many = service.post(PREDICT, json={"signature_name": "embed", "inputs": [b64(b"x")] * 9})
    assert [one.status_code for one in (announced, streamed, many)] == [413] * 3
    assert "at most 8" in many.json()["error"]


def test_a_token_is_needed_where_one_is_set_and_probes_need_none(start, tmp_path):
    service = start(Limits(200_000, 8, 20.0, TOKEN))
    assert service.get("/v1/models/fv").status_code == 401
    for wrong in ("Bearer x", f"Basic {TOKEN}", "Bearer é"):
        headers = {"Authorization": wrong.encode()}
        assert service.get("/v1/models/fv", headers=headers).status_code == 401
    assert service.get("/v1/models/fv", headers={"Authorization": f"Bearer {TOKEN}"}).ok
    assert service.get("/healthz").ok and service.get("/readyz").ok
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert limits.read_token(str(path)) == TOKEN
    path.write_text("short")
    with pytest.raises(UserError, match="holds no token"):
        limits.read_token(str(path))


def test_metrics_count_the_requests_that_were_sent(start):
    service = start()
    for _ in range(3):
        service.post("/verify", files={"a": GOOD, "b": OTHER})
    service.post("/verify", files={"a": GOOD, "b": ("b", b"")})
    service.get("/nothing")
    families = parser.text_string_to_metric_families(service.get("/metrics").text)
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }
    assert values["fv_requests_total", "verify", "200"] == 3
    assert values["fv_requests_total", "verify", "400"] == 1
    assert values["fv_requests_total", "other", "404"] == 1
    assert values["fv_refused_inputs_total", "empty"] == 1
    assert values[("fv_model_version",)] == 1 and values[("fv_batch_images_sum",)] == 8


def test_the_page_allows_no_foreign_resource(service):
    page = service.get("/")
    assert page.ok and "default-src 'none'" in page.headers["content-security-policy"]
    assert service.get("/page/page.js").ok and service.get("/page/style.css").ok
    assert service.get("/page/..%2fserver.py").status_code == 404
    for path in server.PAGE.iterdir():
        assert "://" not in path.read_text(encoding="utf-8")


def copy_version(exported: pathlib.Path, folder: pathlib.Path, version: int) -> pathlib.Path:
    """Adds a version to a folder as an operator would: copied beside it, then renamed."""
    made = shutil.copytree(exported, folder / f".{version}")
    return made.rename(folder / str(version))


@pytest.mark.slow
def test_a_new_version_answers_without_a_lost_request(start, exported, tmp_path):
    copy_version(exported, tmp_path, 1)
    service = start(folder=tmp_path)
    seen, stop = [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answer = service.post("/verify", files={"a": GOOD, "b": OTHER})
            seen.append((answer.status_code, answer.json().get("model_version")))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            waiting.until(lambda: len(seen) > 8)
            copy_version(exported, tmp_path, 10)
            waiting.until(lambda: (200, "10") in seen)
        finally:  # else a failure would wait for the callers
            stop.set()
        assert all(one.result() is None for one in asking)
    assert set(seen) == {(200, "1"), (200, "10")}
    assert service.get("/v1/models/fv/versions/1").status_code == 404


@pytest.mark.slow
def test_an_invalid_version_is_refused_until_it_is_mended(start, exported, tmp_path):
    copy_version(exported, tmp_path, 1)
    service = start(folder=tmp_path)
    bad = copy_version(exported, tmp_path, 2)
    (bad / "SHA256SUMS").write_text("damaged")
    waiting.until(lambda: 'outcome="refused"} 1.0' in service.get("/metrics").text)
    assert service.get("/model").json()["version"] == "1"
    assert service.post("/verify", files={"a": GOOD, "b": OTHER}).json()["model_version"] == "1"
    shutil.copy(exported / "SHA256SUMS", bad)
    waiting.until(lambda: service.get("/model").json()["version"] == "2")


def test_a_folder_starts_with_its_highest_valid_version(exported, load, tmp_path):
    copy_version(exported, tmp_path, 1)
    (tmp_path / "3").mkdir()
    model = served_model.ServedModel(str(tmp_path), load, Monitor())
    assert model.current.version == "1"
    with pytest.raises(UserError, match="holds no SavedModel"):
        served_model.ServedModel(str(tmp_path / "3"), load, Monitor())


def test_an_address_in_use_is_reported_in_one_line(exported):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port={port}: Address already in use"):
            serve(ServeOptions(model=str(exported), port=port))


@pytest.mark.slow
def test_sigterm_lets_a_running_request_end(exported, tmp_path):
    command = [sys.executable, "-m", "fv.serve", f"--model={exported}", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().split()[-1]
        host, port = url.removeprefix("http://").split(":")
        body = json.dumps({"signature_name": "embed", "inputs": [b64(GOOD)]}).encode()
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[:-1])
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            connection.sendall(body[-1:])
            assert b"200 OK" in connection.recv(1000)
        assert process.wait(30) == 0
