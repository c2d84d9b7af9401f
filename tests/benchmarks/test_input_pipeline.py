"""The side-by-side benchmark as a script."""

import json

import pytest

from benchmarks import input_pipeline
from fv import cli
from tests import samples


@pytest.mark.slow
def test_the_benchmark_writes_figures_and_a_chart(command, tmp_path):
    images = samples.write_images(tmp_path / "faces", identities=4, images=4, side=48)
    flags = [
        "--count=16",
        "--image_size=32",
        "--batch_size=4",
        "--rounds=1",
        "--seconds=0.2",
        "--warm_up=0",
    ]
    outputs = [f"--json={tmp_path / 'figures.json'}", f"--chart={tmp_path / 'chart.png'}"]
    choice = ["--sections=original", "--only=threads"]
    done = command("benchmarks/input_pipeline.py", f"--images={images}", *flags, *choice, *outputs)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (
        figures["original"]["ratios"]["best_peer"] == "threads" and figures["machine"]["cores"] >= 1
    )
    assert (tmp_path / "chart.png").exists() and "hard ceiling" in done.stdout


def test_an_unknown_peer_is_one_line(call, tmp_path):
    flags = [f"--images={tmp_path}", "--only=threads,no_such"]
    done = call(lambda: cli.run(input_pipeline.main, input_pipeline.BenchmarkOptions), *flags)
    assert done.returncode == 2 and "no_such" in done.stderr and done.stderr.count("\n") == 1
