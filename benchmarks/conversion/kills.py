"""Whether a conversion that is killed at any moment, and run again, ends in the bytes of one that never was."""

import contextlib
import hashlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

from benchmarks.conversion import command
from benchmarks.conversion.options import BenchmarkOptions
from fv import manifest


def measure(options: BenchmarkOptions, folder: str) -> dict:
    """Kills a conversion, and all of its processes, at random moments of its course, each time anew, then lets it end.

    Raises:
      AssertionError: the shards are not those of the undisturbed run.
    """
    whole, killed = os.path.join(folder, "whole"), os.path.join(folder, "killed")
    seconds, _ = command.run(options.flags(whole))
    wanted, rng, found = _checksums(whole), random.Random(options.seed), []
    for _ in range(options.kills):
        shutil.rmtree(killed, ignore_errors=True)
        finished = _kill_at(rng.uniform(0.0, seconds), options.flags(killed))
        found.append("after its end" if finished else _state(killed))
        if not finished:
            command.run(options.flags(killed))
            assert sorted(os.listdir(killed)) == sorted(os.listdir(whole)), "something is left"
        assert _checksums(killed) == wanted, "the shards differ from those of the undisturbed run"
    return {"kills": options.kills, "identical": options.kills, "shards_whole_when_killed": found}


def _kill_at(moment: float, flags: list[str]) -> bool:
    """Whether the conversion had ended by then."""
    with command.start(flags, stderr=subprocess.DEVNULL) as process:
        time.sleep(moment)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return os.path.exists(os.path.join(flags[0].partition("=")[2], manifest.FILE_NAME))


def _state(folder: str) -> str:
    names = (
        [path.name for path in pathlib.Path(folder).glob("*.tfrecord")]
        if os.path.isdir(folder)
        else []
    )
    return str(len(names))


def _checksums(folder: str) -> dict[str, str]:
    """SHA-256 of each shard's bytes, which the manifest's has to be too."""
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in pathlib.Path(folder).glob("*.tfrecord")
    }
    said = {
        shard.name: shard.sha256
        for split in manifest.load(folder).splits.values()
        for shard in split.shards
    }
    assert found == said, "the manifest tells other checksums"
    return found
