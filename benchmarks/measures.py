"""Measures how much of fv a reader has to open.

    python benchmarks/measures.py [--json=FILE]

Prints a markdown table. For the three files-per-path figures the real commands run on synthetic
faces, every process under a profiler. A file counts if one of its functions, not only its module
body, runs inside the path's window:

    record      what builds tf.data pipelines or is traced into a graph until gradients are first
                computed, and what runs in decoding processes and TensorFlow's threads
    JPEG        from the first opened image to the first renamed shard
    checkpoint  from the first read of the checkpoint to the end of fv.export, and from loading
                the SavedModel to the end of fv.verify

The windows depend on no name in fv, so figures of different versions are comparable.
"""

import dataclasses
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
# Each Python process imports this first. It logs when functions of fv run, ten times a second at
# most, and the events at which a window begins or ends. `*` marks functions that build or trace a
# graph, `+` those in child processes and TensorFlow's threads.
TRACER = """
import os, sys, threading, time
FV = os.environ["MEASURE_FV"]
LOG = os.open(os.environ["MEASURE_LOG"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
MAIN = int(os.environ.setdefault("MEASURE_MAIN", str(os.getpid())))
CALLS = {"gradient": "backprop.py", "load": "load.py",
         "NewCheckpointReader": "py_checkpoint_reader.py"}
seen, traced = set(), [0]
def log(name):
    os.write(LOG, f"{time.time()} {name}\\n".encode())
def see(code, mark):
    key = code.co_filename, mark, int(time.time() * 10)
    if code.co_filename.startswith(FV) and code.co_name != "<module>" and key not in seen:
        seen.add(key)
        log(code.co_filename[len(FV):] + mark)
def profile(frame, event, _, mark=""):
    code = frame.f_code
    name, path = code.co_name, code.co_filename
    if name == "func_graph_from_py_func" and event in ("call", "return"):
        traced[0] += 1 if event == "call" else -1
    elif event != "call":
        return
    elif path.startswith(FV):
        see(code, "+" if os.getpid() != MAIN else "*" if traced[0] else mark)
    elif name == "converted_call":  # AutoGraph runs a copy of the function
        function = frame.f_locals.get("f")
        function = getattr(function, "__func__", function)
        if hasattr(function, "__code__"):
            see(function.__code__, "*")
    elif name == "__init__" and path.endswith("data/ops/dataset_ops.py"):
        while frame := frame.f_back:
            see(frame.f_code, "*")
    elif name in CALLS and path.endswith(CALLS[name]) and "tensorflow" in path:
        log(name)
def profile_tensorflow(frame, event, given):
    profile(frame, event, given, "+")
def audit(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".jpg"):
        log("open.jpg")
    elif event == "os.rename" and str(arguments[1]).endswith(".tfrecord"):
        log("rename.tfrecord")
sys.addaudithook(audit)
threading.setprofile(profile)
sys.setprofile(profile)
"""
# TensorFlow calls Python functions of tf.data in threads of its own, which are profiled too.
TRAIN = """
import runpy, sys, fv.quiet_tensorflow, sitecustomize
from tensorflow.python.ops import script_ops
call = script_ops.FuncRegistry.__call__
script_ops.FuncRegistry.__call__ = lambda *given: (
    sys.setprofile(sitecustomize.profile_tensorflow), call(*given))[1]
runpy.run_module("fv.train", run_name="__main__", alter_sys=True)
"""
IMPORTED = "import sys, fv.train; print(sum(name.startswith('fv.') for name in sys.modules))"


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
    help_lines = _python("-m", "fv.train", "--help").splitlines()
    figures["flags of fv.train"] = sum(line.startswith("  --") for line in help_lines)
    checked = _python("-m", "mypy", codes=(0, 1))
    if not checked:
        raise UserError("mypy is not installed: run make lint once")
    figures["type checker errors"] = checked.count(": error:")
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
    converted = _trace(folder / "convert", *convert)
    train = (f"--tfrecords={shards}", f"--workdir={run}", *TINY, "--validate_every=0")
    trained = _trace(folder / "train", "-c", TRAIN, *train)
    export_flags = (f"--workdir={run}", f"--tfrecords={shards}", f"--output={export}")
    exported = _trace(folder / "export", "-m", "fv.export", *export_flags)
    images = [str(path) for path in sorted(pathlib.Path(faces).rglob("*.jpg"))[:2]]
    verify = ("-m", "fv.verify", f"--model={export}", *images)
    verified = _trace(folder / "verify", *verify, codes=(0, 1))
    record = {name for name in _files_between(trained, "", "gradient") if name.endswith("*")}
    record |= {name for _, name in trained if name.endswith("+")}
    jpeg = _files_between(converted, "open.jpg", "rename.tfrecord")
    checkpoint = _files_between(exported, "NewCheckpointReader") | _files_between(verified, "load")
    paths = {
        "files a record passes from shard to gradient": record,
        "files a JPEG passes from folder to shard": jpeg,
        "files a checkpoint passes to a verdict": checkpoint,
    }
    return {title: len({name.strip("*+") for name in found}) for title, found in paths.items()}


def _trace(folder: pathlib.Path, *arguments: str, codes: tuple[int, ...] = (0,)) -> list[tuple]:
    """Runs a command under the profiler and returns what its processes logged: (time, name)."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(TRACER, encoding="utf-8")
    log = folder / "log"
    paths = {"MEASURE_FV": f"{ROOT}/fv/", "MEASURE_LOG": str(log)}
    _python(*arguments, codes=codes, path=f"{folder}:{ROOT}", environment=paths)
    lines = (line.split(" ", 1) for line in log.read_text(encoding="utf-8").splitlines())
    return sorted((float(time), name) for time, name in lines)


def _files_between(logged: list[tuple], first: str, last: str = "") -> set[str]:
    """Returns the files that ran between two events; by default the process's start and end."""
    begin = next((time for time, name in logged if name == first), 0.0)
    end = next((time for time, name in logged if name == last and time > begin), float("inf"))
    ran = {name for time, name in logged if begin - 0.1 <= time <= end}
    return {name for name in ran if ".py" in name}


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
