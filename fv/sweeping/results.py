"""sweep.json: what the runs gave, what they took, and what the variants differ by."""

import dataclasses
import platform
import shlex
from collections.abc import Mapping, Sequence

from fv import workers
from fv.sweeping import attempts, statistics
from fv.sweeping.plan import Run
from fv.sweeping.standing import Standing

FINISHED, FAILED, CHANGED, MISSING = "finished", "failed", "changed", "missing"
_NAMES = {"accuracy": "accuracy", "AUC": "auc", "EER": "eer"}  # of a column, and in metrics.json


def collect(
    runs: Sequence[Run], standings: Mapping[Run, Standing], failures: Mapping[Run, str]
) -> dict:
    """The content of sweep.json.

    Args:
      runs: of the whole sweep, the baseline's first.
      standings: how far each is.
      failures: why those of this start failed.

    Returns:
      JSON values: `machine`, `pairs` (name, number and digest of those that the finished runs were scored on), `runs`, and
      by variant `figures` (mean, deviation, seeds) and `differences` (to the first variant).
    """
    described = [_describe(run, standings[run], failures.get(run)) for run in runs]
    names = list(dict.fromkeys(run.variant for run in runs))
    series = {name: _series(described, name) for name in names}
    return {
        "machine": {
            "cores": workers.cores(),
            "processor": workers.processor(),
            "python": platform.python_version(),
        },
        "pairs": sorted({_pairs(found.metrics) for found in standings.values() if found.metrics}),
        "variants": {
            name: _compare(series[name], series[names[0]] if name != names[0] else {})
            for name in names
        },
        "runs": described,
    }


def figures(metrics: dict) -> dict[str, float | None]:
    """The figures of a metrics.json by their columns' names; None where a TAR is not measurable."""
    rates = {f"TAR@FAR {far}": point["tar"] for far, point in metrics["tar_at_far"].items()}
    return {name: metrics[key] for name, key in _NAMES.items()} | rates


def _pairs(metrics: dict) -> tuple[str, int, str]:
    return metrics["split"], metrics["pairs"], metrics.get("pairs_sha256", "")


def _describe(run: Run, standing: Standing, failure: str | None) -> dict:
    state = (
        FINISHED
        if standing.finished
        else FAILED
        if failure
        else CHANGED
        if standing.changed
        else MISSING
    )
    return {
        "variant": run.variant,
        "seed": run.seed,
        "state": state,
        "reason": failure or standing.changed,
        "figures": figures(standing.metrics) if standing.metrics else None,
        **{
            stage: dataclasses.asdict(attempts.cost(run.workdir, stage))
            for stage in attempts.STAGES
        },
        "train_command": shlex.join(run.train_command),
        "evaluate_command": shlex.join(run.evaluate_command),
    }


def _series(described: Sequence[dict], variant: str) -> dict[str, dict[int, float]]:
    """Values of the variant's finished runs: column → seed → value; a column holds every finished seed or is left out."""
    finished = {
        run["seed"]: run["figures"]
        for run in described
        if run["variant"] == variant and run["figures"]
    }
    columns = next(iter(finished.values()), {})
    series = {name: {seed: found.get(name) for seed, found in finished.items()} for name in columns}
    return {name: values for name, values in series.items() if None not in values.values()}


def _compare(own: dict[str, dict[int, float]], baseline: dict[str, dict[int, float]]) -> dict:
    differences = {
        name: statistics.compare(own[name], baseline[name]) for name in own if name in baseline
    }
    return {
        "figures": {
            name: dataclasses.asdict(statistics.summarise(values)) for name, values in own.items()
        },
        "differences": {
            name: dataclasses.asdict(found) for name, found in differences.items() if found
        },
    }
