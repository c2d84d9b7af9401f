import numpy as np
import pytest
import tensorflow as tf

from fv.training import learner
from fv.training.options import AveragingOptions
from tests.conftest import slow_case
from tests.training.stepping import one_device, trainer, two_replicas

STEPS = 8
EMA = AveragingOptions("ema")
SWA = AveragingOptions("swa")


def trajectory(shards, strategy, averaging: AveragingOptions):
    """Runs STEPS steps: (weights before the first and after each; averages after each)."""
    made = trainer(shards, strategy, averaging=averaging, steps=STEPS, sync=True)
    weights, averages = [made.weights()], []
    for _ in range(STEPS):
        made.run(1)
        weights.append(made.weights())
        held = [*made.averages.model.encoder.weights, *made.averages.model.head.variables]
        averages.append({name: each.numpy() for name, each in zip(weights[0], held, strict=True)})
    return weights, averages


def ema_by_hand(weights: list[np.ndarray], momentum: float) -> list[np.ndarray]:
    average, found = weights[0], []
    for step, weight in enumerate(weights[1:]):
        kept = min(momentum, (1 + step) / (10 + step))
        average = kept * average + (1 - kept) * weight
        found.append(average)
    return found


def swa_by_hand(weights: list[np.ndarray], start: int) -> list[np.ndarray]:
    found, taken = [], []
    for step, weight in enumerate(weights[1:], 1):
        if step >= start:
            taken.append(weight)
        found.append(np.mean(taken, axis=0) if taken else weight)
    return found


@pytest.mark.parametrize(
    ("strategy", "averaging", "by_hand"),
    [
        (one_device, EMA, lambda weights: ema_by_hand(weights, 0.3)),
        (one_device, SWA, lambda weights: swa_by_hand(weights, 4)),
        slow_case(two_replicas, EMA, lambda weights: ema_by_hand(weights, 0.3)),
    ],
)
def test_averages_of_weights_and_statistics_are_those_by_hand(
    shards, strategy, averaging, by_hand, monkeypatch
):
    monkeypatch.setattr(learner, "_EMA_MOMENTUM", 0.3)
    monkeypatch.setattr(learner, "_SWA_START", 0.5)
    weights, averages = trajectory(shards, strategy(), averaging)
    for name in weights[0]:
        expected = by_hand([each[name] for each in weights])
        for step in range(STEPS):
            np.testing.assert_allclose(
                averages[step][name], expected[step], rtol=1e-5, atol=1e-6, err_msg=f"{name} {step}"
            )
    assert any("moving_variance" in name for name in weights[0])
    moved = "0 kernel:0"
    assert (
        np.abs(averages[-1][moved] - weights[-1][moved]).max() > 1e-4
    )  # or this would show nothing


@pytest.mark.slow
def test_averages_continue_from_a_checkpoint(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(learner, "_SWA_START", 0.25)
    averaging = AveragingOptions("swa")
    whole, resumed = (trainer(shards, averaging=averaging, steps=STEPS) for _ in range(2))
    whole.run(5)
    path = checkpoint(whole).write(str(tmp_path / "ckpt"))
    whole.run(3)
    checkpoint(resumed).read(path).assert_consumed()
    resumed.skip(5)
    resumed.run(3)
    assert int(resumed.averages.count) == int(whole.averages.count) == 7
    for one, two in zip(
        whole.averages.model.encoder.weights, resumed.averages.model.encoder.weights, strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def checkpoint(made) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(
        model=made.model, optimizer=made.updater, averages=made.averages.state
    )
