"""Ranges that a dataclass states beside each field, and the draw of a whole dataclass from them."""

import dataclasses
import typing
from collections.abc import Sequence

import numpy as np


def between(low: float, high: float) -> typing.Any:
    """A field drawn uniformly from [low, high)."""
    return _field(lambda rng: float(rng.uniform(low, high)))


def mostly_within(low: float, high: float) -> typing.Any:
    """A field in [low, high] whose middle is likeliest, a triangular distribution."""
    return _field(lambda rng: float(rng.triangular(low, (low + high) / 2, high)))


def up_to(probability: float, low: float, high: float) -> typing.Any:
    """A field that is 0 but, with `probability`, uniform in [low, high)."""
    return _field(lambda rng: _rarely(rng, probability) * float(rng.uniform(low, high)))


def whole(low: int, high: int) -> typing.Any:
    """A field drawn evenly from the whole numbers from `low` to `high`, both included."""
    return _field(lambda rng: int(rng.integers(low, high, endpoint=True)))


def chance(probability: float) -> typing.Any:
    """A field that is True with `probability`."""
    return _field(lambda rng: bool(rng.random() < probability))


def one_of(*values: typing.Any, weights: Sequence[float] | None = None) -> typing.Any:
    """A field drawn from `values`, evenly or by `weights`."""
    return _field(lambda rng: pick(rng, values, weights))


def points(count: int) -> typing.Any:
    """A field of `count` uniform numbers in [-1, 1), a tuple."""
    return _field(lambda rng: tuple(float(value) for value in rng.uniform(-1, 1, count)))


def colour(low: float, high: float) -> typing.Any:
    """A field of three uniform numbers in [low, high): red, green and blue."""
    return _field(lambda rng: tuple(float(value) for value in rng.uniform(low, high, 3)))


def pick(
    rng: np.random.Generator, values: Sequence, weights: Sequence[float] | None = None
) -> typing.Any:
    """One of `values`, evenly or by `weights` (any positive numbers)."""
    chances = None if weights is None else np.asarray(weights, float) / np.sum(weights)
    return values[int(rng.choice(len(values), p=chances))]


def draw(cls: type, rng: np.random.Generator, **given: typing.Any) -> typing.Any:
    """Builds the dataclass `cls`: each field drawn from its range, in the order of definition, unless it is `given`.

    A field that is given is drawn all the same, so it never shifts the draws that follow it.
    """
    drawn = {
        field.name: field.metadata["draw"](rng)
        for field in dataclasses.fields(cls)
        if "draw" in field.metadata
    }
    return cls(**(drawn | given))


def _field(drawer: typing.Callable[[np.random.Generator], typing.Any]) -> typing.Any:
    return dataclasses.field(metadata=dict(draw=drawer))


def _rarely(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)
