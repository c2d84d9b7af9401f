"""Means over seeds, and paired differences between two variants on the same seeds."""

import dataclasses
import math
import statistics
from collections.abc import Mapping

# Student's t, 97.5 % quantile by degrees of freedom from 1 on; the last one serves beyond, a little too large.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_T += (2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086)


@dataclasses.dataclass(frozen=True)
class Summary:
    """A figure over seeds.

    Attributes:
      mean: arithmetic.
      deviation: standard deviation of a sample, n − 1 below; None for one seed.
      seeds: how many.
    """

    mean: float
    deviation: float | None
    seeds: int


@dataclasses.dataclass(frozen=True)
class Difference:
    """A figure less that of the baseline, seed by seed.

    Attributes:
      mean: of the differences.
      standard_error: of that mean, deviation of the differences / √n; None for one seed.
      seeds: that both have.
      within_noise: whether Student's 95 % interval of the mean, n − 1 degrees of freedom, holds 0; None for one seed.
    """

    mean: float
    standard_error: float | None
    seeds: int
    within_noise: bool | None


def summarise(values: Mapping[int, float]) -> Summary:
    """Mean and deviation of a figure by seed, one seed or more."""
    found = list(values.values())
    return Summary(
        statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None, len(found)
    )


def compare(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """The paired difference over the seeds that both have, None where there is none."""
    differences = [value - baseline[seed] for seed, value in values.items() if seed in baseline]
    count = len(differences)
    if not count:
        return None
    mean = statistics.fmean(differences)
    if count == 1:
        return Difference(mean, None, 1, None)
    error = statistics.stdev(differences) / math.sqrt(count)
    return Difference(mean, error, count, abs(mean) <= _T[min(count - 2, len(_T) - 1)] * error)
