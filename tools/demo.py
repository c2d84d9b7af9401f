"""The whole of fv on synthetic faces: prints each stage's command, runs it, and ends with two verdicts and the figures.

Run again, it goes on where it stopped. `make demo` runs it in the project's own environment.
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
VERDICTS = (0, 1)  # exit codes of fv.verify that are an answer


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """How large the demonstration is, and where it goes."""

    output: str = option("demo", "Folder for everything that the demonstration makes.")
    identities: int = option(600, "Synthetic people.", lower=20)
    images_per_identity: int = option(12, "Images of each of them.", lower=2)
    pairs: int = option(16000, "Pairs to convert.", lower=100)
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
    faces, shards, run, export = (
        str(output / name) for name in ("faces", "tfrecords", "run", "export")
    )
    sizes = [
        f"--identities={options.identities}",
        f"--images_per_identity={options.images_per_identity}",
    ]
    _stage("tools/make_faces.py", f"--output={faces}", *sizes, "--seed=1")
    _stage(
        "tools/make_tfrecords.py",
        f"--images={faces}",
        f"--output={shards}",
        f"--pairs={options.pairs}",
        "--overwrite",
    )
    steps = [f"--steps={options.steps}"] if options.steps else []
    flagfile = f"--flagfile={os.path.relpath(options.flagfile_of_training)}"
    _stage("-m", "fv.train", flagfile, f"--tfrecords={shards}", f"--workdir={run}", *steps)
    _stage("-m", "fv.evaluate", f"--workdir={run}", f"--tfrecords={shards}", "--split=test")
    _stage("-m", "fv.export", f"--workdir={run}", f"--output={export}")
    versions = (
        path for path in pathlib.Path(export).iterdir() if path.name.isdecimal()
    )  # a killed export leaves others
    model = str(max(versions, key=lambda version: int(version.name)))
    genuine, impostor = _strangers(faces, shards)
    for pair in (genuine, impostor):
        _stage("-m", "fv.verify", f"--model={model}", *pair, accepted=VERDICTS)
    print(_summary(run, model, shards, time.perf_counter() - start))


def _stage(*arguments: str, accepted: tuple[int, ...] = (0,)) -> None:
    print(f"\n$ {shlex.join(['python', *arguments])}", flush=True)
    code = subprocess.run([sys.executable, *arguments], check=False).returncode
    if code not in accepted:
        raise UserError(
            f"this stage failed with exit code {code}: mend what it says above and run the demonstration again"
        )


def _strangers(faces: str, shards: str) -> tuple[list[str], list[str]]:
    """Two images of one test person, and one each of two; training saw neither of them."""
    first, second, *_ = manifest.load(shards).split("test").identities
    images = {
        name: sorted(map(str, pathlib.Path(faces, name).glob("*.jpg"))) for name in (first, second)
    }
    return images[first][:2], [images[first][0], images[second][0]]


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
    ]
    return "\n" + "\n".join(f"{name:<18}{value}" for name, value in rows)


def _rate(point: dict) -> str:
    return "not measurable" if point["tar"] is None else f"{point['tar']:.4f}"


def run() -> None:
    """Entry point."""
    cli.run(demonstrate, DemoOptions, description=__doc__)


if __name__ == "__main__":
    run()
