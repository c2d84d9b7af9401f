"""The least there is to a step: forward, backward and update of fv's model, compiled once, on one batch in memory."""

from collections.abc import Iterator

import tensorflow as tf
import tf_keras

from benchmarks.training_peers import siamese_tf
from benchmarks.training_peers.work import MOMENTUM, Work
from fv.model import siamese


def train(work: Work) -> Iterator[None]:
    """Calls the compiled step, and waits for the device once per stamp."""
    model = siamese.build_siamese(siamese_tf.options(work), identities=2)
    optimizer = tf_keras.optimizers.SGD(
        work.learning_rate, MOMENTUM, nesterov=True, jit_compile=False
    )
    batch = {name: tf.constant(part) for name, part in siamese_tf.batch(work).items()}
    variables = model.trainable_variables

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            embeddings = model.embed_pairs(batch["images"], training=True)
            loss = tf.reduce_mean(
                model.head.losses(embeddings, batch["label"], batch["identities"])
            )
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    while True:
        for _ in range(work.stamp_steps):
            loss = step()
        loss.numpy()
        yield
