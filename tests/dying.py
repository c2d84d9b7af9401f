"""Processes that are killed between any two steps, without a process: a function that ends the run at its n-th call."""

import itertools

import pytest


def die_at_call(patch: pytest.MonkeyPatch, module: object, name: str, number: int) -> None:
    """Lets call `number` of a module's function, counted from 0, raise KeyboardInterrupt in its place."""
    original, calls = getattr(module, name), itertools.count()

    def call_or_die(*arguments, **named):
        if next(calls) == number:
            raise KeyboardInterrupt
        return original(*arguments, **named)

    patch.setattr(module, name, call_or_die)
