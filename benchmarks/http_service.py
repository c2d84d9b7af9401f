"""Measures the HTTP service: load with each engine, and hostile requests.

    python -m benchmarks.http_service --model=export --images=lfw --json=FILE \\
        [--peer=/tmp/litserve/bin/python]

`load` asks the service with each engine, the same SavedModel in process, and a peer, in turn. The
ONNX engine and the peer need an export with `--formats=saved_model,onnx`. Callers run in processes
of their own, on the same cores as the servers.
"""

import base64
import contextlib
import dataclasses
import http.client
import itertools
import json
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures

import numpy as np
import psutil

from benchmarks import hostile_images, parts
from benchmarks.side_by_side import ports
from fv import cli
from fv.errors import UserError
from fv.options import option, required

PARTS = ("load", "soak", "fuzz")
CALLERS = (1, 4, 16, 64)
ENGINES = ("tensorflow", "onnx")
PEER = "benchmarks/side_by_side/litserve_peer.py"
PAIRS = 16
BOUNDARY = "b" * 20
TOLERANCE = 1e-5
FUZZERS = 8
SILENCE_S = 60.0
# One process of callers, so that they share no interpreter with what they ask.
CALL = "from benchmarks import http_service; http_service.call_server()"
CALL_PEER = "from benchmarks import http_service; http_service.call_peer()"
IN_PROCESS = "from benchmarks import http_service; http_service.call_in_process()"


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured, and on what."""

    model: str = required("folder that fv.export wrote")
    images: str = required("folder that holds one folder of JPEG images per person")
    parts: str = option(",".join(PARTS), f"Which parts to run, of {', '.join(PARTS)}, with commas.")
    seconds: float = option(5.0, "Of one round of load.", lower=0.5)
    soak: float = option(1800.0, "Seconds of load on each engine in `soak`.", lower=1.0)
    rounds: int = option(3, "Of load, in turn with the SavedModel in process.", lower=1)
    peer: str | None = option(
        None, "Python that has litserve, onnxruntime and pillow; no peer is measured without."
    )
    requests: int = option(10_000, "Hostile requests.", lower=1)
    seed: int = option(0, "Of the hostile requests.", lower=0)
    json: str | None = option(None, "File to write the figures to.")


def main(options: BenchmarkOptions) -> None:
    """Runs the parts one after the other."""
    measures = {"load": measure_load, "soak": measure_soak, "fuzz": measure_fuzz}
    parts.run(options.parts, PARTS, lambda part: measures[part](options), options.json)


@contextlib.contextmanager
def run_server(model: str, engine: str = ENGINES[0]) -> Iterator[tuple[int, psutil.Process]]:
    """Starts the service and yields its port and process."""
    command = [sys.executable, "-m", "fv.serve", f"--model={model}", "--port=0"]
    command.append(f"--engine={engine}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise UserError("the server did not start")
        yield int(line.rsplit(":", 1)[1]), psutil.Process(process.pid)
        process.terminate()


@contextlib.contextmanager
def run_peer(python: str, model: str) -> Iterator[int]:
    """Starts the peer, which takes the newest version, and yields its port."""
    (version,) = sorted(pathlib.Path(model).glob("[0-9]*"))[-1:]
    (port,) = ports.free_ports(1)
    command = [python, PEER, str(port), str(version / "formats" / "encoder.onnx")]
    with subprocess.Popen(command) as process:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None:
                raise UserError("the peer did not start")
            time.sleep(0.1)
        try:
            yield port
        finally:
            parent = psutil.Process(process.pid)
            for each in [*parent.children(recursive=True), parent]:
                each.kill()


def form(image_a: bytes, image_b: bytes) -> bytes:
    """Returns the body of a request to /verify."""
    body = b""
    for name, image in (("a", image_a), ("b", image_b)):
        head = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="x"\r\n\r\n'
        )
        body += head.encode() + image + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


FORM_TYPE = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


# Part `load`.


def measure_load(options: BenchmarkOptions) -> dict:
    """Returns pairs/s and latency by callers and server, medians over rounds."""
    taken: dict[tuple[str, int], list[dict]] = {}
    with contextlib.ExitStack() as stack:
        targets = []
        for engine in ENGINES:
            port, _ = stack.enter_context(run_server(options.model, engine))
            targets.append((f"HTTP, {engine}", CALL, str(port)))
        if options.peer:
            port = stack.enter_context(run_peer(options.peer, options.model))
            targets.append(("LitServe", CALL_PEER, str(port)))
        targets.append(("in process", IN_PROCESS, options.model))
        for _ in range(options.rounds):
            for callers, (where, code, target) in itertools.product(CALLERS, targets):
                given = [target, options.images, str(callers), str(options.seconds)]
                command = [sys.executable, "-c", code, *given]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                taken.setdefault((where, callers), []).append(json.loads(done.stdout))
    return {
        f"{callers} callers, {where}": {
            key: round(float(np.median([one[key] for one in rows])), 2) for key in rows[0]
        }
        for (where, callers), rows in taken.items()
    }


def call_server() -> None:
    """Runs callers of the service on a port, and prints the figures."""
    _call_port("/verify", lambda pair: form(*pair), FORM_TYPE)


def call_peer() -> None:
    """Runs callers of the peer on a port, and prints the figures."""

    def encode(pair: tuple[bytes, bytes]) -> bytes:
        images = zip("ab", pair, strict=True)
        return json.dumps({name: base64.b64encode(i).decode() for name, i in images}).encode()

    _call_port("/predict", encode, {"Content-Type": "application/json"})


def _call_port(path: str, encode: Callable, headers: dict[str, str]) -> None:
    port, images, callers, seconds = sys.argv[1:]
    pairs = _pairs(images)
    local = threading.local()

    def ask(index: int) -> None:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection("127.0.0.1", int(port))
        local.connection.request("POST", path, encode(pairs[index % PAIRS]), headers)
        response = local.connection.getresponse()
        response.read()
        assert response.status == 200, response.status

    _call(ask, int(callers), float(seconds))


def call_in_process() -> None:
    """Runs callers of the SavedModel in this process, and prints the figures."""
    from fv import quiet_tensorflow  # noqa: F401
    from fv.serving.engine import TensorFlowEngine

    model, images, callers, seconds = sys.argv[1:]
    engine, pairs = TensorFlowEngine(model), _pairs(images)
    engine.warm_up()

    def ask(index: int) -> None:
        first, second = pairs[index % PAIRS]
        engine.run("serving_default", {"image_a": [first], "image_b": [second]})

    _call(ask, int(callers), float(seconds))


def _pairs(folder: str) -> list[tuple[bytes, bytes]]:
    images = parts.read_images(folder, 2 * PAIRS)
    return list(zip(images[::2], images[1::2], strict=True))


def _call(ask, callers: int, seconds: float) -> None:
    counter, latencies = itertools.count(), []
    for _ in range(3):
        ask(0)
    begun = time.perf_counter()

    def loop() -> None:
        while (start := time.perf_counter()) < begun + seconds:
            ask(next(counter))
            latencies.append(time.perf_counter() - start)

    with futures.ThreadPoolExecutor(callers) as pool:
        for one in [pool.submit(loop) for _ in range(callers)]:
            one.result()
    taken = time.perf_counter() - begun
    p50, p99 = np.percentile(latencies, (50, 99)) * 1e3
    print(json.dumps({"pairs_per_second": len(latencies) / taken, "p50_ms": p50, "p99_ms": p99}))


# Part `soak`.


def measure_soak(options: BenchmarkOptions) -> dict:
    """Returns the memory of the service, MB, at eleven times of a long saturating load."""
    found = {}
    for engine in ENGINES:
        with run_server(options.model, engine) as (port, process):
            given = [str(port), options.images, str(CALLERS[-1]), str(options.soak)]
            calling = subprocess.Popen(
                [sys.executable, "-c", CALL, *given], stdout=subprocess.PIPE, text=True
            )
            memory = []
            for _ in range(11):
                tree = [process, *process.children(recursive=True)]
                memory.append(sum(each.memory_full_info().uss for each in tree) >> 20)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    calling.wait(options.soak / 10)
            figures = json.loads(calling.communicate()[0])
            found[engine] = {"memory_mb": memory, **figures}
    return found


# Part `fuzz`.


def measure_fuzz(options: BenchmarkOptions) -> dict:
    """Returns the statuses of hostile requests, and what became of valid ones beside them."""
    images = parts.read_images(options.images, 12)
    with run_server(options.model) as (port, process):
        wanted = _ask_valid(port, images)
        counts: dict[str, int] = {}
        valid: list[float] = []
        stop = threading.Event()

        def ask_valid() -> None:
            while not stop.is_set():
                valid.append(abs(_ask_valid(port, images) - wanted))

        requests = _hostile_requests(images, options.requests, options.seed)
        lock = threading.Lock()

        def fuzz() -> None:
            while True:
                with lock:
                    request = next(requests, None)
                if request is None:
                    return
                status = _send(port, *request)
                with lock:
                    counts[status] = counts.get(status, 0) + 1

        memory = [process.memory_info().rss >> 20]
        with futures.ThreadPoolExecutor(FUZZERS + 1) as pool:
            asking = pool.submit(ask_valid)
            for one in [pool.submit(fuzz) for _ in range(FUZZERS)]:
                one.result()
            stop.set()
            asking.result()
        memory.append(process.memory_info().rss >> 20)
    wrong = int(np.sum(np.array(valid) > TOLERANCE))
    counts = dict(sorted(counts.items()))
    return {"statuses": counts, "valid": len(valid), "wrong": wrong, "memory_mb": memory}


def _ask_valid(port: int, images: list[bytes]) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SILENCE_S)
    connection.request("POST", "/verify", form(*images[:2]), FORM_TYPE)
    answer = json.load(connection.getresponse())
    connection.close()
    return answer["similarity"]


def _hostile_requests(
    images: list[bytes], count: int, seed: int
) -> Iterator[tuple[bytes, bool, bool]]:
    """Yields bytes to send, whether slowly, and whether to end the connection's writing side."""
    rng = np.random.default_rng(seed)
    good = images[0]
    rows = {"signature_name": "embed", "instances": [{"b64": "aGFsbG8="}, [1.5, None], "é"]}
    bodies = [json.dumps(rows).encode(), json.dumps({"inputs": {"image_a": [[[]]]}}).encode()]
    mutants = zip(
        hostile_images.mutate(images, count, seed),
        hostile_images.mutate([form(good, good)], count, seed),
        hostile_images.mutate(bodies, count, seed),
        strict=True,
    )
    for image, multipart, text in mutants:
        kind = rng.integers(6)
        chunked = kind == 4
        if kind in (0, 4):
            path, body = "/verify", form(good, image)
        elif kind == 1:
            path, body = "/verify", multipart
        else:
            path, body = "/v1/models/fv:predict", text
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += f"Content-Type: {FORM_TYPE['Content-Type']}\r\n"
        if chunked:
            size = max(0, len(body) + int(rng.integers(-3, 4)))
            data = f"{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n".encode()
            data += body + b"\r\n0\r\n\r\n"
        else:
            data = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        if kind == 3:
            heads = list(hostile_images.mutate([data[: data.index(b"\r\n\r\n") + 4]], 1, seed))
            data = heads[0] + body
        yield data, kind == 5 and rng.integers(20) == 0, bool(rng.integers(10) == 0)


def _send(port: int, data: bytes, slow: bool, half_close: bool) -> str:
    """Sends one request and returns the status, or that the connection was closed without one."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as sent:
        sent.settimeout(2.0)  # of what waits for the rest of a request
        with contextlib.suppress(OSError):
            if slow:
                for start in range(0, 20):
                    sent.sendall(data[start : start + 1])
                    time.sleep(0.02)
                data = data[20:]
            sent.sendall(data)
            if half_close:
                sent.shutdown(socket.SHUT_WR)
        answer = sent.recv(100)
        return answer[9:12].decode("latin-1") or "closed"
    return "closed"


if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
