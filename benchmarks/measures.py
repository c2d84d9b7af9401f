"""Measures how much of fv a reader has to open.

    python benchmarks/measures.py [--json=FILE]

Prints a markdown table. For the three files-per-path figures the real commands run on synthetic
faces, every process under a profiler. A file counts if one of its functions, not only its module
body, runs inside the path's window:

    record      from the second to the last computation of gradients of an eager training run
    JPEG        from the first opened image to the first renamed shard
    checkpoint  from the first read of the checkpoint to the end of fv.export, and from loading
                the SavedModel to the end of fv.verify

The windows depend on no name in fv, so figures of different versions are comparable.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from fv import cli, files
from fv.errors import UserError
from fv.options import option

ROOT = pathlib.Path(__file__).resolve().parent.parent
GUIDES = ("convert", "train", "evaluate", "serve", "cluster", "pipeline")
TINY = ("--backbone=tiny", "--image_size=48", "--global_batch_size=8", "--steps=8")
# Each Python process imports this first. It notes when functions of fv run, in hundredths of a
# second, and when a window begins or ends.
TRACER = """
import atexit, collections, json, os, sys, threading, time
FV, OUT = os.environ["MEASURE_FV"], os.environ["MEASURE_OUT"]
CALLS = {("backprop.py", "gradient"): "gradient", ("load.py", "load"): "load",
         ("py_checkpoint_reader.py", "NewCheckpointReader"): "read"}
ran, events = collections.defaultdict(set), collections.defaultdict(list)
def profile(frame, event, _):
    if event == "call":
        code = frame.f_code
        if code.co_filename.startswith(FV):
            if code.co_name != "<module>":
                ran[code.co_filename[len(FV):]].add(int(time.time() * 100))
        elif code.co_name in ("gradient", "load", "NewCheckpointReader"):
            name = CALLS.get((os.path.basename(code.co_filename), code.co_name))
            if name and "tensorflow" in code.co_filename:
                events[name].append(time.time())
def audit(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".jpg"):
        events["image"].append(time.time())
    elif event == "os.rename" and str(arguments[1]).endswith(".tfrecord"):
        events["shard"].append(time.time())
def save():
    sys.setprofile(None)
    with open(f"{OUT}/{os.getpid()}.json", "w") as file:
        json.dump({"ran": {name: sorted(at) for name, at in ran.items()}, "events": events}, file)
atexit.register(save)
try:
    from multiprocessing import util
    util.Finalize(None, save, exitpriority=-100)
    os.register_at_fork(after_in_child=lambda: util.Finalize(None, save, exitpriority=-100))
finally:
    sys.addaudithook(audit)
    threading.setprofile(profile)
    sys.setprofile(profile)
"""
# Steps run eagerly, so that Python runs in each. TensorFlow's own threads are profiled too.
EAGER = """
import runpy, sys, fv.quiet_tensorflow, sitecustomize, tensorflow as tf
from tensorflow.python.ops import script_ops
tf.config.run_functions_eagerly(True)
call = script_ops.FuncRegistry.__call__
script_ops.FuncRegistry.__call__ = lambda *given: (
    sys.setprofile(sitecustomize.profile), call(*given))[1]
runpy.run_module("fv.train", run_name="__main__", alter_sys=True)
"""
IMPORTED = "import sys, fv.train; print(sum(name.startswith('fv.') for name in sys.modules))"
FLAGS = """
import fv.train, fv.options
from fv.training.options import TrainOptions
print(len(fv.options.describe(TrainOptions)))
"""


@dataclasses.dataclass(frozen=True)
class MeasureOptions:
    """Where the figures go."""

    json: str | None = option(None, "Also write the figures to this file.")


def main(options: MeasureOptions) -> None:
    """Prints the figures as a markdown table."""
    figures = measure()
    print("| measure | value |\n|---|---|")
    for name, value in figures.items():
        print(f"| {name} | {value:,} |")
    if options.json:
        files.save_json(figures, options.json)


def measure() -> dict[str, int]:
    """Returns each figure by its name."""
    modules = list((ROOT / "fv").rglob("*.py"))
    figures = {
        "Python files in fv/": len(modules),
        "lines in fv/": sum(path.read_text(encoding="utf-8").count("\n") for path in modules),
    }
    with tempfile.TemporaryDirectory() as folder:
        figures |= _count_paths(pathlib.Path(folder))
    figures["fv modules that fv.train imports"] = int(_python("-c", IMPORTED))
    figures["flags of fv.train"] = int(_python("-c", FLAGS))
    figures["type checker errors"] = _count_type_errors()
    documents = {"README.md": ROOT / "README.md"}
    documents |= {f"docs/{name}.md": ROOT / "docs" / f"{name}.md" for name in GUIDES}
    for name, path in documents.items():
        if path.exists():
            figures[f"words of {name}"] = len(path.read_text(encoding="utf-8").split())
    return figures


def _count_paths(folder: pathlib.Path) -> dict[str, int]:
    """Runs the commands under the profiler and counts the files of each path."""
    faces, shards, run, export = (str(folder / name) for name in ("faces", "shards", "run", "out"))
    people = ("--identities=40", "--images_per_identity=4", "--seed=1")
    _python("tools/make_faces.py", f"--output={faces}", *people)
    convert = ("tools/make_tfrecords.py", f"--images={faces}", f"--output={shards}", "--pairs=400")
    traces = {"convert": _trace(folder / "convert", *convert)}
    train = (f"--tfrecords={shards}", f"--workdir={run}", *TINY, "--validate_every=0")
    traces["train"] = _trace(folder / "train", "-c", EAGER, *train)
    exported = (f"--workdir={run}", f"--output={export}")
    traces["export"] = _trace(folder / "export", "-m", "fv.export", *exported)
    images = [str(path) for path in sorted(pathlib.Path(faces).rglob("*.jpg"))[:2]]
    verify = ("-m", "fv.verify", f"--model={export}", *images)
    traces["verify"] = _trace(folder / "verify", *verify, codes=(0, 1))

    gradients = _events(traces["train"], "gradient")
    record = _files_between(traces["train"], gradients[1], gradients[-1])
    image, shard = _events(traces["convert"], "image"), _events(traces["convert"], "shard")
    jpeg = _files_between(traces["convert"], image[0], shard[0])
    read, load = _events(traces["export"], "read"), _events(traces["verify"], "load")
    checkpoint = _files_between(traces["export"], read[0])
    checkpoint |= _files_between(traces["verify"], load[0])
    return {
        "files a record passes from shard to gradient": len(record),
        "files a JPEG passes from folder to shard": len(jpeg),
        "files a checkpoint passes to a verdict": len(checkpoint),
    }


def _trace(folder: pathlib.Path, *arguments: str, codes: tuple[int, ...] = (0,)) -> list[dict]:
    """Runs a command under the profiler and returns what each of its processes noted."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(TRACER, encoding="utf-8")
    paths = {"MEASURE_FV": f"{ROOT}/fv/", "MEASURE_OUT": str(folder)}
    _python(*arguments, codes=codes, path=f"{folder}:{ROOT}", environment=paths)
    return [json.loads(path.read_text()) for path in folder.glob("*.json")]


def _events(traces: list[dict], name: str) -> list[float]:
    return sorted(time for trace in traces for time in trace["events"].get(name, ()))


def _files_between(traces: list[dict], begin: float, end: float = float("inf")) -> set[str]:
    return {
        name
        for trace in traces
        for name, times in trace["ran"].items()
        if any(begin * 100 - 1 <= time <= end * 100 for time in times)
    }


def _count_type_errors() -> int:
    done = subprocess.run(
        [sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        raise UserError(f"mypy failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout.count(": error:")


def _python(*arguments: str, codes=(0,), path=str(ROOT), environment=None) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path} | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in codes:
        raise UserError(f"{' '.join(arguments)[:200]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


if __name__ == "__main__":
    cli.run(main, MeasureOptions, description=__doc__)
