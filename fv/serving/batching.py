"""Merges requests that wait at the same time into one call of the engine.

A request never waits for others: what arrived during a call makes up the next one. If an image is
refused, only its own request fails and the others run again, each alone.
"""

import asyncio
import collections
import dataclasses
from collections.abc import Callable
from concurrent import futures

import numpy as np

from fv.serving import contract
from fv.serving.contract import Engine, InputError, Inputs, Outputs

MOST_IMAGES = 64  # of a call; larger ones gain nothing (benchmarks/results/serving.md)
_CALLS_AT_ONCE = 2  # of an engine that does not say: one decodes while the other computes
# An image that decodes for a second would delay all requests of its call.
_LARGE_CALLS_AT_ONCE = 1
_ALONE_AT_ONCE = 4  # requests that share a call with a bad image

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
