import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv import addons
from fv.model import backbones, siamese
from fv.model.options import BACKBONES
from fv.training.updates import groups, schedule
from fv.training.updates.optimizer_options import OPTIMIZERS, OptimizerOptions
from fv.training.updates.updater import Updater
from tests.conftest import TINY

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
    return model, Updater(options, schedule.build_schedule(options, 100, 8), model)


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
    """The weight after the rule's first step."""
    decay = DECAY if decays else 0.0
    if name == "sgd":  # with momentum 0.9 after Nesterov the first step is 1 + 0.9
        return weight * (1 - rate * decay) - rate * 1.9 * gradient
    if name == "adamw":  # the bias-corrected moments are the gradient and its square
        return weight * (1 - rate * decay) - rate * np.sign(gradient)
    if (
        name == "radam"
    ):  # not yet rectified: the gradient itself; Lookahead's first five steps are its inner rule's
        return weight - rate * (gradient + decay * weight)
    update = np.sign(gradient) + decay * weight
    ratio = np.linalg.norm(weight) / np.linalg.norm(update) if decays else 1.0
    return weight - rate * ratio * update


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_the_rules_formula_at_each_parts_rate_and_decay_leaves_biases_and_norms_alone(
    name,
):
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
def test_in_every_backbone_the_kernels_decay_and_the_biases_and_norms_do_not(name):
    side = 75 if name == "inception_v3" else 32
    layers = backbones.build_plain(name, (side, side, 3), None).layers
    found = {
        layer: [(each.shape.rank, groups.decays(each)) for each in layer.trainable_weights]
        for layer in layers
    }
    norms = [layer for layer in layers if isinstance(layer, tf_keras.layers.BatchNormalization)]
    assert norms and not any(decayed for layer in norms for _, decayed in found[layer])
    others = [weight for layer in layers if layer not in norms for weight in found[layer]]
    assert others and all(decayed == (rank > 1) for rank, decayed in others)


def test_centres_of_identities_decay():
    assert groups.decays(tf.Variable(0.0, name="identity_centres"))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_are_clipped_to_their_global_norm_over_all_groups(name):
    """A first step on huge gradients, then one on small ones: unclipped, the huge ones would rule Adam's moments too."""
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


@pytest.mark.parametrize("name", OPTIMIZERS)
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
