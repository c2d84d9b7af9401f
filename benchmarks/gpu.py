"""Checks fv on a GPU, and measures what benchmarks/precision.py and training.py leave out.

    python benchmarks/gpu.py --parts=losses --json=losses.json    # a part takes under ten minutes
    python benchmarks/gpu.py --small --json=small.json            # all parts, small, on any CPU

Each row is a process of its own, so that no row has the memory of another. All rows use synthetic
faces of 250 pixels, which the first call makes in --folder. Without a GPU, its rows compute on the
CPU. The parts:

    losses    50 steps from the same weights on the CPU and the GPU, in each precision
    memory    peak memory and rate of fv.train, in each precision, with and without XLA
    logical   losses of one GPU, and of the same GPU as two logical ones under mirrored
    input     rate of decoding on all cores, and the share of the time that the GPU waits for it
    serving   latency and pairs/s of the SavedModel
"""

import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

# For `benchmarks`, when run as a script.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks import parts
from benchmarks.side_by_side import machine
from fv import cli, manifest, workdir
from fv import options as fv_options
from fv.errors import UserError
from fv.options import option

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PARTS = ("losses", "memory", "logical", "input", "serving")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
FIRST = 10  # steps whose losses are compared before rounding errors have grown
LOGICAL_MIB = 16 << 10  # memory of a logical GPU
CPU = {"CUDA_VISIBLE_DEVICES": "-1"}
NO_TF32 = {"NVIDIA_TF32_OVERRIDE": "0"}
FLAGS = (
    "--head=sigmoid --optimizer=sgd --learning_rate=0.01 --warmup_steps=0 --decay=constant "
    "--validate_every=0 --log_every=1 --noaugment"
)


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured."""

    parts: str = option(",".join(PARTS), f"Which parts to run, of {', '.join(PARTS)}, with commas.")
    folder: str = option("/tmp/fv-gpu-benchmark", "Folder for faces, shards and the first run.")
    image_size: int = option(139, "Side of the network's input in pixels.", lower=16)
    pairs: int = option(256, "Pairs in a step of memory and input.", lower=2)
    compared_pairs: int = option(16, "Pairs in a step of losses and logical, even.", lower=2)
    steps: int = option(50, "Steps of a run.", lower=2)
    seconds: float = option(
        540.0, "Longest time of the call; rows that are not done by then count as failed.", lower=1
    )
    small: bool = option(False, "Small enough for a CPU: 12 steps of the tiny backbone.")
    json: str | None = option(None, "File to write the figures to.")
    row: str | None = option(None, "Runs one row, given as JSON; this program gives it to itself.")


def main(options: BenchmarkOptions) -> None:
    """Runs the parts one after the other."""
    if options.row:
        kind, *arguments = json.loads(options.row)
        print(json.dumps(ROWS[kind](*arguments)))
        return
    if options.small:
        sizes = dict(image_size=32, pairs=8, compared_pairs=4, steps=12)
        options = dataclasses.replace(options, folder=f"{options.folder}-small", **sizes)
    bench = Bench(options)

    def measure(part: str) -> dict:
        return {"machine": machine.describe(), **getattr(bench, part)()}

    parts.run(options.parts, PARTS, measure, options.json)


class Bench:
    """The parts, by name; each returns figures by row."""

    def __init__(self, options: BenchmarkOptions):
        """Makes faces, shards and a run of two steps on the CPU, where there are none yet."""
        self._options, self._end = options, time.monotonic() + options.seconds
        names = ("faces", "shards", "start")
        self._faces, self._shards, self._start = (f"{options.folder}/{name}" for name in names)
        people, pairs = (24, 200) if options.small else (400, 8000)
        if not os.path.exists(os.path.join(self._shards, manifest.FILE_NAME)):
            drawn = (f"--identities={people}", "--images_per_identity=12", "--image_size=250")
            _run("tools/make_faces.py", f"--output={self._faces}", *drawn, "--seed=1")
            made = (f"--images={self._faces}", f"--output={self._shards}", f"--pairs={pairs}")
            _run("tools/make_tfrecords.py", *made)
        if not os.path.exists(os.path.join(self._start, workdir.CHECKPOINTS)):
            flags = (*self._flags(options.compared_pairs), "--steps=2", "--init_weights=none")
            _run("-m", "fv.train", *flags, f"--workdir={self._start}", environment=CPU)

    def losses(self) -> dict:
        """Compares the losses of all steps with those of the CPU."""
        rows = {}
        for device, environment in {"GPU": {}, "CPU": CPU, "GPU without TF32": NO_TF32}.items():
            for precision in PRECISIONS if environment != NO_TF32 else PRECISIONS[:1]:
                flags = self._flags(self._options.compared_pairs, precision)
                rows[f"{device}, {precision}"] = self._row("training", flags, environment)
        for name, row in rows.items():
            precision = name.partition(", ")[2]
            row["from the CPU in float32"] = _compare(row, rows[f"CPU, {PRECISIONS[0]}"])
            row["from the CPU in its precision"] = _compare(row, rows[f"CPU, {precision}"])
        return rows

    def memory(self) -> dict:
        """Returns peak memory, images/s and share of waiting of fv.train."""
        return {
            f"{precision}, {xla}": self._row(
                "training", [*self._flags(self._options.pairs, precision), f"--{xla}"]
            )
            for xla in ("noxla", "xla")
            for precision in PRECISIONS
        }

    def logical(self) -> dict:
        """Compares the losses of one replica with those of two that share the device."""
        flags = self._flags(self._options.compared_pairs)
        one = self._row("training", flags, NO_TF32)
        two = self._row("training", flags, NO_TF32, replicas=2)
        return {"one replica": one, "two replicas": two, "difference": _compare(two, one)}

    def input(self) -> dict:
        """Returns the figures of tools/benchmark.py: decoding alone, steps alone, both together."""
        flags = self._flags(self._options.pairs, "mixed_bfloat16")
        more = ["--augment", f"--seconds={1 if self._options.small else 10}"]
        return {xla: self._row("input", [*flags, *more, f"--{xla}"]) for xla in ("noxla", "xla")}

    def serving(self) -> dict:
        """Returns figures of benchmarks/serving.py."""
        return self._row("serving", [self._start, self._shards, self._faces, self._options.small])

    def _flags(self, pairs: int, precision: str = PRECISIONS[0]) -> list[str]:
        flags = {
            "tfrecords": self._shards,
            "backbone": "tiny" if self._options.small else "inception_v3",
            "image_size": self._options.image_size,
            "steps": self._options.steps,
            "global_batch_size": pairs,
            "precision": precision,
            "init_weights": self._start,
        }
        return [*(f"--{name}={value}" for name, value in flags.items()), *FLAGS.split()]

    def _row(self, kind: str, given: list, environment: dict | None = None, **named) -> dict:
        """Returns the figures of a row, or why it failed; prints them, should the call be cut."""
        row = [kind, given, *named.values()]
        try:
            left = max(1.0, self._end - time.monotonic())
            text = _run(__file__, f"--row={json.dumps(row)}", environment=environment, seconds=left)
            found = json.loads(text.splitlines()[-1])
        except UserError as error:
            found = {"failed": str(error)}
        print(json.dumps([environment, row, found]), file=sys.stderr, flush=True)
        return found


def _compare(row: dict, reference: dict) -> dict | None:
    """Returns the largest relative difference of losses in the first steps and in all."""
    if "failed" in row or "failed" in reference:
        return None
    pairs = zip(row["losses"], reference["losses"], strict=True)
    apart = [abs(loss - expected) / abs(expected) for loss, expected in pairs]
    return {f"first {FIRST} steps": max(apart[:FIRST]), "all steps": max(apart)}


def _run(*arguments: str, environment: dict | None = None, seconds: float | None = None) -> str:
    """Returns what a command printed. Raises UserError if it failed or took longer."""
    path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}".strip(":")
    variables = os.environ | {"PYTHONPATH": path} | (environment or {})
    command, told = [sys.executable, *arguments], dict(capture_output=True, text=True)
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=variables, timeout=seconds, check=False, **told
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{arguments[0]} was not done after {seconds:.0f} s") from error
    if done.returncode:
        raise UserError(f"{' '.join(arguments)[:200]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


# The rows. Each runs in a process of its own and returns figures as JSON values.


def train(flags: list[str], replicas: int = 1) -> dict:
    """Trains as fv.train does; two replicas are two logical devices of the first one."""
    from fv import quiet_tensorflow  # noqa: F401, I001
    import tensorflow as tf

    from benchmarks.training import read_logged_losses
    from fv.training import run
    from fv.training.options import TrainOptions

    gpus = tf.config.list_physical_devices("GPU")
    if replicas > 1:
        flags = [*flags, "--strategy=mirrored", "--sync_batch_norm"]
        flags += [] if gpus else [f"--virtual_devices={replicas}"]
    if replicas > 1 and gpus:
        logical = tf.config.LogicalDeviceConfiguration(memory_limit=LOGICAL_MIB)
        tf.config.set_logical_device_configuration(gpus[0], [logical] * replicas)
    with tempfile.TemporaryDirectory() as folder:
        values, _ = cli.parse(TrainOptions, ["fv.train", *flags, f"--workdir={folder}"])
        run.train(fv_options.from_flags(TrainOptions, values))
        summary = workdir.starts(folder)[-1]["ended"]
        losses = [loss for _, loss in read_logged_losses(folder)]
    device, peak = "CPU", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    if gpus:
        device = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
        peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    figures = {"device": device, "peak_mib": peak >> 20, "losses": losses}
    figures["images_per_s"] = 2 * summary["pairs_per_second"]
    return figures | {"input_share": summary["input_share"]}


def read(flags: list[str]) -> dict:
    """Measures input and steps as tools/benchmark.py does."""
    from fv import benchmarking, quiet_tensorflow  # noqa: F401

    values, _ = cli.parse(benchmarking.BenchmarkOptions, ["benchmark", *flags])
    options = fv_options.from_flags(benchmarking.BenchmarkOptions, values)
    return benchmarking.benchmark(options).figures()


def serve(given: list) -> dict:
    """Exports a run, and measures latency and concurrent callers of the SavedModel."""
    from benchmarks import serving

    run, shards, faces, small = given
    with tempfile.TemporaryDirectory() as folder:
        _run("-m", "fv.export", f"--workdir={run}", f"--tfrecords={shards}", f"--output={folder}")
        sizes = dict(repeats=3, requests=32) if small else {}
        options = serving.BenchmarkOptions(run, f"{folder}/1", faces, **sizes)
        parts_of_it = (serving.measure_latency, serving.measure_concurrency)
        return {part.__name__.removeprefix("measure_"): part(options) for part in parts_of_it}


ROWS = {"training": train, "input": read, "serving": serve}

if __name__ == "__main__":
    cli.run(main, BenchmarkOptions, description=__doc__)
