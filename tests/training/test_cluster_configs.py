import os
import pathlib
import subprocess

import pytest
import yaml
from absl import flags

from fv import cli, options
from fv.training import cluster
from fv.training.options import TrainOptions
from tests.training.test_cluster import task

ROOT = pathlib.Path(__file__).parents[2]
KUBERNETES, SLURM = ROOT / "configs" / "kubernetes", ROOT / "configs" / "slurm"


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)  # the flagfiles are named relative to it


def resolve(arguments: list[str]) -> TrainOptions:
    values = flags.FlagValues()
    options.define_flags(TrainOptions, values)
    assert values(["fv-train", *arguments]) == ["fv-train"]
    resolved = options.from_flags(TrainOptions, values)
    resolved.compute.check()
    return resolved


def test_the_indexed_jobs_pods_find_each_other_by_the_services_names():
    service, job = yaml.safe_load_all((KUBERNETES / "indexed_job.yaml").read_text())
    name, spec = job["metadata"]["name"], job["spec"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    assert service["metadata"]["name"] == spec["template"]["spec"]["subdomain"]
    assert (
        service["spec"]["selector"] == {"job-name": name} and service["spec"]["clusterIP"] == "None"
    )
    (container,) = spec["template"]["spec"]["containers"]
    (port,) = (each["containerPort"] for each in container["ports"])
    for index in range(spec["completions"]):
        resolved = resolve(
            [each.replace("$(JOB_COMPLETION_INDEX)", str(index)) for each in container["args"]]
        )
        found = cluster.find_cluster(resolved.compute, {})
        assert found.index == index and found.size == spec["completions"]
        assert found.addresses[index] == f"{name}-{index}.{service['metadata']['name']}:{port}"


def test_the_indexed_job_starts_pods_again_but_for_a_mistake():
    _, job = yaml.safe_load_all((KUBERNETES / "indexed_job.yaml").read_text())
    (rule,) = job["spec"]["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["operator"] == "In"
    assert cli.EXIT_ERROR in rule["onExitCodes"]["values"]
    assert not {cli.EXIT_TEMPORARY, cli.EXIT_SAVED} & set(rule["onExitCodes"]["values"])
    assert job["spec"]["backoffLimit"] > 0


def put_commands(folder: pathlib.Path, commands: dict[str, str]) -> None:
    for name, body in commands.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)


@pytest.fixture
def submit(tmp_path, monkeypatch):
    """Runs the Slurm script with a Python that exits with its task's code, and a fake srun."""

    def run(*codes: int) -> subprocess.CompletedProcess:
        srun = [
            f'printf "%s\\n" "$@" > {tmp_path}/arguments',
            f"for task in {' '.join(map(str, range(len(codes))))}; do",
            '  SLURM_PROCID=$task "${@:2}" & all+=($!)',
            "done",
            'for each in "${all[@]}"; do',
            '  wait "$each"; ended=$?; ((ended > code)) && code=$ended',
            "done",
            "exit $((code))",
        ]
        python = f"codes=({' '.join(map(str, codes))}); exit ${{codes[$SLURM_PROCID]}}"
        put_commands(
            tmp_path,
            {"srun": "\n".join(srun), "python": python, "scontrol": f"touch {tmp_path}/$1"},
        )
        script = [str(SLURM / "train.sbatch"), "/shared/my shards", "/shared/run", "--steps=7"]
        return subprocess.run(script, capture_output=True, text=True, check=False)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    return run


@pytest.mark.parametrize(
    ("codes", "code", "requeued"),
    [
        ((0, 0), 0, False),
        ((2, 2), 2, False),
        ((138, 138), 138, True),
        ((138, 137), 138, True),
        ((137, 138, 0), 138, True),
        ((2, 138, 138), 2, False),  # the chief alone finds the workdir taken, or the disk full
        ((138, 1), 1, False),
        ((75, 75), 75, True),  # the network disk failed for a moment
        ((75, 138), 138, True),
        ((2, 75), 2, False),
    ],
)
def test_the_slurm_script_requeues_only_what_can_continue(submit, tmp_path, codes, code, requeued):
    done = submit(*codes)
    assert done.returncode == code and (tmp_path / "requeue").exists() == requeued
    assert sorted(done.stdout.splitlines()) == [
        f"task {task} ended with {ended}" for task, ended in enumerate(codes)
    ]


def test_the_slurm_script_starts_what_fv_reads(submit, tmp_path):
    submit(0)
    srun = (tmp_path / "arguments").read_text().splitlines()
    assert srun[:5] == ["--distribution=block", "configs/slurm/task.sh", "python", "-m", "fv.train"]
    resolved = resolve(srun[5:])
    assert (resolved.tfrecords, resolved.workdir, resolved.steps) == (
        "/shared/my shards",
        "/shared/run",
        7,
    )
    assert cluster.find_cluster(resolved.compute, task(2)).index == 2


def test_a_task_hands_a_signal_on_and_ends_with_the_code_of_its_command():
    saves = "trap 'exit 138' TERM; echo begun; while true; do sleep 0.05; done"
    with subprocess.Popen(
        [SLURM / "task.sh", "bash", "-c", saves], stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout.readline() == "begun\n"
        started.terminate()
        assert started.communicate(timeout=20)[0] == "task 0 ended with 138\n"
    assert started.returncode == 138


def test_the_slurm_script_says_what_it_needs():
    done = subprocess.run(
        [str(SLURM / "train.sbatch")], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "usage: sbatch train.sbatch TFRECORDS WORKDIR" in done.stderr
