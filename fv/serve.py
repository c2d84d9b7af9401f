"""Serves an export over HTTP: python -m fv.serve --model=export

It has TensorFlow Serving's REST API at /v1/models/fv, takes files at /verify and /embed, and shows
a web page at /.
"""

import dataclasses
import logging
import signal
import socket
import sys
import typing

from fv import cli, quiet_tensorflow, workers  # noqa: F401  TensorFlow first, without its noise
from fv.errors import UserError
from fv.options import group, option, required
from fv.serving.contract import Engine
from fv.serving.engine import (
    ENGINES,
    TENSORFLOW,
    TensorFlowEngine,
    load_engine,
    share_cores_by_image,
)
from fv.serving.image_inputs import FinderOptions

if typing.TYPE_CHECKING:
    from starlette.applications import Starlette

_LOOPBACK = ("127.", "localhost", "::1")
_MOST_CONNECTIONS = 1000
_BACKLOG = 1024
_EXTRA = ("starlette", "uvicorn", "prometheus_client", "python_multipart")
_QUIET_LOGGERS = ("python_multipart", "uvicorn")  # a line for each broken request, with its bytes
_BYTES_PER_MEGABYTE = 1_000_000


@dataclasses.dataclass(frozen=True)
class ServeOptions:
    """What is served, where, and what a client may take."""

    model: str = required(
        "folder of versions that fv.export wrote, whose highest valid version answers, also one "
        "that is added later; or one version folder."
    )
    engine: str = option(
        TENSORFLOW,
        "What runs the network: tensorflow, or onnx on an export with --formats=saved_model,onnx, "
        "in a process for each core.",
        choices=ENGINES,
    )
    faces: FinderOptions = group(FinderOptions)
    host: str = option("127.0.0.1", "Address to listen on; 0.0.0.0 for all, behind a proxy.")
    port: int = option(8501, "Port; 0 takes a free one.", lower=0, upper=65535)
    token_file: str | None = option(
        None, "File with a bearer token that every request for an answer must carry."
    )
    max_body_mb: float = option(64.0, "Largest body of a request, in megabytes.", lower=0.001)
    max_images: int = option(64, "Images or embeddings in one request.", lower=2)
    max_requests: int = option(
        128, "Requests that wait or run at once; more get status 429.", lower=1
    )
    timeout_s: float = option(30.0, "Seconds that a request may take, body included.", lower=0.1)


def make_app(options: ServeOptions) -> "Starlette":
    """Loads the model and returns the service as an ASGI application, for any ASGI server.

    `app.state.model` is what answers.

    Raises:
      UserError: no version is valid, the token cannot be read, or the extra is not installed.
    """
    try:
        from fv.serving import limits, served_model, server
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise UserError(f"{error.name} is not installed: pip install 'fv[serve]'") from error

    def load(path: str) -> Engine:
        loaded = load_engine(path, options.engine, workers.available_cores())
        if isinstance(loaded, TensorFlowEngine):
            loaded.warm_up()
        return loaded

    share_cores_by_image()
    token = limits.read_token(options.token_file) if options.token_file else None
    body_bytes = round(options.max_body_mb * _BYTES_PER_MEGABYTE)
    bounds = limits.Limits(body_bytes, options.max_requests, options.timeout_s, token)
    monitor = limits.Monitor()
    model = served_model.ServedModel(options.model, load, monitor, options.faces)
    app = server.make_app(model, monitor, bounds, options.max_images)
    app.state.model = model
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    return app


def serve(options: ServeOptions) -> None:
    """Serves until SIGTERM or Ctrl-C; requests that run then are answered first.

    Raises:
      UserError: the address cannot be used, or what `make_app` raises.
    """
    listening = _listen(options)
    app = make_app(options)
    import uvicorn

    from fv.serving import limits

    config = uvicorn.Config(
        app,
        http=limits.TimedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=max(1, round(options.timeout_s)),
    )
    host, port = listening.getsockname()[:2]
    if not options.host.startswith(_LOOPBACK) and options.token_file is None:
        print(
            f"fv: warning: every machine that reaches {host}:{port} gets answers: give a "
            "--token_file, or a proxy that lets in whom it should",
            file=sys.stderr,
        )
    shown = f"[{host}]" if ":" in host else host
    print(f"{app.state.model.current.engine.path} answers at http://{shown}:{port}", flush=True)
    # uvicorn drains at SIGTERM and raises it again after that, to end the process by it.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    uvicorn.Server(config).run(sockets=[listening])


def _listen(options: ServeOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        address = options.host, options.port
        listening = socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot listen on --host={options.host} --port={options.port}: {reason}"
        ) from error
    # Connections inherit it. asyncio sets it only on sockets with an explicit protocol, and without
    # it an answer waits 40 ms for the client's acknowledgement of its head.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def run() -> None:
    """The console script."""
    cli.run(serve, ServeOptions, description=__doc__)


if __name__ == "__main__":
    run()
