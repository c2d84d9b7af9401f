"""Where a run's cluster comes from: the flags, Slurm, Kubernetes or TF_CONFIG."""

from collections.abc import Mapping

from fv.errors import UserError
from fv.training.clusters import hostlist, slurm, tf_config
from fv.training.clusters.cluster import Cluster
from fv.training.strategy_options import StrategyOptions

_IN_KUBERNETES = "KUBERNETES_SERVICE_HOST"  # set in every container of a pod


def find(options: StrategyOptions, environment: Mapping[str, str]) -> Cluster:
    """Finds the workers of this run.

    Raises:
      UserError: nothing names them, two things do, or what names them is wrong.
    """
    if options.workers:
        return _listed(options, environment)
    if options.worker_index is not None:
        raise UserError(
            f"--worker_index={options.worker_index} needs --workers=HOST:PORT,… beside it"
        )
    return _FINDERS[options.cluster](options, environment)


def _listed(options: StrategyOptions, environment: Mapping[str, str]) -> Cluster:
    if options.cluster != "tf_config":
        raise UserError(
            f"--workers and --cluster={options.cluster} both name the workers: leave one of them out"
        )
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


def _from_tf_config(options: StrategyOptions, environment: Mapping[str, str]) -> Cluster:
    del options
    if not environment.get(tf_config.VARIABLE):
        ways = "--workers=HOST:PORT,… --worker_index=N, --cluster=slurm, or TF_CONFIG in the environment"
        raise UserError(
            f"--strategy=multi_worker does not know the workers: give {ways} (docs/cluster.md)"
        )
    return tf_config.read(environment)


def _from_slurm(options: StrategyOptions, environment: Mapping[str, str]) -> Cluster:
    return slurm.read(environment, options.port)


def _from_kubernetes(options: StrategyOptions, environment: Mapping[str, str]) -> Cluster:
    """The cluster in TF_CONFIG, which an operator sets in every pod; a pod without it is a cluster of one."""
    if not environment.get(_IN_KUBERNETES):
        raise UserError(
            f"--cluster=kubernetes outside of a pod ({_IN_KUBERNETES} is not set): give --workers=HOST:PORT,…"
        )
    if not environment.get(tf_config.VARIABLE):
        return Cluster(("localhost:1",), 0)  # the port is never opened: one worker talks to no one
    return _from_tf_config(options, environment)


_FINDERS = {"tf_config": _from_tf_config, "slurm": _from_slurm, "kubernetes": _from_kubernetes}
