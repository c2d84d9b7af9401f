"""Records what fv computes, so that a restructured code base can be compared with the one before.

    python benchmarks/reference.py --json=before.json [--images=lfw]
    python benchmarks/reference.py --json=after.json --against=before.json [--images=lfw]

Records the SHA-256 of shards, losses of deterministic steps, an export's answers, the keys of every
JSON file, and `--help` of every command. Each command runs in its own process, from the repository
of the script.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from fv import cli, files
from fv.errors import UserError
from fv.options import option

ROOT = pathlib.Path(__file__).parent.parent
MODULES = ("make_tfrecords", "train", "evaluate", "export", "verify", "whiten", "embed")
TOOLS = (
    "make_faces",
    "make_tfrecords",
    "inspect_tfrecords",
    "benchmark",
    "mine_pairs",
    "sweep",
    "data_service",
    "demo",
)
STEPS = 30
TOLERANCE = 1e-6  # of an export's answers
RUNS = {  # flagfile, and what makes 30 steps of it affordable on two cores
    "quickstart": (),
    "lfw_light": ("--crop_fraction=0.9", "--load_size=56"),
    "augmentation": (),
    "mixed_precision": (
        "--backbone=tiny",
        "--image_size=48",
        "--global_batch_size=32",
        "--precision=mixed_bfloat16",
    ),
}


@dataclasses.dataclass(frozen=True)
class ReferenceOptions:
    """What is recorded, and what it is compared with."""

    json: str = option("reference.json", "File for what is recorded.")
    against: str | None = option(
        None, "An earlier file: prints each difference and exits with 1 if there is one."
    )
    images: str | None = option(
        None, "Also record the shards of this folder of images, such as LFW's View 1 half."
    )


def record(options: ReferenceOptions) -> int:
    """Records the facts, compares them and returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        facts = _record(options, pathlib.Path(folder))
    files.save_json(facts, options.json)
    if not options.against:
        return 0
    differences = list(compare(files.load_json(options.against), facts))
    print("\n".join([*differences, f"{len(differences)} differences"]))
    return 1 if differences else 0


def compare(before: object, after: object, path: str = "") -> list[str]:
    """A line for each value that differs; numbers may differ by `TOLERANCE`."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = sorted(before.keys() | after.keys())
        missing = object()
        return [
            line
            for name in names
            for line in compare(
                before.get(name, missing), after.get(name, missing), f"{path}/{name}"
            )
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            line
            for i, pair in enumerate(zip(before, after, strict=True))
            for line in compare(*pair, f"{path}/{i}")
        ]
    if isinstance(before, float) and isinstance(after, float) and abs(before - after) <= TOLERANCE:
        return []
    return [] if before == after else [f"{path}: {_show(before)} -> {_show(after)}"]


def _show(value: object) -> str:
    return "absent" if type(value) is object else str(value)[:100]


def _record(options: ReferenceOptions, folder: pathlib.Path) -> dict:
    faces, shards, run, export = (
        str(folder / name) for name in ("faces", "shards", "run", "export")
    )
    _run(
        "tools/make_faces.py",
        f"--output={faces}",
        "--identities=40",
        "--images_per_identity=8",
        "--seed=1",
    )
    _run("tools/make_tfrecords.py", f"--images={faces}", f"--output={shards}", "--pairs=1200")
    facts: dict = {"shards": {"faces": _digests(shards)}}
    if options.images:
        _run(
            "tools/make_tfrecords.py",
            f"--images={options.images}",
            f"--output={folder / 'images'}",
            "--pairs=20000",
        )
        facts["shards"]["images"] = _digests(str(folder / "images"))
    facts["losses"] = {
        name: _losses(name, flags, shards, f"{run}-{name}") for name, flags in RUNS.items()
    }
    trained = f"{run}-augmentation"
    _run("-m", "fv.evaluate", f"--workdir={trained}", f"--tfrecords={shards}")
    _run("-m", "fv.export", f"--workdir={trained}", f"--output={export}")
    facts["answers"] = _answers(f"{export}/1", faces)
    jsons = sorted(path for path in folder.rglob("*.json") if path.name[0] != ".")
    facts["keys"] = {
        str(path.relative_to(folder)): keys(json.loads(path.read_text())) for path in jsons
    }
    commands: list[tuple[str, ...]] = [("-m", f"fv.{name}") for name in MODULES]
    commands += [
        (f"tools/{name}.py",) for name in TOOLS if (ROOT / "tools" / f"{name}.py").exists()
    ]
    facts["help"] = {command[-1]: _run(*command, "--help").splitlines() for command in commands}
    return facts


def keys(value: object) -> object:
    """The keys of a JSON value without what they hold; of a list those of its first element."""
    if isinstance(value, dict):
        return {name: keys(held) for name, held in value.items()}
    return [keys(value[0])] if isinstance(value, list) and value else type(value).__name__


def _losses(name: str, flags: tuple[str, ...], shards: str, workdir: str) -> list[float]:
    """The loss of each of the first steps, as TensorBoard's file holds it."""
    plan = [
        f"--steps={STEPS}",
        "--warmup_steps=5",
        "--log_every=1",
        "--validate_every=0",
        "--checkpoint_every=0",
    ]
    fixed = ["--seed=3", "--deterministic", *plan]
    _run(
        "-m",
        "fv.train",
        f"--flagfile=configs/{name}.flags",
        f"--tfrecords={shards}",
        f"--workdir={workdir}",
        *flags,
        *fixed,
    )
    read = (
        "import sys, json; from tensorboard.backend.event_processing import event_accumulator as e;"
        "a = e.EventAccumulator(sys.argv[1], {'tensors': 0}); a.Reload();"
        "import tensorflow as tf;"
        "tag = next(t for t in a.Tags()['tensors'] if t.split('/')[-1] == 'loss');"
        "print(json.dumps([float(tf.make_ndarray(x.tensor_proto)) for x in a.Tensors(tag)]))"
    )
    folder = next(path.parent for path in pathlib.Path(workdir).rglob("events.out.*"))
    return json.loads(_run("-c", read, str(folder)).splitlines()[-1])


def _answers(model: str, faces: str) -> list[dict]:
    people = sorted(pathlib.Path(faces).glob("person_*"))[:3]
    images = [str(sorted(person.iterdir())[number]) for person in people for number in (0, 1)]
    pairs = zip(images, images[1:] + images[:1], strict=True)
    return [
        json.loads(_run("-m", "fv.verify", f"--model={model}", "--json", *pair, codes=(0, 1)))
        for pair in pairs
    ]


def _digests(folder: str) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in pathlib.Path(folder).glob("*.tfrecord")
    }


def _run(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in codes:
        raise UserError(
            f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()[-300:]}"
        )
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)


if __name__ == "__main__":
    cli.run(record, ReferenceOptions, description=__doc__)
