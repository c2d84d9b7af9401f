"""The figures of judged pairs, in plain Python: the content of metrics.json."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from fv import calibration, metrics
from fv.evaluation import bootstrap
from fv.evaluation.protocols import Judged

METHOD = "vertex bootstrap over people, percentile intervals"


def measure(judged: Judged) -> dict:
    """The figures of `metrics.evaluate`, accuracy by each pair's own threshold, and the folds where there are several."""
    found = metrics.evaluate(judged.similarities, judged.labels, judged.threshold)
    found |= dict(accuracy=judged.accuracy, accuracy_standard_error=judged.standard_error)
    if len(judged.folds) > 1:
        found["folds"] = [dataclasses.asdict(fold) for fold in judged.folds]
    return found


def measure_probability(judged: Judged) -> dict:
    """How well the probabilities agree with what came true, with the reliability curve."""
    curve = calibration.reliability(judged.probabilities, judged.labels)
    return calibration.measure(judged.probabilities, judged.labels) | {"reliability": curve}


def measure_intervals(judged: Judged, people: np.ndarray, plan: bootstrap.Plan) -> dict:
    """Intervals of the figures by `bootstrap.intervals`; empty where nothing is to be drawn."""
    if not plan.samples:
        return {}
    held = (judged.similarities, judged.labels, judged.right, people)
    return {"intervals": bootstrap.intervals(*held, metrics.FARS, plan)}


def describe_bootstrap(plan: bootstrap.Plan) -> dict:
    """What the intervals are."""
    return dict(method=METHOD, confidence=bootstrap.CONFIDENCE, **dataclasses.asdict(plan))


def warn(judged: Judged, baselines: Mapping[str, Judged]) -> list[str]:
    """What has to be said of the similarities themselves, and beside those of baselines."""
    lowest, highest = float(judged.similarities.min()), float(judged.similarities.max())
    if highest - lowest < metrics.NARROWEST_RANGE:
        return [
            f"The model gives every pair the same similarity ({lowest:.6g}): it tells nobody apart. Accuracy is the share "
            "of one class, and the other figures are those of a coin."
        ]
    auc = metrics.auc(judged.similarities, judged.labels)
    better = [
        name
        for name, other in baselines.items()
        if metrics.auc(other.similarities, other.labels) >= auc
    ]
    notes = [f"No better than what learned nothing, by AUC: {', '.join(better)}."] if better else []
    return notes + (
        ["The model finds strangers more alike than images of one person."] if auc < 0.5 else []
    )
