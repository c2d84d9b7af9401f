"""The update rules, each for one group of weights that share rate and decay."""

import tf_keras

from fv import addons

_MOMENTUM = 0.9

Optimizer = tf_keras.optimizers.Optimizer | tf_keras.optimizers.legacy.Optimizer
Schedule = tf_keras.optimizers.schedules.LearningRateSchedule


def build_optimizer(
    name: str, schedule: Schedule, weight_decay: float, *, decays: bool
) -> Optimizer:
    """Builds the rule of that name for one group of weights.

    Args:
      name: one of `optimizer_options.OPTIMIZERS`.
      schedule: the group's learning rate.
      weight_decay: decoupled decay.
      decays: False for a group of biases and norms: no decay, and LAMB leaves its ratio of norms out too.

    Raises:
      UserError: the choice needs tensorflow-addons, which is not installed.
    """
    return _BUILDERS[name](schedule, weight_decay if decays else 0.0, decays)


def _adamw(schedule: Schedule, weight_decay: float, decays: bool) -> Optimizer:
    del decays
    return tf_keras.optimizers.Adam(
        schedule, weight_decay=weight_decay or None, jit_compile=False
    )  # decays decoupled


def _sgd(schedule: Schedule, weight_decay: float, decays: bool) -> Optimizer:
    del decays
    return tf_keras.optimizers.SGD(
        schedule, _MOMENTUM, True, weight_decay=weight_decay or None, jit_compile=False
    )


def _lamb(schedule: Schedule, weight_decay: float, decays: bool) -> Optimizer:
    return addons.lamb(schedule, weight_decay, adapts_layers=decays)


def _radam(schedule: Schedule, weight_decay: float, decays: bool) -> Optimizer:
    del decays
    return addons.rectified_adam_lookahead(schedule, weight_decay)


_BUILDERS = {"adamw": _adamw, "sgd": _sgd, "lamb": _lamb, "radam": _radam}
