import os
import pathlib
import subprocess

import pytest
import yaml
from absl import flags

from fv import options
from fv.training.clusters import finding
from fv.training.options import TrainOptions
from tests.training.clusters.test_slurm import task

ROOT = pathlib.Path(__file__).parent.parent.parent.parent
KUBERNETES = ROOT / "configs" / "kubernetes"


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


def test_the_tfjob_is_one_that_kubeflow_and_fv_read():
    (job,) = yaml.safe_load_all((KUBERNETES / "tfjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "TFJob")
    worker = job["spec"]["tfReplicaSpecs"]["Worker"]
    assert worker["restartPolicy"] == "ExitCode"
    (container,) = worker["template"]["spec"]["containers"]
    assert container["name"] == "tensorflow"  # the operator sets TF_CONFIG in this one only
    assert container["command"] == ["python", "-m", "fv.train"]
    resolved = resolve(container["args"])
    assert (resolved.compute.strategy, resolved.compute.cluster) == ("multi_worker", "kubernetes")
    gpus = worker["replicas"] * container["resources"]["limits"]["nvidia.com/gpu"]
    assert resolved.global_batch_size % gpus == 0


def test_the_indexed_jobs_pods_find_each_other_by_the_services_names():
    service, job = yaml.safe_load_all((KUBERNETES / "indexed_job.yaml").read_text())
    name, spec = job["metadata"]["name"], job["spec"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    assert service["metadata"]["name"] == spec["template"]["spec"]["subdomain"]
    assert service["spec"]["selector"] == {"job-name": name} and service["spec"]["clusterIP"] == "None"
    (container,) = spec["template"]["spec"]["containers"]
    (port,) = (each["containerPort"] for each in container["ports"])
    for index in range(spec["completions"]):
        resolved = resolve([each.replace("$(JOB_COMPLETION_INDEX)", str(index)) for each in container["args"]])
        found = finding.find(resolved.compute, {})
        assert found.index == index and found.size == spec["completions"]
        assert found.addresses[index] == f"{name}-{index}.{service['metadata']['name']}:{port}"


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (2, False), (138, True), (137, True)])
def test_the_slurm_script_starts_what_fv_reads_and_requeues_what_can_go_on(tmp_path, code, requeued):
    tools = {"srun": f'printf "%s\\n" "$@" > {tmp_path}/arguments; exit {code}', "scontrol": f"touch {tmp_path}/$1"}
    for name, body in tools.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "2"}
    script = [str(ROOT / "configs" / "slurm" / "train.sbatch"), "/shared/my shards", "/shared/run", "--steps=7"]
    done = subprocess.run(script, env=environment, check=False)
    assert done.returncode == code and (tmp_path / "requeue").exists() == requeued
    srun = (tmp_path / "arguments").read_text().splitlines()
    assert srun[:4] == ["--distribution=block", "python", "-m", "fv.train"]
    resolved = resolve(srun[4:])
    assert (resolved.tfrecords, resolved.workdir, resolved.steps) == ("/shared/my shards", "/shared/run", 7)
    assert finding.find(resolved.compute, task(2)).index == 2


def test_the_slurm_script_says_what_it_needs():
    done = subprocess.run([str(ROOT / "configs" / "slurm" / "train.sbatch")], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "usage: sbatch train.sbatch TFRECORDS WORKDIR" in done.stderr
