"""Limits on what a client may take (bytes, time, requests at once), the token, and the metrics."""

import asyncio
import dataclasses
import hmac
import os
import re
import time
import traceback

import prometheus_client as prometheus
from absl import logging
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http import h11_impl

from fv.errors import UserError

_OPEN = ("healthz", "readyz", "page")  # endpoints that need no token and tell nothing
_MOST_PENDING_BYTES = 512 << 20  # bodies of all requests together
_HEAD_SECONDS = 10.0  # from the first byte, or the connection, to the end of a request's head
_RETRY_SECONDS = "1"
_LEAST_TOKEN = 16  # characters

# Of the metrics.
_ENDPOINTS = ("verify", "embed", "model", "healthz", "readyz", "metrics")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)
# What an InputError says, in order, and the label that counts it.
_REASONS = (
    ("no_face", re.compile(r"shows no face")),
    ("empty", re.compile(r"is empty")),
    ("too_large", re.compile(r"pixels, more")),
    ("format", re.compile(r"is no JPEG|is a BMP of|is a compressed BMP|not an image|CMYK")),
    ("damaged", re.compile(r"is no whole|damaged|more than \d+ scans|has \d+ x \d+ pixels")),
)
_OTHER = "other"


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a client may take.

    Attributes:
      body_bytes: largest body of a request.
      requests: requests for answers that may wait or run at once.
      seconds: from the head of a request to the end of its answer.
      token: that requests have to carry; None for any request.
    """

    body_bytes: int
    requests: int
    seconds: float
    token: str | None = None


def read_token(path: str) -> str:
    """Reads a bearer token, the only line of a file.

    Raises:
      UserError: there is none, or it is easily guessed or no header value.
    """
    try:
        with open(path, encoding="utf-8") as file:
            token = file.read().strip()
    except UnicodeDecodeError as error:
        raise UserError(f"--token_file={path} is not a text file") from error
    if len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(
            f"--token_file={path} holds no token: write one line of at least {_LEAST_TOKEN} "
            "printable characters, as in: openssl rand -hex 32"
        )
    return token


class Monitor:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "fv_requests", "Requests, by endpoint and status.", ["endpoint", "status"],
            registry=registry,
        )  # fmt: skip
        self.seconds = prometheus.Histogram(
            "fv_request_seconds", "Time from the head of a request to the end of its answer.",
            ["endpoint"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.at_work = prometheus.Gauge(
            "fv_requests_at_work", "Requests for answers that wait or run.", registry=registry
        )
        self.batch_images = prometheus.Histogram(
            "fv_batch_images", "Images or embeddings of a call of the model.",
            buckets=_IMAGES, registry=registry,
        )  # fmt: skip
        self.refused = prometheus.Counter(
            "fv_refused_inputs", "Requests with an image or a body that was refused, by reason.",
            ["reason"], registry=registry,
        )  # fmt: skip
        self.version = prometheus.Gauge(
            "fv_model_version", "Version that answers.", registry=registry
        )
        self.updates = prometheus.Counter(
            "fv_model_updates", "Versions found in the model's folder, by outcome.",
            ["outcome"], registry=registry,
        )  # fmt: skip
        for outcome in ("loaded", "refused"):
            self.updates.labels(outcome)

    def count_refusal(self, message: str) -> None:
        """Counts a refused request by what its error says."""
        found = (label for label, pattern in _REASONS if pattern.search(message))
        self.refused.labels(next(found, _OTHER)).inc()

    def text(self) -> bytes:
        """Returns the metrics in Prometheus' text format."""
        return prometheus.generate_latest(self.registry)


def _name_endpoint(path: str) -> str:
    """The endpoint of a path, one of a few names whatever a client sends."""
    if path.startswith("/v1/models"):
        return "predict" if path.endswith(":predict") else "status"
    if path in ("/", "/favicon.ico") or path.startswith("/page/"):
        return "page"
    name = path.removeprefix("/")
    return name if name in _ENDPOINTS else _OTHER


class Guard:
    """ASGI middleware that applies the limits and counts every request."""

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Monitor):
        self._app, self._limits, self._metrics = app, limits, metrics
        self._at_work = 0
        self._pending_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        endpoint = _name_endpoint(scope["path"])
        exchange = _Exchange(self, receive, send)
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(self._limits.seconds):
                await self._answer(endpoint, scope, exchange)
        except TimeoutError:
            seconds = f"{self._limits.seconds:g} seconds"
            if exchange.body_complete:
                message, status = f"the answer took more than {seconds}", 504
            else:
                message, status = f"the body did not arrive within {seconds}", 408
            await _refuse(status, message, scope, exchange)
        except ClientDisconnect:
            pass
        except Exception as error:
            # Its message may quote what the client sent.
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(place.filename)}:{place.lineno}"
            logging.error("%s at %s: this is a bug of fv", type(error).__name__, where)
            await _refuse(500, "internal error", scope, exchange)
        finally:
            self._pending_bytes -= exchange.bytes
            self._metrics.requests.labels(endpoint, str(exchange.status)).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - begun)

    async def _answer(self, endpoint: str, scope: Scope, exchange: "_Exchange") -> None:
        headers = dict(scope["headers"])
        if endpoint not in _OPEN and not self._is_allowed(headers.get(b"authorization", b"")):
            await _refuse(401, "a bearer token is needed", scope, exchange)
        elif scope["method"] != "POST":
            await self._app(scope, exchange.receive, exchange.send)
        elif self._at_work >= self._limits.requests:
            message = f"{self._at_work:,} requests are waiting: try again"
            await _refuse(429, message, scope, exchange)
        else:
            self._at_work += 1
            self._metrics.at_work.inc()
            try:
                exchange.announce(headers.get(b"content-length", b""))
                await self._app(scope, exchange.receive, exchange.send)
            except HTTPException as error:
                await _refuse(error.status_code, error.detail, scope, exchange)
            finally:
                self._at_work -= 1
                self._metrics.at_work.dec()

    def _is_allowed(self, given: bytes) -> bool:
        if self._limits.token is None:
            return True
        scheme, _, token = given.partition(b" ")
        equal = hmac.compare_digest(token.strip(), self._limits.token.encode())
        return equal and scheme.lower() == b"bearer"

    def take_bytes(self, count: int, held: int) -> None:
        """Counts bytes of a body that has `held` bytes so far.

        Raises:
          HTTPException: the body is too large, or all bodies together are.
        """
        most = self._limits.body_bytes
        if held + count > most:
            raise HTTPException(413, f"the body has more than {most:,} bytes")
        if self._pending_bytes + count > max(_MOST_PENDING_BYTES, most):
            raise HTTPException(429, "too many bytes are waiting: try again")
        self._pending_bytes += count


class _Exchange:
    """One request and its answer."""

    def __init__(self, guard: Guard, receive: Receive, send: Send):
        self._guard, self._receive, self._send = guard, receive, send
        self.bytes, self._arrived, self.status = 0, 0, 499  # as if the client went away
        self.body_complete = self.started = False

    def announce(self, length: bytes) -> None:
        """Takes the bytes that a header announces, before they arrive."""
        if length.isdigit():
            self._take(int(length))

    def _take(self, count: int) -> None:
        self._guard.take_bytes(count, self.bytes)
        self.bytes += count

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._arrived += len(message.get("body", b""))
            if self._arrived > self.bytes:  # in chunks, without a length
                self._take(self._arrived - self.bytes)
            self.body_complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.started = message["status"], True
        await self._send(message)


async def _refuse(status: int, message: str, scope: Scope, exchange: _Exchange) -> None:
    """Answers with an error, unless an answer has begun."""
    if exchange.started:
        return
    response = error_response(status, message)
    if not exchange.body_complete:  # the rest of the body is not read
        response.headers["connection"] = "close"
    await response(scope, exchange.receive, exchange.send)


def error_response(status: int, message: str) -> JSONResponse:
    """Returns an error in TensorFlow Serving's form."""
    headers = {"cache-control": "no-store"}
    if status == 429:
        headers["retry-after"] = _RETRY_SECONDS
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse({"error": message}, status, headers)


class TimedProtocol(h11_impl.H11Protocol):
    """HTTP/1.1 that closes a connection whose request does not begin or whose head is slow."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(_HEAD_SECONDS, self._close_idle)

    def _close_idle(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
