"""Tests of fv.benchmarking, fv.metering and tools/benchmark.py."""

import dataclasses
import itertools
import json
import subprocess
import sys
import time

import pytest

from fv import benchmarking, cli, metering
from fv import options as fv_options
from fv.benchmarking import BenchmarkOptions, Report
from fv.errors import UserError
from fv.metering import Rate
from fv.training.options import OptimizerOptions, StrategyOptions, TrainOptions
from tests.conftest import TINY
from tools import benchmark


@pytest.fixture(autouse=True)
def no_warm_up(monkeypatch):
    monkeypatch.setattr(benchmarking, "WARM_UP_S", 0.0)


@pytest.fixture
def options(shards):
    return BenchmarkOptions(str(shards), model=TINY, global_batch_size=8, seconds=0.2)


def report(host: float, model: float, *, device: str = "GPU", accelerators: int = 1) -> Report:
    rates = [
        Rate(images=int(rate), seconds=1.0, cpu_seconds=4.0)
        for rate in (host, model, min(host, model))
    ]
    rest = dict(
        input_share=0.0, cores=4, accelerators=accelerators, device=device, global_batch_size=8
    )
    return Report(*rates, **rest)


def test_the_figures_are_not_written_over_a_file_of_the_shards(options, shards):
    before = (shards / "manifest.json").read_bytes()
    with pytest.raises(
        UserError, match=r"--json=.*manifest\.json is a file that this command reads"
    ):
        benchmark.main(dataclasses.replace(options, json=str(shards / "manifest.json")))
    assert (shards / "manifest.json").read_bytes() == before


def test_a_rate_counts_images_over_wall_time_and_over_cpu_time():
    slow = (time.sleep(0.01) or 5 for _ in itertools.count())
    rate = metering.measure(slow, int, seconds=0.2)
    assert rate.images % 5 == 0 and 0 < rate.images_per_s <= 500
    assert rate.images_per_s == rate.images / rate.seconds
    assert metering.Rate(images=100, seconds=0.5, cpu_seconds=0.25).images_per_cpu_s == 400


def test_the_warm_up_lasts_as_many_images_as_asked():
    batches = iter(range(1, 1000))
    metering.measure(batches, lambda _: 1, seconds=0.0, warm_up_images=100)
    assert next(batches) == 102  # 100 before the clock, one under it


def test_the_time_of_child_processes_counts():
    before = metering.cpu_seconds()
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert metering.cpu_seconds() - before > 0.25
        child.kill()


def test_the_slower_side_is_the_bottleneck():
    assert report(host=1000, model=4000).bottleneck == "input"
    assert "The input is the bottleneck: it gives 0.25" in report(host=1000, model=4000).verdict()
    slow_model = report(host=4000, model=1000).verdict()
    assert "The model is the bottleneck: the input gives 4.0 times its rate." in slow_model
    assert "just keeps up" in report(host=1020, model=1000).verdict()


def test_cores_per_accelerator_follow_from_images_per_cpu_second():
    fed = report(
        host=1000, model=4000, accelerators=2
    )  # 250 images per CPU-second; one GPU takes 2,000
    assert fed.cores_per_accelerator == 8.0 and fed.accelerators_fed == 0.5
    assert "One GPU needs 8 cores of input (8.00 busy); the 4 cores here feed 0.5." in fed.verdict()


def test_on_a_cpu_the_verdict_says_that_the_cores_are_shared():
    assert "which the step shares with it" in report(host=4000, model=1000, device="CPU").verdict()


@pytest.mark.slow
def test_three_rates_are_measured_on_real_shards(options):
    measured = benchmarking.benchmark(options)
    figures = measured.figures()
    assert min(figures[f"{part}_images_per_s"] for part in ("host", "model", "together")) > 0
    assert figures["step_ms"] == pytest.approx(1000 * 16 / figures["model_images_per_s"], rel=0.01)
    assert figures["accelerators"] == 1 and len(measured.lines()) == 4


def test_parts_of_a_step_are_counted_with_the_images_they_hold(options, monkeypatch):
    counted = []

    def measure(batches, images_in, **spans):
        if images_in is not int:  # the input alone; the steps count their own
            batch = next(batches)
            counted.append((images_in(batch), 2 * len(batch["images"])))
        return Rate(1, 1.0, 1.0)

    monkeypatch.setattr(metering, "measure", measure)
    benchmarking.benchmark(
        dataclasses.replace(options, optimization=OptimizerOptions(accumulate_steps=4))
    )
    assert counted == [(4, 4)]


def test_parts_that_do_not_divide_a_batch_are_refused(options):
    with pytest.raises(UserError, match="accumulate_steps"):
        benchmarking.benchmark(
            dataclasses.replace(options, optimization=OptimizerOptions(accumulate_steps=3))
        )


@pytest.mark.slow
def test_a_mirrored_strategy_is_measured_too(options):
    mirrored = dataclasses.replace(
        options, compute=StrategyOptions(strategy="mirrored", virtual_devices=2)
    )
    assert benchmarking.benchmark(mirrored).accelerators == 2


def test_several_hosts_are_refused(options):
    with pytest.raises(UserError, match="multi_worker is not measured"):
        benchmarking.benchmark(
            dataclasses.replace(options, compute=StrategyOptions(strategy="multi_worker"))
        )


def test_the_command_takes_a_runs_flagfile_and_writes_json(shards, tmp_path, capsys):
    flagfile = tmp_path / "train.flags"
    training = TrainOptions("elsewhere", "run", model=TINY, steps=7, global_batch_size=8)
    flagfile.write_text(fv_options.to_flagfile(training))  # as of a run: all of its flags
    flags = [f"--flagfile={flagfile}", f"--tfrecords={shards}", "--seconds=0.1"]
    assert call(*flags, f"--json={tmp_path / 'host.json'}") == 0
    printed = capsys.readouterr().out
    assert "is the bottleneck" in printed or "keeps up" in printed
    assert json.loads((tmp_path / "host.json").read_text())["cores_per_accelerator"] > 0


def test_a_folder_without_shards_is_one_line(capsys):
    assert call("--tfrecords=no/such/folder") == cli.EXIT_ERROR
    said = capsys.readouterr().err
    assert "no/such/folder" in said and said.count("\n") == 1


def call(*flags: str) -> int:
    """Exit code of tools/benchmark.py."""
    with pytest.raises(SystemExit) as ended:
        cli.run(benchmark.main, BenchmarkOptions, argv=["benchmark.py", *flags])
    return ended.value.code or 0
