"""The version that answers: its queue of requests, and its replacement by a newer version.

Requests that wait at the same time are merged into one call of the engine. A request never waits
for others: what arrived during a call makes up the next one. If an image is refused, only its own
request fails and the others run again, each alone.
"""

import asyncio
import collections
import dataclasses
import os
from collections.abc import Callable
from concurrent import futures

import numpy as np
from absl import logging

from fv import errors
from fv.errors import UserError
from fv.serving import contract, image_inputs, rest, versions
from fv.serving.contract import Engine, InputError, Inputs, Outputs
from fv.serving.image_inputs import FinderOptions
from fv.serving.limits import Monitor

MOST_IMAGES = 64  # of a call; larger ones gain nothing (benchmarks/results/serving.md)
_CALLS_AT_ONCE = 2  # of an engine that does not say: one decodes while the other computes
# An image that decodes for a second would delay all requests of its call.
_LARGE_CALLS_AT_ONCE = 1
_ALONE_AT_ONCE = 4  # requests that share a call with a bad image
_SINGLE = "1"  # version of a folder whose name is no number
_ADVICE = "turn it upright, or send one with a larger face"

Load = Callable[[str], Engine]
Key = tuple


@dataclasses.dataclass(eq=False)
class _Request:
    signature: str
    inputs: Inputs
    rows: int
    key: Key
    answer: asyncio.Future


class _Lane:
    """Waiting requests, and how many calls may run at once."""

    def __init__(self, calls: int):
        self.waiting: collections.deque[_Request] = collections.deque()
        self.idle = calls


class Batcher:
    """The queue of one engine. All methods run on the event loop."""

    def __init__(self, engine: Engine, observe: Callable[[int], None]):
        """Starts the threads.

        Args:
          engine: answers the batches.
          observe: called with the images (or embeddings) of every call.
        """
        self._engine, self._observe = engine, observe
        calls = getattr(engine, "calls_at_once", _CALLS_AT_ONCE)
        self._merged, self._large = _Lane(calls), _Lane(_LARGE_CALLS_AT_ONCE)
        threads = calls + _LARGE_CALLS_AT_ONCE
        self._pool = futures.ThreadPoolExecutor(threads, "fv-batch")
        self._alone = futures.ThreadPoolExecutor(_ALONE_AT_ONCE, "fv-alone")
        self._tasks: set[asyncio.Task] = set()

    async def run(self, signature: str, inputs: Inputs, large: bool = False) -> Outputs:
        """Returns the engine's answer to one request.

        Args:
          signature: name of the signature.
          inputs: its arguments.
          large: whether decoding takes so long that no other request should wait for it.

        Raises:
          InputError: the engine refuses an input; places count within this request.
        """
        answer = asyncio.get_running_loop().create_future()
        rows, key = _merge_key(signature, inputs)
        lane = self._large if large else self._merged
        lane.waiting.append(_Request(signature, inputs, rows, key, answer))
        self._dispatch(lane)
        return await answer

    def close(self) -> None:
        """Ends the threads after the calls that run."""
        self._pool.shutdown(wait=False)
        self._alone.shutdown(wait=False)

    def _dispatch(self, lane: _Lane) -> None:
        while lane.idle and (batch := self._take(lane)):
            lane.idle -= 1
            task = asyncio.get_running_loop().create_task(self._answer(batch, lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self, lane: _Lane) -> list[_Request]:
        """Removes the first waiting requests that fit into one call."""
        batch: list[_Request] = []
        images = 0
        while lane.waiting:
            first = lane.waiting[0]
            if first.answer.done():  # its client has gone or was told that it took too long
                lane.waiting.popleft()
                continue
            size = contract.count_images(first.inputs)
            full = images + size > MOST_IMAGES or lane is self._large
            if batch and (full or not first.key or first.key != batch[0].key):
                break
            batch.append(lane.waiting.popleft())
            images += size
        return batch

    async def _answer(self, batch: list[_Request], lane: _Lane) -> None:
        try:
            await self._call(batch, self._pool)
        finally:
            lane.idle += 1
            self._dispatch(lane)

    async def _call(self, batch: list[_Request], pool: futures.Executor) -> None:
        self._observe(sum(contract.count_images(request.inputs) for request in batch))
        loop = asyncio.get_running_loop()
        inputs = _concatenate([request.inputs for request in batch])
        try:
            outputs = await loop.run_in_executor(pool, self._engine.run, batch[0].signature, inputs)
        except InputError as error:
            if len(batch) == 1:
                _fail(batch[0], error)
                return
            # One round and no search for the bad image: a caller cannot make the others run twice.
            await asyncio.gather(*(self._call([request], self._alone) for request in batch))
        except Exception as error:
            for request in batch:
                _fail(request, error)
        else:
            start = 0
            for request in batch:
                end = start + request.rows
                if not request.answer.done():
                    request.answer.set_result(
                        outputs
                        if len(batch) == 1
                        else {name: values[start:end] for name, values in outputs.items()}
                    )
                start = end


def _fail(request: _Request, error: Exception) -> None:
    if not request.answer.done():
        request.answer.set_exception(error)


def _merge_key(signature: str, inputs: Inputs) -> tuple[int, Key]:
    """Rows of a request, and what the requests of a call have in common; () if it runs alone."""
    lengths = {len(value) for value in inputs.values()}
    rows = max(lengths)
    if len(lengths) > 1:
        return rows, ()
    shapes = [value.shape[1:] for value in inputs.values() if isinstance(value, np.ndarray)]
    return rows, (signature, *shapes)


def _concatenate(parts: list[Inputs]) -> Inputs:
    if len(parts) == 1:
        return parts[0]
    merged: dict = {}
    for name, first in parts[0].items():
        values = [part[name] for part in parts]
        if isinstance(first, np.ndarray):
            merged[name] = np.concatenate(values)
        else:
            merged[name] = [one for value in values for one in value]
    return merged


class Loaded:
    """A version that answers: its engine with its queue, and what a request needs to know of it.

    `finder` finds the faces in photographs; None if they are taken for crops.
    """

    def __init__(self, engine: Engine, monitor: Monitor, faces: FinderOptions):
        name = os.path.basename(os.path.abspath(engine.path))
        self.engine, self.version = engine, name if name.isdecimal() else _SINGLE
        self.signatures = rest.read_signatures(engine.path)
        self.max_pixels = contract.max_pixels(engine.card)
        self.finder = image_inputs.make_finder(engine.card, engine.path, faces, advice=_ADVICE)
        if self.finder:
            self.finder.warm_up()
        self.batcher = Batcher(engine, monitor.batch_images.observe)


class ServedModel:
    """The highest valid version of a folder.

    A request keeps the version that it began with, so a replacement loses none.
    """

    def __init__(
        self,
        folder: str,
        load: Load,
        monitor: Monitor,
        faces: FinderOptions = FinderOptions(),  # noqa: B008  frozen
    ):
        """Loads the highest version that is valid.

        Args:
          folder: a folder of versions, or one version, which is never replaced.
          load: makes the engine of a version folder, ready to answer.
          monitor: gets the version and the counts of updates.
          faces: how faces are found, for models of aligned faces.

        Raises:
          UserError: no version is valid; the reason is that of the highest.
        """
        self._folder, self._monitor = folder, monitor
        self._load = lambda path: Loaded(load(path), monitor, faces)
        self._refused: dict[str, object] = {}  # what a refused folder held
        self._is_single = versions.latest_version(folder) == folder
        first: UserError | None = None
        while (path := self._candidate()) is not None:
            try:
                self._use(self._load(path))
                return
            except UserError as error:
                first = first or error
                self._refuse(path, error)
        assert first is not None
        raise first

    async def watch(self, seconds: float) -> None:
        """Looks for a newer version every so many seconds, until it is cancelled."""
        while not self._is_single:
            await asyncio.sleep(seconds)
            try:
                await self.update()
            except OSError as error:  # the folder may come back
                logging.warning("cannot read %s: %s", self._folder, errors.describe(error))

    async def update(self) -> None:
        """Loads the highest version in place of the current one, unless it is refused.

        A version that a disk or the network kept from loading is tried again at the next call.
        """
        path = await asyncio.to_thread(self._candidate)
        if path is None or path == self.current.engine.path:
            return
        try:
            loaded = await asyncio.to_thread(self._load, path)
        except Exception as error:
            if errors.is_temporary(error):
                logging.warning("cannot load version %s yet: %s", path, errors.describe(error))
            else:
                self._refuse(path, error)
            return
        before = self.current
        self._use(loaded)
        logging.info("version %s answers in place of %s", self.current.version, before.version)

    def close(self) -> None:
        """Ends the threads of the current version."""
        self.current.batcher.close()

    def _use(self, loaded: Loaded) -> None:
        # The queue of the version before ends its threads when its last request is answered.
        self.current = loaded
        self._monitor.version.set(int(self.current.version))
        self._monitor.updates.labels("loaded").inc()

    def _refuse(self, path: str, error: Exception) -> None:
        self._refused[path] = _fingerprint(path)
        self._monitor.updates.labels("refused").inc()
        logging.error("refused version %s: %s", path, errors.describe(error))

    def _candidate(self) -> str | None:
        """The highest version that is not refused, or was changed since; None if there is none."""
        if self._is_single:
            return None if self._folder in self._refused else self._folder
        for version in reversed(versions.list_versions(self._folder)):
            path = os.path.join(self._folder, str(version))
            if path not in self._refused or self._refused[path] != _fingerprint(path):
                return path
        return None


def _fingerprint(folder: str) -> object:
    """Changes when a file of the folder does: it may have been refused while it was copied."""
    found = []
    for above, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(above, name)
            try:
                status = os.stat(path)
            except OSError:
                continue  # removed at this moment
            found.append((path, status.st_size, status.st_mtime_ns))
    return sorted(found)
