"""A cluster from TF_CONFIG, TensorFlow's variable: `{"cluster": {"worker": [...]}, "task": {"type": ..., "index": ...}}`.

https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable
"""

import json
from collections.abc import Mapping

from fv.errors import UserError
from fv.training.clusters.cluster import Cluster

VARIABLE = "TF_CONFIG"
_CHIEFS = ("chief", "master")  # TensorFlow 1's name for a chief is the second
_ROLES = (*_CHIEFS, "worker")


def read(environment: Mapping[str, str]) -> Cluster:
    """Reads TF_CONFIG; a chief is worker 0, and the workers come after it.

    Raises:
      UserError: it is not JSON, not whole, or this process is none of the workers.
    """
    jobs, role, index = _parse(environment[VARIABLE])
    unknown = sorted({role, *jobs} - {*_ROLES, "evaluator"})
    if unknown or role == "evaluator":
        job = unknown[0] if unknown else role
        raise UserError(
            f"{VARIABLE} has the job '{job}', but fv trains on a chief and workers only"
        )
    chiefs = [address for name in _CHIEFS for address in jobs.get(name, ())]
    if len(chiefs) > 1:
        raise UserError(f"{VARIABLE} has {len(chiefs)} chiefs: give one, and workers")
    place = index if role in _CHIEFS else index + len(chiefs)
    if index < 0 or index >= len(jobs.get(role, ())):
        raise UserError(
            f"{VARIABLE} says that this is {role} {index}, but its cluster has {len(jobs.get(role, ()))} of these"
        )
    return Cluster((*chiefs, *jobs.get("worker", ())), place).check(VARIABLE)


def _parse(text: str) -> tuple[dict[str, list[str]], str, int]:
    """(addresses by job, this process's job, its index in it)."""
    try:
        config = json.loads(text)
        jobs = {
            str(name): [str(address) for address in addresses]
            for name, addresses in config["cluster"].items()
        }
        return jobs, str(config["task"]["type"]), int(config["task"]["index"])
    except json.JSONDecodeError as error:
        raise UserError(
            f"{VARIABLE} is not JSON ({error}): quote it whole, with ' outside and \" inside"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f'{VARIABLE} needs "cluster": {{"worker": [...]}} and "task": {{"type": ..., "index": ...}}'
        ) from error
