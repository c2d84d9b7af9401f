"""Where a run's cluster comes from: the flags, Slurm or TF_CONFIG."""

from collections.abc import Mapping

from fv.errors import UserError
from fv.training.clusters import hostlist, slurm, tf_config
from fv.training.clusters.cluster import Cluster
from fv.training.strategy_options import StrategyOptions

_SLURM = "slurm"


def find(options: StrategyOptions, environment: Mapping[str, str]) -> Cluster:
    """Finds the workers of this run.

    Raises:
      UserError: nothing names them, two things do, or what names them is wrong.
    """
    source, _, port = options.workers.partition(":")
    if source == _SLURM and options.worker_index is None:
        return slurm.read(environment, _number(port) if port else None)
    if options.workers:
        return _listed(options, environment)
    if options.worker_index is not None:
        raise UserError(
            f"--worker_index={options.worker_index} needs --workers=HOST:PORT,… beside it"
        )
    if not environment.get(tf_config.VARIABLE):
        ways = "--workers=HOST:PORT,… --worker_index=N, --workers=slurm, or TF_CONFIG in the environment"
        raise UserError(
            f"--strategy=multi_worker does not know the workers: give {ways} (docs/cluster.md)"
        )
    return tf_config.read(environment)


def _listed(options: StrategyOptions, environment: Mapping[str, str]) -> Cluster:
    if environment.get(tf_config.VARIABLE):
        raise UserError(
            f"--workers and {tf_config.VARIABLE} both name the workers: leave --workers out, or unset the variable"
        )
    if options.worker_index is None:
        raise UserError(
            "--workers needs --worker_index: the place of this machine in the list, from 0"
        )
    return Cluster(
        tuple(hostlist.expand(options.workers, "--workers")), options.worker_index
    ).check("--workers")


def _number(port: str) -> int:
    if not port.isdecimal():
        raise UserError(f"--workers=slurm:{port} names no port: give --workers=slurm:12345")
    return int(port)
