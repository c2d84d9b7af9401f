import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fv.errors import UserError
from tests.training.stepping import DEFAULTS, one_device, trainer, two_replicas

SGD = dataclasses.replace(DEFAULTS, optimizer="sgd", learning_rate=0.02)


def test_a_compiled_step_is_the_plain_one_on_every_replica_augmentation_included(shards):
    plain, compiled = (
        trainer(shards, two_replicas(), SGD, xla=xla, augment=True).run(4) for xla in (False, True)
    )
    np.testing.assert_allclose(plain, compiled, rtol=1e-4)


def test_synchronised_batch_norm_over_replicas_is_refused(shards):
    with pytest.raises(
        UserError, match="--xla does not compile --sync_batch_norm over several replicas"
    ):
        trainer(shards, two_replicas(), sync=True, xla=True)
    trainer(shards, one_device(), sync=True, xla=True)


def test_what_xla_does_not_compile_is_one_line(shards):
    made = trainer(shards, xla=True)
    losses = made.model.head.losses
    made.model.head.losses = lambda *given: (
        losses(*given) + tf.numpy_function(np.float32, [0.0], tf.float32)
    )
    with pytest.raises(
        UserError, match=r"--xla does not compile this step: leave it out \(.*XLA"
    ) as error:
        made.run(1)
    assert "\n" not in str(error.value)
