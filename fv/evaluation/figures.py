"""The figures of an evaluation: the metrics part of metrics.json, their intervals, and their text.

The intervals resample people, because pairs that share a person are not independent.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures

import numpy as np

from fv import calibration, metrics, progress, workers
from fv.evaluation.protocols import Decisions

METHOD = "vertex bootstrap over people, percentile intervals"
CONFIDENCE = 0.95
_LEAST_VALID = 0.5  # of the samples; with fewer there is no interval

Interval = tuple[float, float]


def measure(
    decisions: Decisions,
    baselines: Mapping[str, Decisions],
    people: np.ndarray | None,
    samples: int,
    seed: int,
) -> dict:
    """The metrics of an evaluation, as in metrics.json.

    Args:
      decisions: on the scored pairs.
      baselines: decisions of other scorers on the same pairs, by their names.
      people: int [n, 2], numbers of the people of each pair; None if unknown: no intervals then.
      samples: of the bootstrap; 0 for no intervals.
      seed: of the samples.
    """
    samples = 0 if people is None else samples
    scored = (decisions, *baselines.values())
    measured = [_measure_one(one) for one in scored]
    if samples and people is not None:
        with progress.Progress(samples * len(measured), "bootstrap", "sample") as line:
            for found, one in zip(measured, scored, strict=True):
                pairs = (one.similarities, one.labels, one.correct, people)
                found["intervals"] = bootstrap_intervals(
                    *pairs, metrics.FARS, samples, seed, line.update
                )
    probabilities = decisions.probabilities, decisions.labels
    return measured[0] | dict(
        bootstrap=dict(method=METHOD, confidence=CONFIDENCE, samples=samples, seed=seed),
        probability=calibration.measure(*probabilities)
        | {"reliability": calibration.reliability(*probabilities)},
        baselines=dict(zip(baselines, measured[1:], strict=True)),
    )


def _measure_one(one: Decisions) -> dict:
    found = metrics.evaluate(one.similarities, one.labels, one.threshold)
    # by each pair's own threshold, which differs between folds
    found |= dict(accuracy=one.accuracy, accuracy_standard_error=one.standard_error)
    if len(one.folds) > 1:
        found["folds"] = [dataclasses.asdict(fold) for fold in one.folds]
    return found


def note_similarities(decisions: Decisions, baselines: Mapping[str, Decisions]) -> list[str]:
    """Notes on constant or inverted similarities, and on baselines that are as good."""
    lowest, highest = float(decisions.similarities.min()), float(decisions.similarities.max())
    if highest - lowest < metrics.NARROWEST_RANGE:
        return [
            f"The model gives every pair the same similarity ({lowest:.6g}): it tells nobody "
            "apart. Accuracy is the share of one class, and the other figures are those of a coin."
        ]
    auc = metrics.roc(decisions.similarities, decisions.labels).auc()
    better = [
        name
        for name, other in baselines.items()
        if metrics.roc(other.similarities, other.labels).auc() >= auc
    ]
    notes = [f"No better than baselines without learning, by AUC: {', '.join(better)}."]
    inverted = ["The model finds strangers more alike than images of one person."]
    return (notes if better else []) + (inverted if auc < 0.5 else [])


def bootstrap_intervals(
    similarities: np.ndarray,
    labels: np.ndarray,
    correct: np.ndarray,
    people: np.ndarray,
    fars: Sequence[float],
    samples: int,
    seed: int,
    after_sample: Callable[[], object] = lambda: None,
) -> dict[str, Interval | dict[str, Interval | None] | None]:
    """Percentile intervals of accuracy, AUC, EER and TAR at each FAR, for fixed thresholds.

    This is the vertex bootstrap (Snijders and Borgatti, Non-parametric standard errors and tests
    for network statistics, Connections 22, 1999), recommended for 1:1 matching by Fogliato, Patil
    and Perona (Confidence intervals for error rates in 1:1 matching tasks, IJCV 2024). Each sample
    draws as many people as there are, with replacement. A genuine pair counts as often as its
    person is drawn, an impostor pair as often as the product for its two people: two copies of one
    person are not an impostor pair.

    Args:
      similarities: floating [n].
      labels: int [n].
      correct: bool [n], whether a pair is decided correctly.
      people: int [n, 2], numbers of the people of each pair, from 0.
      fars: where TAR is measured.
      samples: how many are drawn.
      seed: of the samples.
      after_sample: called after each of them.

    Returns:
      (lower, upper) of `accuracy`, `auc`, `eer` and, by FAR as text, `tar_at_far`; None for what
      fewer than half of the samples can measure.
    """
    pairs = _SortedPairs(similarities, labels, correct, people)

    def measure_sample(sample: int) -> list[float]:
        # seeded by its number, so that threads draw the same samples in any order
        drawn = np.random.default_rng((seed, sample)).integers(pairs.people, size=pairs.people)
        return pairs.measure(np.bincount(drawn, minlength=pairs.people).astype(np.int32), fars)

    rows = []
    with futures.ThreadPoolExecutor(workers.available_cores()) as pool:
        for row in pool.map(measure_sample, range(samples)):
            rows.append(row)
            after_sample()
    columns = np.array(rows, np.float64).reshape(-1, 3 + len(fars)).T
    accuracy, auc, eer, *tars = map(_percentiles, columns)
    by_far = {str(float(far)): interval for far, interval in zip(fars, tars, strict=True)}
    return dict(accuracy=accuracy, auc=auc, eer=eer, tar_at_far=by_far)


class _SortedPairs:
    """Pairs by class and falling similarity, and the points of their ROC curve as counts."""

    def __init__(
        self, similarities: np.ndarray, labels: np.ndarray, correct: np.ndarray, people: np.ndarray
    ):
        self.people = int(people.max()) + 1
        order = np.argsort(similarities)[::-1]
        genuine, impostor = (order[labels[order] == label] for label in (1, 0))
        people, correct = people.astype(np.int32), correct.astype(np.int32)
        self._person = people[genuine, 0]
        self._first, self._second = people[impostor, 0], people[impostor, 1]
        self._genuine_correct, self._impostor_correct = correct[genuine], correct[impostor]
        curve = metrics.roc(similarities, labels)
        points = curve.sample_points()
        self._thresholds = curve.thresholds[points]
        self._genuine_accepted = curve.genuine_accepted[points]
        self._impostors_accepted = curve.impostors_accepted[points]

    def weigh(self, counts: np.ndarray) -> tuple[float, metrics.Roc] | None:
        """Accuracy and curve if person i counts counts[i] times; None if a class is empty."""
        genuine = counts[self._person]
        impostor = counts[self._first] * counts[self._second]
        curve = metrics.Roc(
            self._thresholds,
            _sum_first(genuine, self._genuine_accepted),
            _sum_first(impostor, self._impostors_accepted),
        )
        if not (curve.genuine and curve.impostors):
            return None
        correct = int(genuine @ self._genuine_correct) + int(impostor @ self._impostor_correct)
        return correct / (curve.genuine + curve.impostors), curve

    def measure(self, counts: np.ndarray, fars: Sequence[float]) -> list[float]:
        """Accuracy, AUC, EER and TARs of `weigh`; NaN for what cannot be measured."""
        weighed = self.weigh(counts)
        if weighed is None:
            return [np.nan] * (3 + len(fars))
        accuracy, curve = weighed
        tars = [curve.tar_at_far(far).tar for far in fars]
        return [accuracy, curve.auc(), curve.eer(), *(np.nan if t is None else t for t in tars)]


def _sum_first(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The sum of the first `count` weights for each of the counts, int64."""
    return np.pad(np.cumsum(weights, dtype=np.int64), (1, 0))[counts]


def _percentiles(values: np.ndarray) -> Interval | None:
    valid = values[np.isfinite(values)]
    if len(valid) == 0 or len(valid) < _LEAST_VALID * len(values):
        return None
    outside = 50 * (1 - CONFIDENCE)  # percent on either side
    lower, upper = np.percentile(valid, (outside, 100 - outside))
    return float(lower), float(upper)


# Text of the figures, for the terminal and the report.


def render_table(content: dict) -> str:
    """The table for a terminal of the content of metrics.json: notes, then one line a figure."""
    pairs = "{split}: {genuine:,} genuine and {impostor:,} impostor pairs".format(**content)
    step = "" if content["step"] is None else f", step {content['step']}"
    rule = f"similarity >= {content['threshold']:.4f}, {content['threshold_rule']}"
    probability = content["probability"]

    def bracket(name: str) -> str:
        return f" ({format_interval(content, name)})" if content.get("intervals") else ""

    lines = [
        *(f"NOTE: {note}" for note in content["notes"]),
        pairs + step,
        f"accuracy       {format_accuracy(content)}{bracket('accuracy')}  {rule}",
        *_render_insightface(content),
        f"AUC            {content['auc']:.4f}{bracket('auc')}",
        f"EER            {content['eer']:.4f}{bracket('eer')}",
        *(
            f"{f'TAR@FAR {far}':15}{format_tar(point)}  {format_counts(point)}"
            for far, point in content["tar_at_far"].items()
        ),
        f"Brier score    {probability['brier']:.4f}  of the probability; calibration error "
        f"{probability['expected_calibration_error']:.4f}",
    ]
    if content["baselines"]:
        lines.append("without learning, by the same rule:")
    lines += [
        f"  {name:24}{format_accuracy(row)}  AUC {row['auc']:.4f}"
        for name, row in content["baselines"].items()
    ]
    if content["run"].get("training_input"):  # given scores have none
        lines.append(content["run"]["training_input"])
    return "\n".join(lines)


def _render_insightface(content: dict) -> list[str]:
    found = content.get("insightface")
    if not found:
        return []
    rule = "standard deviation over folds, thresholds of InsightFace's verification.py"
    return [f"InsightFace    {found['accuracy']:.4f} ± {found['standard_deviation']:.4f}  {rule}"]


def format_accuracy(figures: dict) -> str:
    """Accuracy with its standard error."""
    return f"{figures['accuracy']:.4f} ± {figures['accuracy_standard_error']:.4f}"


def format_interval(figures: dict, name: str, digits: int = 4) -> str:
    """The interval of a figure, '–' without one."""
    found = figures.get("intervals", {}).get(name)
    return f"{found[0]:.{digits}f} – {found[1]:.{digits}f}" if found else "–"


def format_tar_interval(figures: dict, far: str) -> str:
    """The interval of TAR at a FAR, '–' without one."""
    return format_interval({"intervals": figures.get("intervals", {}).get("tar_at_far", {})}, far)


def format_tar(point: dict) -> str:
    """TAR at a FAR, or that it is not measurable."""
    return "not measurable" if point["tar"] is None else f"{point['tar']:.4f}"


def format_counts(point: dict) -> str:
    """The counts behind TAR at a FAR."""
    if point["tar"] is None:
        return f"on {point['impostors']:,} impostor pairs"
    return (
        "{genuine_accepted:,} of {genuine:,} genuine, {impostors_accepted:,} of {impostors:,} "
        "impostor pairs accepted"
    ).format(**point)
