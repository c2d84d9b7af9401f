"""configs/slurm/train.sbatch in a real Slurm cluster on this machine."""

import contextlib
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterator

import pytest

from fv import files, workdir
from tests.training import slurm_cluster
from tests.training.slurm_cluster import SlurmCluster
from tests.training.test_multi_worker import FLAGS, last_step

pytestmark = pytest.mark.slow
SCRIPT = "configs/slurm/train.sbatch"
LONGEST_S = 900.0  # for anything that is waited for, on a busy machine
# Between the ends of two workers: Slurm kills the last one 30 s (KillWait) after the first signal.
APART_S = 30.0
# Of a job. The script asks for SIGTERM five minutes before, and Slurm sends it up to one earlier.
MINUTES = 8
ENDED = re.compile(r"task (\d): Exited with exit code (\d+)")  # of srun, also of a cancelled job


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[SlurmCluster]:
    if program := slurm_cluster.missing():
        pytest.skip(f"{program} is not installed (apt install slurm-wlm munge)")
    if os.getuid():
        pytest.skip("Slurm's daemons need root")
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(slurm_cluster.run(tmp_path_factory.mktemp("slurm")))
        except OSError as error:
            pytest.skip(f"no network namespaces: {error}")
        yield running


@pytest.fixture(autouse=True)
def end_jobs(cluster) -> Iterator[None]:
    """Leaves no job of a failed test to the next one."""
    yield
    cluster.cancel("--user=root")


def wait_until(done: Callable[[], object], cluster: SlurmCluster, job: int) -> None:
    """Polls until `done()`."""
    deadline = time.monotonic() + LONGEST_S
    while not done():
        assert time.monotonic() < deadline, f"{cluster.state(job)}\n{cluster.log(job)}"
        time.sleep(0.2)


def submit(cluster: SlurmCluster, shards: pathlib.Path, folder: pathlib.Path, *flags: str) -> int:
    """Submits the script as it is, for a run on the CPU that does not end by itself."""
    run = [*FLAGS, "--precision=float32", "--global_batch_size=8", "--checkpoint_every=50"]
    run += ["--validate_every=0", "--steps=1000000"]
    return cluster.submit(f"--time={MINUTES}", SCRIPT, shards, folder, *run, *flags)


def ends(cluster: SlurmCluster, job: int) -> list[tuple[str, str]]:
    """(task, exit code) in the order of their ends, over all starts of the job."""
    return ENDED.findall(cluster.log(job))


def first_steps(folder: pathlib.Path) -> list[int]:
    """The step at which each start of a run began."""
    path = folder / workdir.RUN
    starts = files.load_json(str(path))["starts"] if path.exists() else []
    return [start["first_step"] for start in starts]


def test_the_time_limit_saves_and_requeues_and_a_cancelled_job_saves(shards, tmp_path, cluster):
    folder = tmp_path / "run"
    job = submit(cluster, shards, folder)
    wait_until(lambda: ends(cluster, job), cluster, job)
    first = time.monotonic()
    wait_until(lambda: len(ends(cluster, job)) == 2, cluster, job)
    assert time.monotonic() - first < APART_S
    assert sorted(ends(cluster, job)) == [("0", "138"), ("1", "138")], cluster.log(job)
    saved = last_step(folder)
    assert f"stopped as asked, saved at step {saved}" in cluster.log(job)

    wait_until(lambda: last_step(folder) > saved, cluster, job)
    assert cluster.state(job) == "RUNNING 1" and first_steps(folder) == [0, saved]

    cluster.cancel(job)
    wait_until(lambda: cluster.state(job) == "CANCELLED 1", cluster, job)
    wait_until(lambda: len(ends(cluster, job)) == 4, cluster, job)
    assert f"stopped as asked, saved at step {last_step(folder)}" in cluster.log(job)


def test_a_job_whose_slurmd_is_killed_continues_when_it_is_back(shards, tmp_path, cluster):
    folder = tmp_path / "run"
    job = submit(cluster, shards, folder)
    wait_until(lambda: last_step(folder), cluster, job)
    cluster.kill_node("n2")
    wait_until(lambda: cluster.state(job) == "PENDING 1", cluster, job)
    cluster.start_node("n2")
    wait_until(lambda: len(first_steps(folder)) == 2, cluster, job)
    assert first_steps(folder)[1] > 0
    cluster.cancel(job)
    wait_until(lambda: cluster.state(job) == "CANCELLED 1", cluster, job)


def test_a_user_error_fails_the_job_and_does_not_requeue_it(shards, tmp_path, cluster):
    job = submit(cluster, shards, tmp_path / "run", "--global_batch_size=7")
    wait_until(lambda: cluster.state(job) == "FAILED 0", cluster, job)
    assert "--global_batch_size=7 does not divide over 2 replicas" in cluster.log(job)
    assert sorted(ends(cluster, job)) == [("0", "2"), ("1", "2")]
