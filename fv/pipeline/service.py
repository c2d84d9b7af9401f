"""The pipeline on other hosts: a tf.data service decodes, this process indexes identities and trains.

Promised is what tf.data's dynamic sharding promises. In an epoch without failures every record comes exactly once, in no
fixed order. A worker that dies takes what it held out of that epoch (its open shards and its shuffle buffer); TensorFlow
documents that nothing of it comes twice. The workers that are left go on with all records; only a stream of counted epochs
has no end then. A restarted training run begins an epoch anew.
"""

import dataclasses
import signal
import socket
import threading
import time

import numpy as np
import tensorflow as tf

from fv.errors import UserError
from fv.options import option, required
from fv.pipeline import order, tensorflow_decoder
from fv.pipeline.slices import PairSource, Slice
from fv.pipeline.tensorflow_decoder import TensorFlowDecoder

_SHARDS_READ_AT_ONCE = (
    2  # a worker opens as many at its start: with more, few shards would not go round
)


def service_batches(
    source: PairSource,
    parts: list[Slice],
    address: str,
    *,
    batch_size: int,
    seed: int,
    shuffle_buffer: int,
    epochs: int | None = None,
) -> tf.data.Dataset:
    """Batches as `input_pipeline.training_batches` gives them, from the service at `address`, grpc://HOST:PORT.

    Args:
      parts: the slices of this input worker; each is dealt to one of the service's workers, which must find it by its path.
      epochs: how often they are dealt; without end by default.

    The other arguments are those of `input_pipeline.training_batches`.
    """
    decoder = TensorFlowDecoder(
        source.image_size, source.crop_fraction
    )  # names travel, a lookup table does not
    dealt = [parts[place] for place in np.random.default_rng(seed).permutation(len(parts))]
    dynamic = tf.data.experimental.service.ShardingPolicy.DYNAMIC
    index_of = tensorflow_decoder.identity_indexer(source.identities)
    return (
        order.slice_dataset(
            dealt
        )  # not shuffled: a buffer would make the first worker take all of them
        .repeat(epochs)
        .interleave(order.read_records, cycle_length=_SHARDS_READ_AT_ONCE)
        .shuffle(shuffle_buffer, seed=seed)
        .apply(lambda records: decoder.batches(records, batch_size))
        .apply(tf.data.experimental.service.distribute(dynamic, address))
        .map(lambda batch: batch | {"identities": index_of(batch["identities"])})
    )


# One process of a tf.data service: the dispatcher, or a worker.

service = tf.data.experimental.service

ROLES = ("dispatcher", "worker")
_MOST_PORT = 65535
_DISPATCHER_SECONDS = 5.0  # that a worker waits for its dispatcher to come up
_RETRY_SECONDS = 0.2
_HEARTBEAT_MS = 1_000  # between signs of a worker's life
_LOST_MS = (
    5_000  # without one, and training goes on without the worker; TensorFlow's default is a minute
)


@dataclasses.dataclass(frozen=True)
class ServiceOptions:
    """Which process, and where it listens."""

    role: str = required(
        "dispatcher, which deals out shards, or worker, which reads and decodes them."
    )
    port: int = option(0, "Port to listen on; 0 for any that is free.", lower=0, upper=_MOST_PORT)
    dispatcher: str = option("", "HOST:PORT of the dispatcher that a worker serves.")
    host: str = option(
        "", "Name or address under which others reach this worker; this host's name by default."
    )


def run_service(options: ServiceOptions) -> None:
    """Runs the process until SIGTERM or Ctrl-C.

    Raises:
      UserError: the role is unknown, a worker has no dispatcher, the port is taken, or the dispatcher does not answer.
    """
    if options.role not in ROLES:
        raise UserError(f"--role={options.role} is neither dispatcher nor worker")
    if (options.role == "worker") != bool(options.dispatcher):
        raise UserError("--dispatcher=HOST:PORT belongs to --role=worker, and to it alone")
    _check_free(options.port)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    server = _start(options)
    stopped.wait()
    del server  # which ends its threads


def _start(options: ServiceOptions) -> object:
    try:
        return (
            _start_dispatcher(options) if options.role == "dispatcher" else _start_worker(options)
        )
    except (tf.errors.OpError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the {options.role} cannot start on --port={options.port}: {reason}"
        ) from error


def _check_free(port: int) -> None:
    """gRPC shares a port that another process listens on, and each gets some of the calls."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
    except OSError as error:
        raise UserError(
            f"--port={port} cannot be listened on ({error.strerror}): choose another"
        ) from error


def _start_dispatcher(options: ServiceOptions) -> object:
    server = service.DispatchServer(
        service.DispatcherConfig(port=options.port, worker_timeout_ms=_LOST_MS)
    )
    print(f"dispatcher at {server.target}", flush=True)
    return server


def _start_worker(options: ServiceOptions) -> object:
    _await_dispatcher(options.dispatcher)
    address = f"{options.host or socket.gethostname()}:%port%"  # which TensorFlow fills in
    config = service.WorkerConfig(
        options.dispatcher,
        worker_address=address,
        port=options.port,
        heartbeat_interval_ms=_HEARTBEAT_MS,
    )
    server = service.WorkerServer(config)
    print(f"worker of {options.dispatcher}", flush=True)
    return server


def _await_dispatcher(address: str) -> None:
    """A worker of TensorFlow's waits for a dispatcher for ever and says nothing."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and int(port) <= _MOST_PORT):
        raise UserError(f"--dispatcher={address} is no HOST:PORT")
    deadline = time.monotonic() + _DISPATCHER_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=_DISPATCHER_SECONDS).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"no dispatcher answers at {address} ({error}): start it first"
                ) from error
            time.sleep(_RETRY_SECONDS)
