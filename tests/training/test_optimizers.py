import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv import addons
from fv.model import backbones, siamese
from fv.model.options import BACKBONES
from fv.training import optimizers
from fv.training.optimizers import LossScale, Updater
from fv.training.options import OPTIMIZERS, AveragingOptions, OptimizerOptions
from tests.conftest import TINY, slow_case
from tests.training.stepping import DEFAULTS, one_device, trainer, two_replicas

BATCH = 64


def rates(options: OptimizerOptions, steps: int, batch: int = BATCH) -> list[float]:
    built = optimizers.build_schedule(options, steps, batch)
    return [float(built(step)) for step in range(steps + 1)]


def test_the_rate_rises_then_falls_along_half_a_cosine_to_zero():
    found = rates(OptimizerOptions(learning_rate=0.4, warmup_steps=4), steps=12)
    np.testing.assert_allclose(found[:4], [0.1, 0.2, 0.3, 0.4], rtol=1e-5)
    np.testing.assert_allclose(found[8], 0.2, rtol=1e-5)
    assert found[12] == pytest.approx(0.0, abs=1e-6) and found[4:] == sorted(
        found[4:], reverse=True
    )


def test_a_constant_rate_stays_after_warm_up():
    found = rates(OptimizerOptions(learning_rate=0.4, warmup_steps=2, decay="constant"), steps=12)
    np.testing.assert_allclose(found, [0.2] + [0.4] * 12, rtol=1e-6)


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1.0), ("linear", 0.25), ("sqrt", 0.5)])
def test_the_learning_rate_is_scaled_with_the_batch_size(scaling, factor):
    options = OptimizerOptions(learning_rate=0.4, warmup_steps=0, scale_learning_rate=scaling)
    assert rates(options, steps=4, batch=64)[0] == pytest.approx(0.4 * factor)


def test_a_schedule_factor_multiplies_and_starts_later():
    whole = optimizers.build_schedule(
        OptimizerOptions(learning_rate=0.4, warmup_steps=0), 12, BATCH
    )
    part = optimizers.ScheduleFactor(whole, factor=0.1, start=5)
    assert float(part(2)) == pytest.approx(0.1 * float(whole(7)))


HUGE = 2.0**60  # a loss scale at which every gradient overflows float16


def test_the_loss_scale_doubles_after_good_steps_and_halves_at_overflow():
    scale = LossScale(initial=16.0, growth_steps=3)
    seen = []
    for finite in (True, True, True, True, True, False, False, True, True, True, True):
        scale.update(tf.constant(finite))
        seen.append((float(scale.scale), int(scale.good_steps)))
    assert seen == [
        (16, 1), (16, 2), (32, 0), (32, 1), (32, 2), (16, 0),
        (8, 0), (8, 1), (8, 2), (16, 0), (16, 1),
    ]  # fmt: skip


def test_the_scale_stays_between_1_and_2_to_the_24():
    lowest, highest = (
        LossScale(initial=1.0, growth_steps=1),
        LossScale(initial=2.0**24, growth_steps=1),
    )
    lowest.update(tf.constant(False))
    highest.update(tf.constant(True))
    assert (float(lowest.scale), float(highest.scale)) == (1.0, 2.0**24)


def test_a_scaled_loss_has_scaled_gradients_that_unscale_to_the_losss_own():
    scale, weight = LossScale(initial=1024.0), tf.Variable(3.0)
    with tf.GradientTape() as tape:
        objective = scale.scaled(weight**2)
    gradient = tape.gradient(objective, weight)
    assert (float(gradient), float(scale.unscaled([gradient])[0])) == (6.0 * 1024, 6.0)


@pytest.mark.parametrize("strategy", [one_device, slow_case(two_replicas)])
def test_gradients_that_overflow_halve_the_scale_and_change_no_weight(shards, strategy):
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    options = dataclasses.replace(DEFAULTS, weight_decay=0.1, decay="constant")
    made = trainer(
        shards,
        strategy(),
        options,
        model=dataclasses.replace(TINY, image_size=8),
        averaging=AveragingOptions("ema"),
    )
    made.run(1)  # whatever the scale is now
    made.updater.loss_scale.scale.assign(HUGE)
    before = _learnt(made)
    assert np.isfinite(made.run(2)).all()
    after = _learnt(made)
    assert (
        before.keys() == after.keys() and len(before) > 40
    )  # weights, two slots of each, averages
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    assert made.updater.loss_scale.scale.numpy() == HUGE / 4
    made.updater.loss_scale.scale.assign(1.0)
    made.run(1)
    later = _learnt(made)
    assert not any(
        np.array_equal(later[name], value) for name, value in before.items() if "kernel" in name
    )
    assert all(each.iterations.numpy() == 4 for each in made.updater.optimizers)


def _learnt(made) -> dict[str, np.ndarray]:
    """The weights, the optimizers' slots and the averages of the weights, by place and name."""
    slots = [each for rule in made.updater.optimizers for each in rule.variables if each.shape.rank]
    averages = [*made.averages.model.trainable_variables, made.averages.count]
    held = [*made.model.trainable_variables, *slots, *averages]
    return {f"{place} {variable.name}": variable.numpy() for place, variable in enumerate(held)}


STATEFUL = [
    "adamw",
    "radam",
    slow_case("sgd"),
    slow_case("lamb"),
]  # radam's Lookahead has slots beside Adam's
RATE, DECAY, FACTOR = 0.1, 0.5, 0.1  # FACTOR: of the backbone
PLAIN = OptimizerOptions(learning_rate=RATE, warmup_steps=0, decay="constant", weight_decay=0.0)


def options_of(name: str, **changes) -> OptimizerOptions:
    if name in ("lamb", "radam") and not addons.available():
        pytest.skip("tensorflow-addons has no wheel for this Python")
    return dataclasses.replace(PLAIN, optimizer=name, **changes)


def build(options: OptimizerOptions) -> tuple[siamese.Siamese, Updater]:
    """A tiny model, with kernels, biases, and gains and offsets of norms, and its updater."""
    tf_keras.utils.set_random_seed(1)
    model = siamese.build_siamese(dataclasses.replace(TINY, head="sigmoid"), identities=6)
    return model, Updater(options, optimizers.build_schedule(options, 100, 8), model)


def gradients_of(model: siamese.Siamese, norm: float | None = None) -> list[np.ndarray]:
    """Made-up gradients, never zero; with their global norm where one is given."""
    rng = np.random.default_rng(2)
    made = [
        rng.choice((-1, 1), each.shape) * rng.uniform(0.5, 1.5, each.shape)
        for each in model.trainable_variables
    ]
    scale = norm / np.sqrt(sum((each**2).sum() for each in made)) if norm else 1.0
    return [(scale * each).astype(np.float32) for each in made]


def by_hand(
    name: str, weight: np.ndarray, gradient: np.ndarray, rate: float, *, decays: bool
) -> np.ndarray:
    """The weight after the optimizer's first step."""
    decay = DECAY if decays else 0.0
    if name == "sgd":  # with momentum 0.9 after Nesterov the first step is 1 + 0.9
        return weight * (1 - rate * decay) - rate * 1.9 * gradient
    if name == "adamw":  # the bias-corrected moments are the gradient and its square
        return weight * (1 - rate * decay) - rate * np.sign(gradient)
    if name == "radam":  # not yet rectified; Lookahead's first five steps are those of RAdam
        return weight - rate * (gradient + decay * weight)
    update = np.sign(gradient) + decay * weight
    ratio = np.linalg.norm(weight) / np.linalg.norm(update) if decays else 1.0
    return weight - rate * ratio * update


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_first_step_is_the_optimizers_formula_for_each_group(name):
    model, updater = build(options_of(name, weight_decay=DECAY, backbone_learning_rate=FACTOR))
    backbone = {each.ref() for each in model.encoder.get_layer("backbone").trainable_variables}
    before, gradients = [each.numpy() for each in model.trainable_variables], gradients_of(model)
    updater.apply([tf.constant(each) for each in gradients], model.trainable_variables)
    seen = set()
    for variable, weight, gradient in zip(
        model.trainable_variables, before, gradients, strict=True
    ):
        part, inside = variable.name.split("/")[-1].split(":")[0], variable.ref() in backbone
        seen.add((part, inside))
        expected = by_hand(
            name, weight, gradient, RATE * (FACTOR if inside else 1.0), decays=part == "kernel"
        )
        np.testing.assert_allclose(variable, expected, rtol=1e-4, atol=1e-5, err_msg=variable.name)
    assert seen == {
        ("kernel", True),
        ("beta", True),
        ("gamma", True),
        ("kernel", False),
        ("bias", False),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_in_every_backbone_only_kernels_have_weight_decay(name):
    side = 75 if name == "inception_v3" else 32
    layers = backbones.build_plain(name, (side, side, 3), None).layers
    found = {
        layer: [
            (each.shape.rank, optimizers.has_weight_decay(each)) for each in layer.trainable_weights
        ]
        for layer in layers
    }
    norms = [layer for layer in layers if isinstance(layer, tf_keras.layers.BatchNormalization)]
    assert norms and not any(decayed for layer in norms for _, decayed in found[layer])
    others = [weight for layer in layers if layer not in norms for weight in found[layer]]
    assert others and all(decayed == (rank > 1) for rank, decayed in others)


def test_centres_of_identities_decay():
    assert optimizers.has_weight_decay(tf.Variable(0.0, name="identity_centres"))


@pytest.mark.parametrize("name", STATEFUL)
def test_gradients_are_clipped_to_their_global_norm_over_all_groups(name):
    """Unclipped, the huge gradients of the first step would rule Adam's moments in the second."""
    options, norm = options_of(name, clip_norm=0.5, backbone_learning_rate=0.1), 0.5
    results = []
    for scale in (1.0, 1e4):
        model, updater = build(options)
        gradients = gradients_of(model, norm)
        for factor in (scale, 0.25):
            updater.apply(
                [tf.constant(factor * each) for each in gradients], model.trainable_variables
            )
        results.append([each.numpy() for each in model.trainable_variables])
    for small, huge in zip(*results, strict=True):
        np.testing.assert_allclose(small, huge, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("strategy", [one_device, two_replicas])
def test_sgd_is_tf_keras_sgd_bit_by_bit(strategy):
    rng, classes = np.random.default_rng(3), (tf_keras.optimizers.SGD, optimizers.NesterovSGD)
    gradients = rng.normal(size=(3, 2, 7, 5)).astype(np.float32)
    start = rng.normal(size=(7, 5)).astype(np.float32)
    found = []
    made = strategy()
    with made.scope():
        for each in classes:
            optimizer = each(0.1, 0.9, nesterov=True, weight_decay=0.01, jit_compile=False)
            weights = [tf.Variable(start), tf.Variable(start)]
            optimizer.build(weights)

            @tf.function
            def step(dense, rows, weights=weights, optimizer=optimizer):
                sparse = tf.IndexedSlices(rows[:2], tf.constant([1, 4]), rows.shape)
                optimizer.apply_gradients(zip((dense, sparse), weights, strict=True))

            for dense, rows in gradients:
                made.run(step, args=(dense, rows))
            found.append([each.numpy() for each in weights])
    np.testing.assert_array_equal(*found)
    assert not np.array_equal(found[0][0], found[0][1])


@pytest.mark.parametrize("name", STATEFUL)
def test_every_slot_comes_back_from_a_checkpoint(name, tmp_path):
    options = options_of(name, weight_decay=DECAY)
    (model, updater), (other, into) = build(options), build(options)
    gradients = [tf.constant(each) for each in gradients_of(model)]
    for _ in range(3):
        updater.apply(gradients, model.trainable_variables)
    path = tf.train.Checkpoint(model=model, optimizer=updater).write(str(tmp_path / "ckpt"))
    tf.train.Checkpoint(model=other, optimizer=into).read(path).assert_consumed()
    for trained, with_rule in ((model, updater), (other, into)):
        for _ in range(4):  # past Lookahead's sixth step
            with_rule.apply(gradients, trained.trainable_variables)
    for one, two in zip(model.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_array_equal(one, two)
