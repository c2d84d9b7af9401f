"""The figures of judged pairs, in plain Python: the content of metrics.json."""

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent import futures

import numpy as np

from fv import calibration, metrics, workers
from fv.evaluation.protocols import Judged

# Intervals of the figures by resampling people: pairs that share a person are not independent,
# people are.
#
# The vertex bootstrap (Snijders and Borgatti, Non-parametric standard errors and tests for
# network statistics, Connections 22,
# 1999), which Fogliato, Patil and Perona recommend for 1:1 matching (Confidence intervals for
# error rates in 1:1 matching
# tasks, IJCV 2024). People are drawn with replacement, as many as there are. A genuine pair
# counts as often as its person was
# drawn, an impostor pair as often as the one times the other: a pair of two copies of one person
# is no impostor pair.

CONFIDENCE = 0.95
_FEWEST_VALID = 0.5  # of the samples; with fewer there is no interval

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class BootstrapPlan:
    """How often people are drawn, and the seed of the draws."""

    samples: int
    seed: int


def bootstrap_intervals(
    similarities: np.ndarray,
    labels: np.ndarray,
    right: np.ndarray,
    people: np.ndarray,
    fars: Sequence[float],
    plan: BootstrapPlan,
) -> dict[str, Interval | dict[str, Interval | None] | None]:
    """Percentile intervals of accuracy, AUC, EER and TAR at each FAR; thresholds stay as they were chosen.

    Args:
      similarities: floating [n].
      labels: int [n].
      right: bool [n], whether a pair is decided rightly.
      people: int [n, 2], numbers of the people of each pair, from 0.
      fars: where TAR is measured.
      plan: the draws.

    Returns:
      `accuracy`, `auc`, `eer` and `tar_at_far` (FAR as text) with (lower, upper) each; None where it cannot be measured.
    """
    rows = _sample_figures(_Sorted(similarities, labels, right, people), fars, plan)
    found = [
        _interval(column) for column in np.array(rows, np.float64).reshape(-1, 3 + len(fars)).T
    ]
    named = dict(zip(("accuracy", "auc", "eer"), found, strict=False))
    return named | {
        "tar_at_far": {
            str(float(far)): interval for far, interval in zip(fars, found[3:], strict=True)
        }
    }


class _Sorted:
    """Pairs by class, each by falling similarity, and the points of the ROC curve as counts of them."""

    def __init__(
        self, similarities: np.ndarray, labels: np.ndarray, right: np.ndarray, people: np.ndarray
    ):
        self.people = int(people.max()) + 1
        curve = metrics.roc(similarities, labels)
        order = np.argsort(similarities)[::-1]
        genuine, impostor = (order[labels[order] == label] for label in (1, 0))
        people = people.astype(np.int32)
        self.person, self.right_genuine = people[genuine, 0], right[genuine].astype(np.int32)
        self.one, self.other = people[impostor, 0], people[impostor, 1]
        self.right_impostor = right[impostor].astype(np.int32)
        points = curve.outline()
        self.thresholds = curve.thresholds[points]
        self.genuine_accepted, self.impostors_accepted = (
            curve.genuine_accepted[points],
            curve.impostors_accepted[points],
        )

    def weigh(self, drawn: np.ndarray) -> tuple[float, metrics.Roc] | None:
        """Accuracy and curve where person i counts drawn[i] times; None where a class is empty."""
        genuine, impostor = drawn[self.person], drawn[self.one] * drawn[self.other]
        accepted, wrongly = (
            _cumulate(genuine, self.genuine_accepted),
            _cumulate(impostor, self.impostors_accepted),
        )
        if not (accepted[-1] and wrongly[-1]):
            return None
        right = int(genuine @ self.right_genuine) + int(impostor @ self.right_impostor)
        return right / int(accepted[-1] + wrongly[-1]), metrics.Roc(
            self.thresholds, accepted, wrongly
        )


def _sample_figures(
    pairs: _Sorted, fars: Sequence[float], plan: BootstrapPlan
) -> list[list[float]]:
    """Accuracy, AUC, EER and the TARs of each sample; NaN where they cannot be measured."""

    def measure(sample: int) -> list[float]:
        rng = np.random.default_rng((plan.seed, sample))
        drawn = np.bincount(
            rng.integers(pairs.people, size=pairs.people), minlength=pairs.people
        ).astype(np.int32)
        weighed = pairs.weigh(drawn)
        if not weighed:
            return [np.nan] * (3 + len(fars))
        accuracy, curve = weighed
        tars = [curve.tar_at_far(far).tar for far in fars]
        return [
            accuracy,
            curve.auc(),
            curve.eer(),
            *(np.nan if tar is None else tar for tar in tars),
        ]

    with futures.ThreadPoolExecutor(workers.available_cores()) as pool:
        return list(pool.map(measure, range(plan.samples)))


def _cumulate(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sum of the first `count` weights for each of the counts, int64."""
    return np.pad(np.cumsum(weights, dtype=np.int64), (1, 0))[counts]


def _interval(values: np.ndarray) -> Interval | None:
    valid = values[np.isfinite(values)]
    if len(valid) == 0 or len(valid) < _FEWEST_VALID * len(values):
        return None
    outside = 50 * (1 - CONFIDENCE)  # percent on either side
    return tuple(float(value) for value in np.percentile(valid, (outside, 100 - outside)))


# The figures of an evaluation as text for a terminal, and their wording, which the report shares.


def render_table(content: dict) -> str:
    """The table of what metrics.json holds, a line a figure, its notes first."""
    held = "{split}: {genuine:,} genuine and {impostor:,} impostor pairs".format(**content)
    held += "" if content["step"] is None else f", step {content['step']}"
    rule = f"similarity >= {content['threshold']:.4f}, {content['threshold_rule']}"
    probability = content["probability"]
    lines = [
        *(f"NOTE: {note}" for note in content["notes"]),
        held,
        f"accuracy       {format_accuracy(content)}{_in_words(content, 'accuracy')}  {rule}",
        f"AUC            {content['auc']:.4f}{_in_words(content, 'auc')}",
        f"EER            {content['eer']:.4f}{_in_words(content, 'eer')}",
        *(
            f"{f'TAR@FAR {far}':15}{format_tar(point)}  {format_counts(point)}"
            for far, point in content["tar_at_far"].items()
        ),
        f"Brier score    {probability['brier']:.4f}  of the probability; calibration error "
        f"{probability['expected_calibration_error']:.4f}",
    ]
    baselines = content["baselines"]
    if baselines:
        lines += ["without learning, by the same rule:"]
        lines += [
            f"  {name:24}{format_accuracy(row)}  AUC {row['auc']:.4f}"
            for name, row in baselines.items()
        ]
    if content["run"].get("training_input"):  # given scores have none
        lines.append(content["run"]["training_input"])
    return "\n".join(lines)


def format_accuracy(figures: dict) -> str:
    """Accuracy with its standard error."""
    return f"{figures['accuracy']:.4f} ± {figures['accuracy_standard_error']:.4f}"


def format_interval(figures: dict, name: str, digits: int = 4) -> str:
    """The interval of a figure to that many digits, '–' where there is none."""
    found = figures.get("intervals", {}).get(name)
    return f"{found[0]:.{digits}f} – {found[1]:.{digits}f}" if found else "–"


def format_tar_interval(figures: dict, far: str) -> str:
    """As `interval`, of TAR at a FAR."""
    return format_interval({"intervals": figures.get("intervals", {}).get("tar_at_far", {})}, far)


def format_tar(point: dict) -> str:
    """TAR at a FAR, or that it is not measurable."""
    return "not measurable" if point["tar"] is None else f"{point['tar']:.4f}"


def format_counts(point: dict) -> str:
    """The counts behind TAR at a FAR."""
    if point["tar"] is None:
        return f"on {point['impostors']:,} impostor pairs"
    accepted = "{genuine_accepted:,} of {genuine:,} genuine, {impostors_accepted:,} of {impostors:,} impostor pairs accepted"
    return accepted.format(**point)


def _in_words(figures: dict, name: str) -> str:
    return f" ({format_interval(figures, name)})" if figures.get("intervals") else ""


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


def measure_intervals(judged: Judged, people: np.ndarray, plan: BootstrapPlan) -> dict:
    """Intervals of the figures by `bootstrap.intervals`; empty where nothing is to be drawn."""
    if not plan.samples:
        return {}
    held = (judged.similarities, judged.labels, judged.right, people)
    return {"intervals": bootstrap_intervals(*held, metrics.FARS, plan)}


def describe_bootstrap(plan: BootstrapPlan) -> dict:
    """What the intervals are."""
    return dict(method=METHOD, confidence=CONFIDENCE, **dataclasses.asdict(plan))


def warn_of_similarities(judged: Judged, baselines: Mapping[str, Judged]) -> list[str]:
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
