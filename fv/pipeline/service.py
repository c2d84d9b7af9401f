"""A tf.data service on other hosts decodes; this process indexes identities and trains.

It guarantees what tf.data's dynamic sharding does. In an epoch without failures every record comes
exactly once, in no fixed order. A worker that dies takes what it held out of that epoch: its open
shards and its shuffle buffer. TensorFlow documents that nothing of it comes twice. The remaining
workers continue with all records. A restarted training run begins a new epoch.
"""

import dataclasses
import signal
import socket
import threading
import time
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fv import errors
from fv.errors import UserError
from fv.options import option, required
from fv.pipeline import decoders, order
from fv.pipeline.decoders import TensorFlowDecoder
from fv.pipeline.shards import PairSource, Slice

_service = tf.data.experimental.service

ROLES = ("dispatcher", "worker")
_HIGHEST_PORT = 65535
# A worker opens as many at its start: with more, a few shards would not be enough for all.
_SHARDS_READ_AT_ONCE = 2
_DISPATCHER_SECONDS = 5.0  # that a worker waits for its dispatcher to come up
_RETRY_SECONDS = 0.2
_EPOCHS = 2**32  # without end
_HEARTBEAT_MS = 1_000  # of a worker
# Without a heartbeat training continues without the worker; TensorFlow's default is a minute.
_WORKER_TIMEOUT_MS = 5_000


@dataclasses.dataclass(frozen=True)
class ServiceOptions:
    """Which process of the service to run, and where it listens."""

    role: str = required(
        "dispatcher, which distributes shards, or worker, which reads and decodes them."
    )
    port: int = option(
        0, "Port to listen on; 0 for any that is free.", lower=0, upper=_HIGHEST_PORT
    )
    dispatcher: str = option("", "HOST:PORT of the dispatcher that a worker serves.")
    host: str = option(
        "", "Name or address under which others reach this worker; this host's name by default."
    )


def service_batches(
    source: PairSource,
    slices: Sequence[Slice],
    address: str,
    *,
    batch_size: int,
    seed: int,
    shuffle_buffer: int,
) -> tf.data.Dataset:
    """Endless batches of `input_pipeline.training_batches`, decoded by a service.

    Args:
      source: the pairs.
      slices: of this input worker; the service's workers must find them by their paths.
      address: of the dispatcher, grpc://HOST:PORT.
      batch_size: pairs in one batch.
      seed: of the order in which shards are dealt and records are shuffled.
      shuffle_buffer: records that each worker holds for shuffling.
    """
    # The service decodes with identities' names: a lookup table cannot travel.
    by_path = bool(source.paths)
    pixels = source.image_size, source.crop_fraction
    decoder = TensorFlowDecoder(*pixels, by_path=by_path)
    index_of = decoders.identity_lookup(list(source.paths) or source.identities)
    dealt = [slices[place] for place in np.random.default_rng(seed).permutation(len(slices))]
    columns = order.slice_columns(dealt)

    @tf.autograph.experimental.do_not_convert
    def find_slice(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tuple(tf.gather(column, number % len(dealt)) for column in columns)

    # Not shuffled by tf.data: with a buffer, the first worker would take all of them. Not repeated
    # either: TensorFlow 2.21 deals the first repetition only, and a worker without a slice of it
    # delivers nothing in the whole run.
    records = (
        tf.data.Dataset.range(len(dealt) * _EPOCHS)
        .map(find_slice)
        .interleave(order.read_records, cycle_length=_SHARDS_READ_AT_ONCE)
        .shuffle(shuffle_buffer, seed=seed)
    )
    served = decoder.batches(records, batch_size).apply(
        _service.distribute(_service.ShardingPolicy.DYNAMIC, address)
    )
    return served.map(lambda batch: batch | {"identities": index_of(batch["identities"])})


def run_service(options: ServiceOptions) -> None:
    """Runs a process of the service until SIGTERM or Ctrl-C.

    Raises:
      UserError: the role is unknown, a worker has no dispatcher, or the port is taken.
      TemporaryError: the dispatcher does not answer.
    """
    if options.role not in ROLES:
        raise UserError(f"--role={options.role} is neither dispatcher nor worker")
    if (options.role == "worker") != bool(options.dispatcher):
        raise UserError("--dispatcher=HOST:PORT belongs to --role=worker, and to it alone")
    _check_port_is_free(options.port)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    start = _start_dispatcher if options.role == "dispatcher" else _start_worker
    try:
        server = start(options)
    except (tf.errors.OpError, RuntimeError) as error:
        errors.raise_if_temporary(error)
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the {options.role} cannot start on --port={options.port}: {reason}"
        ) from error
    stopped.wait()
    del server  # ends its threads


def _check_port_is_free(port: int) -> None:
    # gRPC would share the port with the process that listens on it, and each get some of the calls.
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
    except OSError as error:
        raise UserError(
            f"--port={port} cannot be listened on ({error.strerror}): choose another"
        ) from error


def _start_dispatcher(options: ServiceOptions) -> object:
    server = _service.DispatchServer(
        _service.DispatcherConfig(port=options.port, worker_timeout_ms=_WORKER_TIMEOUT_MS)
    )
    print(f"dispatcher at {server.target}", flush=True)
    return server


def _start_worker(options: ServiceOptions) -> object:
    _wait_for_dispatcher(options.dispatcher)
    config = _service.WorkerConfig(
        options.dispatcher,
        worker_address=f"{options.host or socket.gethostname()}:%port%",  # TensorFlow fills it in
        port=options.port,
        heartbeat_interval_ms=_HEARTBEAT_MS,
    )
    server = _service.WorkerServer(config)
    print(f"worker of {options.dispatcher}", flush=True)
    return server


def _wait_for_dispatcher(address: str) -> None:
    # TensorFlow's worker would wait without end and without a message.
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and int(port) <= _HIGHEST_PORT):
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
