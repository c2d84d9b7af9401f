"""Prometheus metrics of the server."""

import re

import prometheus_client as prometheus

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
OTHER = "other"


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
        self.refused.labels(next(found, OTHER)).inc()

    def text(self) -> bytes:
        """Returns the metrics in Prometheus' text format."""
        return prometheus.generate_latest(self.registry)


def name_endpoint(path: str) -> str:
    """The endpoint of a path, one of a few names whatever a client sends."""
    if path.startswith("/v1/models"):
        return "predict" if path.endswith(":predict") else "status"
    if path in ("/", "/favicon.ico") or path.startswith("/page/"):
        return "page"
    name = path.removeprefix("/")
    return name if name in _ENDPOINTS else OTHER
