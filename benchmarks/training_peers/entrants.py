"""How each contestant is started, and where its stamps are found."""

import glob
import os
import sys

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from benchmarks.side_by_side import turns
from benchmarks.side_by_side.turns import Entrant
from benchmarks.training_peers import TITLES
from benchmarks.training_peers import work as works
from benchmarks.training_peers.work import Work
from fv import workdir

FV, TORCH = "fv", "torch_timm"
PEERS = tuple(name for name in TITLES if name != FV)
_AUGMENTED = {FV: "--noaugment", "fv_augmented": "--augment"}
_NEVER = 10**9  # steps


def entrants(
    names: list[str], work: Work, torch_python: str, fv_flags: list[str]
) -> dict[str, Entrant]:
    """What the contestants of those names are started with; `fv_flags` are added to fv's."""
    path = works.save(work)
    return {
        name: _fv(name, work, fv_flags) if name in _AUGMENTED else _peer(name, path, torch_python)
        for name in names
    }


def _peer(name: str, path: str, torch_python: str) -> Entrant:
    python = torch_python if name == TORCH else sys.executable
    return Entrant(
        (python, "-m", "benchmarks.training_peers.contestant", name, path), turns.printed_stamps
    )


def _fv(name: str, work: Work, flags: list[str]) -> Entrant:
    """fv's own command; it looks at the clock when it logs."""
    folder = os.path.join(work.folder, name)
    shape = [
        f"--image_size={work.image_size}",
        f"--embedding_size={work.embedding_size}",
        "--head=sigmoid",
    ]
    rate = [
        f"--learning_rate={work.learning_rate}",
        "--optimizer=sgd",
        "--weight_decay=0",
        "--decay=constant",
    ]
    length = [
        f"--steps={_NEVER}",
        f"--global_batch_size={work.pairs}",
        f"--log_every={work.stamp_steps}",
    ]
    quiet = [
        "--validate_every=0",
        "--checkpoint_every=0",
        "--warmup_steps=0",
        _AUGMENTED[name],
    ]
    command = [
        sys.executable,
        "-m",
        "fv.train",
        f"--tfrecords={work.tfrecords}",
        f"--workdir={folder}",
    ]
    return Entrant(
        [*command, *shape, *rate, *length, *quiet, *flags], lambda _: logged_stamps(folder)
    )


def logged_stamps(folder: str) -> list[float]:
    """When a run logged its loss, from TensorBoard's files."""
    paths = sorted(glob.glob(os.path.join(folder, workdir.TENSORBOARD, "*tfevents*")))
    events = (event for path in paths for event in EventFileLoader(path).Load())
    return [
        event.wall_time
        for event in events
        if any(value.tag == "loss" for value in event.summary.value)
    ]
