import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fv.training.updates import unfreezing
from tests.training.stepping import DEFAULTS, trainer, two_replicas

OPTIONS = dataclasses.replace(DEFAULTS, freeze_backbone_steps=4, weight_decay=0.1)


@pytest.mark.parametrize(
    ("first", "steps", "expected"),
    [
        (0, 3, [(0, 3, True)]),
        (0, 10, [(0, 4, True), (4, 6, False)]),
        (3, 2, [(3, 1, True), (4, 1, False)]),
        (4, 2, [(4, 2, False)]),
        (9, 1, [(9, 1, False)]),
    ],
)
def test_a_call_is_split_where_the_backbone_begins_to_learn(first, steps, expected):
    assert unfreezing.stages(first, steps, frozen_steps=4) == expected


def backbone(made) -> list[np.ndarray]:
    """Its weights and BatchNorm statistics."""
    return [each.numpy() for each in made.model.encoder.get_layer("backbone").weights]


def test_weights_and_statistics_stand_still_until_the_step_and_then_all_learn_in_two_graphs(shards):
    made = trainer(shards, two_replicas(), OPTIONS)
    before, embedding = backbone(made), made.model.encoder.get_layer("embedding").kernel.numpy()
    for count in (1, 3):
        made.run(count)
    for one, two in zip(before, backbone(made), strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.abs(made.model.encoder.get_layer("embedding").kernel - embedding).max() > 1e-3
    made.run(1)
    moved = [not np.array_equal(one, two) for one, two in zip(before, backbone(made), strict=True)]
    assert all(moved)
    made.run(2)
    assert made.step._steps.experimental_get_tracing_count() == 2


def test_a_run_that_is_interrupted_while_frozen_goes_on_to_learn_the_same(shards, tmp_path):
    whole, resumed = (trainer(shards, options=OPTIONS) for _ in range(2))
    whole.run(3)
    path = tf.train.Checkpoint(model=whole.model, optimizer=whole.updater).write(
        str(tmp_path / "ckpt")
    )
    whole.run(5)
    tf.train.Checkpoint(model=resumed.model, optimizer=resumed.updater).read(path).assert_consumed()
    resumed.skip(3)
    resumed.run(5)
    for name, value in whole.weights().items():
        np.testing.assert_allclose(
            resumed.weights()[name], value, rtol=1e-4, atol=1e-6, err_msg=name
        )
