"""The version that answers, and its replacement by a newer one while requests run."""

import asyncio
import os
from collections.abc import Callable

from absl import logging

from fv import errors
from fv.errors import UserError
from fv.serving import contract, face_finder, rest, versions
from fv.serving.batching import Batcher
from fv.serving.contract import Engine
from fv.serving.face_finder import FinderOptions
from fv.serving.limits import Monitor

Load = Callable[[str], Engine]
_SINGLE = "1"  # version of a folder whose name is no number
_ADVICE = "turn it upright, or send one with a larger face"


class Loaded:
    """A version that answers: its engine with its queue, and what a request needs to know of it.

    `finder` finds the faces in photographs; None if they are taken for crops.
    """

    def __init__(self, engine: Engine, monitor: Monitor, faces: FinderOptions):
        name = os.path.basename(os.path.abspath(engine.path))
        self.engine, self.version = engine, name if name.isdecimal() else _SINGLE
        self.signatures = rest.read_signatures(engine.path)
        self.max_pixels = contract.max_pixels(engine.card)
        self.finder = face_finder.make(engine.card, engine.path, faces, advice=_ADVICE)
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
        """Loads the highest version in place of the current one, unless it is refused."""
        path = await asyncio.to_thread(self._candidate)
        if path is None or path == self.current.engine.path:
            return
        try:
            loaded = await asyncio.to_thread(self._load, path)
        except Exception as error:
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
