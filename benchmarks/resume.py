"""Checks that a run that is killed again and again ends bit for bit like an undisturbed one.

python benchmarks/resume.py --tfrecords=DIR --kills=10 --json=/tmp/resume.json

Trains undisturbed. Trains again with SIGKILL at random steps and times, also while a checkpoint is
written, and then to the end. Compares all variables of both last checkpoints: weights, statistics,
slots, counters.
"""

import contextlib
import dataclasses
import os
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from fv import cli, files, workdir
from fv.errors import UserError
from fv.model import checkpoint_files
from fv.options import option, required

_FLAGS = (
    "--backbone=tiny --image_size=64 --dropout=0.3 --global_batch_size=16 --deterministic "
    "--validate_every=50"
)
_LOOK_SECONDS = 0.01  # between two looks at the workdir


@dataclasses.dataclass(frozen=True)
class ResumeOptions:
    """What is killed, and how often."""

    tfrecords: str = required("folder of shards.")
    kills: int = option(10, "How often the second run is killed.", lower=1)
    steps: int = option(400, "Steps of a run; 20 or more a kill.", lower=1)
    checkpoint_every: int = option(7, "Steps between checkpoints.", lower=1)
    flags: str = option(
        "", "Further flags of fv.train, such as '--optimizer=radam --precision=mixed_float16'."
    )
    seed: int = option(0, "Of the moments.", lower=0)
    json: str | None = option(None, "File to write the figures to.")


def main(options: ResumeOptions) -> None:
    """Trains both and compares.

    Raises:
      UserError: a run failed or ended before it was killed, or the variables differ.
    """
    rng = random.Random(options.seed)
    steps = sorted(rng.sample(range(1, options.steps - options.checkpoint_every), options.kills))
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = os.path.join(folder, "whole"), os.path.join(folder, "killed")
        _train(options, whole)
        period = _seconds_between_checkpoints(whole)
        command, earlier = (
            _command(options, killed),
            options.checkpoint_every,
        )  # killed between that checkpoint and the next
        saved = [kill(command, killed, step - earlier, rng.uniform(0.0, period)) for step in steps]
        _train(options, killed)
        differing = compare(whole, killed)
        if differing:
            raise UserError(
                f"{len(differing)} variables differ after {options.kills} kills, "
                f"such as {differing[0]}"
            )
        found = {
            "kills": options.kills,
            "last_checkpoints_when_killed": saved,
            "variables": len(_variables(whole)),
        }
    figures = dataclasses.asdict(options) | found | {"variables_differing": 0}
    print(files.to_json(figures, indent=2))
    if options.json:
        files.save_json(figures, options.json)


def compare(whole: str, killed: str) -> list[str]:
    """The variables that are not the same to the bit in the last checkpoints of two workdirs."""
    one, two = _variables(whole), _variables(killed)
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def kill(command: Sequence[str], folder: str, step: int, delay: float) -> int:
    """Starts a run, and kills it in the midst of it.

    Args:
      command: of the run.
      folder: its workdir.
      step: the run is left alone until it has written a checkpoint, of so many steps or more.
      delay: seconds between that and SIGKILL.

    Returns:
      The steps of the last checkpoint then.

    Raises:
      UserError: it ended before it was killed.
    """
    wanted = max(step, _last_step(folder) + 1)
    with _started(command) as process:
        while process.poll() is None and _last_step(folder) < wanted:
            time.sleep(_LOOK_SECONDS)
        time.sleep(delay)
    if process.returncode >= 0:
        raise UserError(
            f"the run ended with {process.returncode} before it was killed at step {step}: "
            "give it more --steps"
        )
    return _last_step(folder)


@contextlib.contextmanager
def _started(command: Sequence[str]) -> Iterator[subprocess.Popen]:
    """A process that does not outlive the block."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def _train(options: ResumeOptions, folder: str) -> None:
    with _started(_command(options, folder)) as process:
        process.wait()
    if process.returncode:
        raise UserError(f"fv.train ended with {process.returncode} in {folder}")


def _command(options: ResumeOptions, folder: str) -> list[str]:
    given = [
        f"--{name}={getattr(options, name)}" for name in ("tfrecords", "steps", "checkpoint_every")
    ]
    return [
        sys.executable,
        "-m",
        "fv.train",
        f"--workdir={folder}",
        *given,
        *_FLAGS.split(),
        *shlex.split(options.flags),
    ]


def _found(folder: str) -> list[str]:
    return checkpoint_files.find_checkpoints(os.path.join(folder, workdir.CHECKPOINTS))


def _last_step(folder: str) -> int:
    found = _found(folder)
    return checkpoint_files.checkpoint_step(found[0]) if found else 0


def _seconds_between_checkpoints(folder: str) -> float:
    times = [os.path.getmtime(f"{path}.index") for path in _found(folder)]
    return (times[0] - times[-1]) / (len(times) - 1)


def _variables(folder: str) -> dict[str, bytes]:
    reader = tf.train.load_checkpoint(_found(folder)[0])
    names = [name for name in reader.get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE")]
    return {name: np.asarray(reader.get_tensor(name)).tobytes() for name in names}


if __name__ == "__main__":
    cli.run(main, ResumeOptions, description=__doc__)
