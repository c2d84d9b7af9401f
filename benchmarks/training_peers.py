"""Contestants of the training benchmarks: python -m benchmarks.training_peers NAME WORK [PRECISION]

Each trains on one batch in memory until it is killed, and yields after `stamp_steps` steps that the
device has finished. The process prints the time of each yield in seconds since 1970, or
{"missing": PACKAGE} as JSON. WORK is a `Work` as JSON. The Python that has torch needs no package
of fv, so imports stand in the functions.
"""

import dataclasses
import json
import queue
import resource
import sys
import threading
import time
from collections.abc import Iterator

SEED = 0
MOMENTUM = 0.9  # Nesterov's, as in fv's sgd
EMBEDDING_SIZE = 128
LEARNING_RATE = 1e-3
OURS = ("benchmarks", "fv")
IDENTITIES = 1000  # of the softmax in fv_step


@dataclasses.dataclass(frozen=True)
class Work:
    """What every contestant trains.

    Attributes:
      image_size: side of the network's input in pixels.
      pairs: in a step.
      stamp_steps: steps between two looks at the clock.
    """

    image_size: int
    pairs: int
    stamp_steps: int = 4

    @property
    def stamp_images(self) -> int:
        """Images between two looks at the clock."""
        return 2 * self.pairs * self.stamp_steps


def bare_step(work: Work) -> Iterator[None]:
    """Forward pass, backward pass and update of fv's model, compiled once: a lower bound."""
    import fv.quiet_tensorflow  # noqa: F401, I001
    import tensorflow as tf

    from fv.model import siamese

    model = siamese.build_siamese(fv_model(work), identities=2)
    optimizer = _sgd()
    batch = {name: tf.constant(part) for name, part in _batch(work).items()}
    variables = model.trainable_variables
    seed_and_step = tf.constant([0, 0])

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            embeddings = model.embed_pairs(batch["images"], training=True)
            losses = model.head.pair_losses(
                embeddings, batch["label"], batch["identities"], seed_and_step
            )
            loss = tf.reduce_mean(losses)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    while True:
        for _ in range(work.stamp_steps):
            loss = step()
        loss.numpy()  # waits for the device
        yield


def keras_fit(work: Work) -> Iterator[None]:
    """tf_keras `fit` of the same encoder, with `steps_per_execution`."""
    import fv.quiet_tensorflow  # noqa: F401, I001
    import tensorflow as tf
    import tf_keras

    stamps: queue.Queue = queue.Queue()
    ended = tf_keras.callbacks.LambdaCallback(on_batch_end=lambda batch, logs: stamps.put(None))
    batch = _batch(work)
    dataset = tf.data.Dataset.from_tensors((batch["images"], batch["label"])).repeat().prefetch(2)
    fit = dict(x=dataset, epochs=1, steps_per_epoch=10**9, callbacks=[ended], verbose=0)
    # fit does not yield, so it has a thread.
    threading.Thread(target=build_keras(work).fit, kwargs=fit, daemon=True).start()
    while True:
        yield stamps.get()


def build_keras(work: Work):
    """Returns the compiled siamese model; one call of the encoder on both images, as in fv."""
    import tensorflow as tf
    import tf_keras

    from fv.model import siamese

    side, layers = work.image_size, tf_keras.layers
    pairs = tf_keras.Input((2, side, side, 3), dtype=tf.uint8)
    images = tf.reshape(tf.cast(pairs, tf.float32), (-1, side, side, 3))
    embeddings = siamese.build_encoder(fv_model(work))(images)
    first, second = tf.unstack(tf.reshape(embeddings, (-1, 2, EMBEDDING_SIZE)), axis=1)
    features = layers.Concatenate()([tf.abs(first - second), first * second])
    model = tf_keras.Model(pairs, layers.Dense(1)(features))
    loss = tf_keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(_sgd(), loss, steps_per_execution=work.stamp_steps)
    return model


def torch_timm(work: Work) -> Iterator[None]:
    """torch with timm's inception_v3, eager, channels last; on a GPU if there is one."""
    import timm
    import torch
    from torch.nn import functional

    class Siamese(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = timm.create_model("inception_v3", pretrained=False, num_classes=0)
            self.embedding = torch.nn.Linear(self.backbone.num_features, EMBEDDING_SIZE, bias=False)
            self.logit = torch.nn.Linear(2 * EMBEDDING_SIZE, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = self.embedding(self.backbone(images.float() / 127.5 - 1.0))
            first, second = functional.normalize(features).view(-1, 2, EMBEDDING_SIZE).unbind(1)
            return self.logit(torch.cat([(first - second).abs(), first * second], 1)).squeeze(1)

    torch.manual_seed(SEED)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Siamese().to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=MOMENTUM, nesterov=True)
    shape = (2 * work.pairs, 3, work.image_size, work.image_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    images = images.to(device, memory_format=torch.channels_last)
    labels = torch.arange(work.pairs, device=device).remainder(2).float()
    while True:
        for _ in range(work.stamp_steps):
            optimizer.zero_grad(set_to_none=True)
            loss = functional.binary_cross_entropy_with_logits(model(images), labels)
            loss.backward()
            optimizer.step()
        loss.item()  # waits for the device
        yield


def fv_step(work: Work, precision: str) -> Iterator[None]:
    """fv's own step in a precision such as float32 or float32_xla; prints its peak memory, too."""
    from benchmarks import synthetic_batch as synthetic
    from fv import quiet_tensorflow  # noqa: F401
    from fv.model import siamese
    from fv.model.options import ModelOptions
    from fv.pipeline.augment import AugmentOptions
    from fv.training import optimizers
    from fv.training import strategy as strategies
    from fv.training.optimizers import Updater
    from fv.training.options import OptimizerOptions, StrategyOptions
    from fv.training.step import TrainStep

    xla = precision.endswith("_xla")
    strategy = strategies.start_strategy(
        StrategyOptions(precision=precision.removesuffix("_xla")), SEED
    )
    options, steps = OptimizerOptions(learning_rate=LEARNING_RATE), 10**6
    model_options = ModelOptions(image_size=work.image_size, embedding_size=EMBEDDING_SIZE)
    with strategy.scope():
        model = siamese.build_siamese(model_options, IDENTITIES)
        updater = Updater(options, optimizers.build_schedule(options, steps, work.pairs), model)
    step = TrainStep(
        strategy,
        model,
        updater,
        AugmentOptions(augment=False),
        global_batch_size=work.pairs,
        seed=SEED,
        xla=xla,
    )
    noise = synthetic.noise(work.pairs, work.image_size, IDENTITIES, SEED)
    batches = synthetic.ConstantBatches(strategy, noise)
    for first in range(0, steps, work.stamp_steps):
        step.run(batches, first, work.stamp_steps)
        print("peak", _peak_bytes(), flush=True)
        yield


def fv_model(work: Work):
    """Returns the options of the model that fv trains in benchmarks/training.py."""
    from fv.model.options import ModelOptions

    return ModelOptions(
        "inception_v3",
        head="sigmoid",
        image_size=work.image_size,
        embedding_size=EMBEDDING_SIZE,
    )


def _batch(work: Work) -> dict:
    from benchmarks import synthetic_batch as synthetic

    return synthetic.noise(work.pairs, work.image_size, identities=2, seed=SEED)


def _sgd():
    import tf_keras

    return tf_keras.optimizers.SGD(LEARNING_RATE, MOMENTUM, nesterov=True, jit_compile=False)


def _peak_bytes() -> int:
    """Returns the peak memory of the GPU if there is one, else of the process."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(name: str, work: str, *arguments: str) -> None:
    """Trains until the process is killed."""
    try:
        for _ in globals()[name](Work(**json.loads(work)), *arguments):
            print(repr(time.time()), flush=True)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package in OURS:
            raise
        print(json.dumps({"missing": package}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
