"""Runs every stage of fv on synthetic faces; prints each command, two verdicts and the figures.

The same command continues a demonstration that was stopped. `make demo` runs it in the project's
own environment.
"""

import dataclasses
import os
import pathlib
import shlex
import subprocess
import sys
import time

from fv import cli, files, manifest, workdir
from fv.errors import UserError
from fv.options import option

ROOT = pathlib.Path(__file__).parent.parent
NAMES = ("faces", "tfrecords", "run", "export")  # folders in --output
SIZE = "--image_size=80"  # little more than the network sees
VERDICTS = (0, 1)  # exit codes of fv.verify


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """Size and output of the demonstration."""

    output: str = option("demo", "Folder for everything that the demonstration makes.")
    identities: int = option(500, "Synthetic people.", lower=20)
    images_per_identity: int = option(12, "Images of each of them.", lower=2)
    pairs: int = option(13000, "Pairs to convert.", lower=100)
    flagfile_of_training: str = option(
        str(ROOT / "configs" / "quickstart.flags"), "Flagfile that the training run reads."
    )
    steps: int | None = option(None, "Training steps; the flagfile's if not given.", lower=1)


def demonstrate(options: DemoOptions) -> None:
    """Runs every stage in turn.

    Raises:
      UserError: a stage failed; its own message is on the screen.
    """
    start = time.perf_counter()
    output = pathlib.Path(options.output)
    faces, shards, run, export = map(str, (output / name for name in NAMES))
    people = f"--identities={options.identities}"
    images = f"--images_per_identity={options.images_per_identity}"
    _run("tools/make_faces.py", f"--output={faces}", people, images, SIZE, "--seed=1")
    convert = (f"--images={faces}", f"--output={shards}", f"--pairs={options.pairs}")
    _run("tools/make_tfrecords.py", *convert, "--overwrite")
    flagfile = f"--flagfile={os.path.relpath(options.flagfile_of_training)}"
    steps = [f"--steps={options.steps}"] if options.steps else []
    _run("-m", "fv.train", flagfile, f"--tfrecords={shards}", f"--workdir={run}", *steps)
    _run("-m", "fv.evaluate", f"--workdir={run}", f"--tfrecords={shards}", "--split=test")
    _run("-m", "fv.export", f"--workdir={run}", f"--output={export}")
    # A killed export leaves folders whose names are no numbers.
    versions = [path for path in pathlib.Path(export).iterdir() if path.name.isdecimal()]
    model = str(max(versions, key=lambda version: int(version.name)))
    for pair in _test_pairs(faces, shards):
        _run("-m", "fv.verify", f"--model={model}", *pair, accepted=VERDICTS)
    print(_summary(run, model, shards, time.perf_counter() - start))


def _run(*arguments: str, accepted: tuple[int, ...] = (0,)) -> None:
    print(f"\n$ {shlex.join(['python', *arguments])}", flush=True)
    code = subprocess.run([sys.executable, *arguments], check=False).returncode
    if code not in accepted:
        raise UserError(
            f"this stage failed with exit code {code}: follow its message above and run the "
            "demonstration again"
        )


def _test_pairs(faces: str, shards: str) -> list[list[str]]:
    """Returns a genuine and an impostor pair of images of people that training never sees."""
    first, second, *_ = manifest.load(shards).split("test").identities
    one, two = (
        sorted(map(str, pathlib.Path(faces, name).glob("*.jpg"))) for name in (first, second)
    )
    return [one[:2], [one[0], two[0]]]


def _summary(run: str, model: str, shards: str, seconds: float) -> str:
    figures = files.load_json(os.path.join(run, workdir.METRICS))
    people = len(manifest.load(shards).split("test").identities)
    rows = [
        ("accuracy", f"{figures['accuracy']:.4f}"),
        ("AUC", f"{figures['auc']:.4f}"),
        ("EER", f"{figures['eer']:.4f}"),
        *((f"TAR at FAR {far}", _rate(point)) for far, point in figures["tar_at_far"].items()),
        ("test pairs", f"{figures['pairs']:,} of {people} people that training never saw"),
        ("time", f"{seconds / 60:.1f} minutes"),
        ("model", model),
        ("figures", f"{run}/{workdir.METRICS}, report.html, roc.png"),
        ("TensorBoard", f"tensorboard --logdir {run}/{workdir.TENSORBOARD}"),
        ("web page", f"{os.path.relpath(sys.executable)} -m fv.serve --model={model}"),
    ]
    return "\n" + "\n".join(f"{name:<18}{value}" for name, value in rows)


def _rate(point: dict) -> str:
    return "not measurable" if point["tar"] is None else f"{point['tar']:.4f}"


if __name__ == "__main__":
    cli.run(demonstrate, DemoOptions, description=__doc__)
