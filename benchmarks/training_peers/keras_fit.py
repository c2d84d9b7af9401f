"""Plain tf_keras: the same encoder in a functional model, compile and fit, `steps_per_execution` set."""

import queue
import threading
from collections.abc import Iterator

import tensorflow as tf
import tf_keras

from benchmarks.training_peers import siamese_tf
from benchmarks.training_peers.work import MOMENTUM, Work
from fv.model import encoder


class _Stamps(tf_keras.callbacks.Callback):
    def __init__(self, stamps: queue.Queue):
        super().__init__()
        self._stamps = stamps

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._stamps.put(None)


def train(work: Work) -> Iterator[None]:
    """Yields each time fit has run its steps of one execution; fit runs in a thread of its own, for it does not yield."""
    stamps = queue.Queue()
    batch = siamese_tf.batch(work)
    dataset = tf.data.Dataset.from_tensors((batch["images"], batch["label"])).repeat().prefetch(2)
    fit = dict(x=dataset, epochs=1, steps_per_epoch=10**9, callbacks=[_Stamps(stamps)], verbose=0)
    model = build(work)
    threading.Thread(target=model.fit, kwargs=fit, daemon=True).start()
    while True:
        yield stamps.get()


def build(work: Work) -> tf_keras.Model:
    """The compiled siamese model; one call of the encoder on both images, as fv does it."""
    side, layers = work.image_size, tf_keras.layers
    pairs = tf_keras.Input((2, side, side, 3), dtype=tf.uint8)
    embeddings = encoder.build_encoder(siamese_tf.options(work))(
        tf.reshape(tf.cast(pairs, tf.float32), (-1, side, side, 3))
    )
    first, second = tf.unstack(tf.reshape(embeddings, (-1, 2, work.embedding_size)), axis=1)
    features = layers.Concatenate()([tf.abs(first - second), first * second])
    model = tf_keras.Model(pairs, layers.Dense(1)(features))
    optimizer = tf_keras.optimizers.SGD(
        work.learning_rate, MOMENTUM, nesterov=True, jit_compile=False
    )
    loss = tf_keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer, loss, steps_per_execution=work.stamp_steps)
    return model
