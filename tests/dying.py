"""Simulates a process that is killed between any two steps."""

import itertools

import pytest


def die_at_call(patch: pytest.MonkeyPatch, module: object, name: str, number: int) -> None:
    """Lets call `number` of a module's function, from 0, raise KeyboardInterrupt instead."""
    original, calls = getattr(module, name), itertools.count()

    def call_or_die(*arguments, **named):
        if next(calls) == number:
            raise KeyboardInterrupt
        return original(*arguments, **named)

    patch.setattr(module, name, call_or_die)
