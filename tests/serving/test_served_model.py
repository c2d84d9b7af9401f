"""Versions are replaced, or tried again, whatever their disk does."""

import asyncio
import errno
import os
import types

from fv.errors import TemporaryError
from fv.serving import served_model
from fv.serving.limits import Monitor


def test_a_version_that_a_disk_keeps_from_loading_is_tried_again(tmp_path, monkeypatch):
    def loaded(engine, monitor, faces):
        return types.SimpleNamespace(engine=engine, version=os.path.basename(engine.path))

    failures = [OSError(errno.ESTALE, "stale"), TemporaryError("the network is away")]

    def load(path):
        if path.endswith("2") and failures:
            raise failures.pop()
        return types.SimpleNamespace(path=path)

    monkeypatch.setattr(served_model, "Loaded", loaded)
    (tmp_path / "1").mkdir()
    model = served_model.ServedModel(str(tmp_path), load, Monitor())
    (tmp_path / "2").mkdir()
    answering = []
    for _ in range(3):
        asyncio.run(model.update())
        answering.append(model.current.version)
    assert answering == ["1", "1", "2"]
