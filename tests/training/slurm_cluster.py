"""A Slurm cluster of one controller and two nodes, each in a network namespace of its own.

Each node has four GPUs, which are device files without a GPU behind them.
"""

import contextlib
import pathlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.side_by_side import hosts
from benchmarks.side_by_side.hosts import Hosts

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("munged", "slurmctld", "slurmd")  # Debian: slurm-wlm, munge
_NAMES = ("controller", "n1", "n2")  # host names by place
_GPUS = 4
_CONFIG = """
ClusterName=fv
SlurmctldHost=controller({addresses[0]})
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SlurmdParameters=config_overrides
SlurmdTimeout=20
ReturnToService=2
NodeName=n1 NodeAddr={addresses[1]} CPUs=32 Gres=gpu:4
NodeName=n2 NodeAddr={addresses[2]} CPUs=32 Gres=gpu:4
PartitionName=all Nodes=n[1-2] Default=YES
"""


class SlurmCluster:
    """A running cluster.

    Attributes:
      folder: of its configuration, its state and the jobs' logs.
    """

    def __init__(self, made: Hosts, folder: pathlib.Path):
        """Writes the configuration and starts the daemons."""
        self.folder, self._hosts = folder, made
        self._daemons: dict[str, subprocess.Popen] = {}
        (folder / "state").mkdir()
        (folder / "slurm.conf").write_text(_CONFIG.format(addresses=made.addresses, folder=folder))
        (folder / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu File={folder}/gpu[0-3]\n")
        for gpu in range(_GPUS):
            subprocess.run(["mknod", f"{folder}/gpu{gpu}", "c", "1", "3"], check=True)
        named = zip(made.addresses, _NAMES, strict=True)
        (folder / "hosts").write_text("".join(f"{each} {name}\n" for each, name in named))
        # No GPU is there, and Slurm sets CUDA_VISIBLE_DEVICES for each task.
        python = folder / "python"
        python.write_text(f'#!/bin/sh\nCUDA_VISIBLE_DEVICES=-1 exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        key = folder / "munge.key"
        key.write_bytes(bytes(range(128)))
        key.chmod(0o400)
        own = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        self._start(
            "controller", f"munged --foreground --force --socket={folder}/munge.socket", *own
        )
        self._start("controller", "slurmctld -D")
        self.start_node("n1")
        self.start_node("n2")

    def start_node(self, name: str) -> None:
        """Starts a node's slurmd."""
        self._start(name, f"slurmd -D -N {name}")

    def kill_node(self, name: str) -> None:
        """Kills a node's slurmd; its jobs live on."""
        self._daemons[name].kill()
        self._daemons[name].wait()

    def submit(self, *arguments: object) -> int:
        """Submits a job from the checkout with `sbatch`, and returns its number."""
        output = self.folder / "job-%j.log"
        said = self._run("sbatch", "--parsable", f"--output={output}", *map(str, arguments))
        return int(said)

    def log(self, job: int) -> str:
        """What a job has printed."""
        path = self.folder / f"job-{job}.log"
        return path.read_text() if path.exists() else ""

    def cancel(self, job: int | str) -> None:
        """Cancels a job, or what else `scancel` takes."""
        self._run("scancel", str(job))

    def state(self, job: int) -> str:
        """Such as RUNNING, and the number of restarts: 'RUNNING 1'."""
        shown = self._run("scontrol", "show", "job", str(job))
        found = [re.search(rf"\b{name}=(\S+)", shown) for name in ("JobState", "Restarts")]
        return " ".join(each[1] for each in found if each)

    def stop(self) -> None:
        """Ends the daemons and all that they have started."""
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
        self._hosts.kill_all()

    def _start(self, name: str, command: str, *arguments: str) -> None:
        with open(self.folder / f"{command.split()[0]}-{name}.log", "a") as log:
            self._daemons[command.split()[0] if name == "controller" else name] = subprocess.Popen(
                self._command(name, f"exec {' '.join([command, *arguments])}"),
                stdout=log,
                stderr=log,
            )

    def _run(self, *command: str) -> str:
        """Runs a client command on the controller; right after the start it may be too early."""
        quoted = " ".join(f"'{each}'" for each in command)
        whole = self._command("controller", f"FV_PYTHON={self.folder}/python {quoted}")
        for _ in range(30):
            done = subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, check=False)
            if not done.returncode:
                return done.stdout
            time.sleep(1.0)
        raise AssertionError(done.stderr)

    def _command(self, name: str, script: str) -> list[str]:
        """Runs a shell script on a host that knows its own name and those of the others."""
        begin = f"hostname {name} && mount --bind {self.folder}/hosts /etc/hosts"
        script = f"{begin} && export SLURM_CONF={self.folder}/slurm.conf && {script}"
        inside = ("unshare", "--mount", "--uts", "sh", "-c", script)
        return self._hosts.command(_NAMES.index(name), *inside)


def missing() -> str | None:
    """The first program that is not installed."""
    return next((name for name in PACKAGES if shutil.which(name) is None), None)


@contextlib.contextmanager
def run(folder: pathlib.Path) -> Iterator[SlurmCluster]:
    """Sets up a cluster, and tears it down after the block.

    Raises:
      OSError: this process may not make network namespaces.
    """
    with hosts.connect(len(_NAMES)) as made:
        cluster = SlurmCluster(made, folder)
        try:
            yield cluster
        finally:
            cluster.stop()
