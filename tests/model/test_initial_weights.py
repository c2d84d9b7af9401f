import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv import addons
from fv.errors import UserError
from fv.model import (
    backbones,
    checkpoint_choice,
    checkpoint_files,
    encoder,
    initial_weights,
    model_record,
    siamese,
    weight_sources,
)
from fv.model.model_record import ModelRecord
from fv.model.options import ModelOptions
from fv.model.siamese import Siamese
from fv.training.options import AveragingOptions, OptimizerOptions, StrategyOptions, TrainOptions
from fv.training.run import train
from tests.conftest import TINY, slow_case

PEOPLE = ("Ada", "Grace", "Hedy")


def new_model(people: tuple[str, ...] = PEOPLE, **changes) -> tuple[Siamese, ModelRecord]:
    record = model_record.describe(dataclasses.replace(TINY, **changes), people)
    return siamese.build_siamese(record.options, record.identities), record


def begin(where: object, model: Siamese, record: ModelRecord) -> str:
    return initial_weights.load(
        weight_sources.find_weights(str(where), record.options), model, record
    )


def backbone_weights(model: Siamese) -> list[np.ndarray]:
    return [weight.numpy() for weight in model.encoder.get_layer(backbones.NAME).weights]


def assert_same(ones: list, others: list) -> None:
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)


def restored(workdir: str) -> Siamese:
    return checkpoint_files.load_model(workdir, model_record.load(workdir))[0]


def test_another_run_s_weights_are_taken_at_another_size_with_another_head(trained):
    model, record = new_model(image_size=64, head="sigmoid", batch_norm_momentum=0.5)
    line = begin(trained.workdir, model, record)
    held = restored(trained.workdir)
    assert_same(backbone_weights(model), backbone_weights(held))
    assert_same(
        model.encoder.get_layer("embedding").weights, held.encoder.get_layer("embedding").weights
    )
    assert "last checkpoint, step 30): 7 of 8 layers loaded; not pair_logit (not there)" in line


def test_identity_centres_are_taken_for_the_same_people_and_no_others(trained):
    people = model_record.load(trained.workdir)
    same = siamese.build_siamese(people.options, people.identities)
    assert begin(trained.workdir, same, people).endswith("8 of 8 layers loaded")
    np.testing.assert_array_equal(same.head.centres, restored(trained.workdir).head.centres)
    model, record = new_model(tuple("ABCDEF"))
    assert "7 of 8 layers loaded; not identity_centres (other training identities)" in begin(
        trained.workdir, model, record
    )


def test_an_embedding_behind_another_layer_is_left_though_its_shape_fits(trained):
    name = backbones.build_plain("tiny", (32, 32, 3), None).layers[-2].name
    model, record = new_model()
    source = dataclasses.replace(weight_sources.find_weights(trained.workdir, TINY), end=name)
    line = initial_weights.load(source, model, record)
    assert "6 of 8 layers loaded" in line and f"embedding (behind {name} and average there)" in line
    assert "identity_centres (other training identities)" in line


def test_a_head_is_left_where_its_embedding_is(trained):
    held = model_record.load(trained.workdir)
    record = dataclasses.replace(held, options=dataclasses.replace(held.options, pooling="flatten"))
    line = begin(trained.workdir, siamese.build_siamese(record.options, record.identities), record)
    assert (
        "embedding (behind re_lu_2 and average there), identity_centres (of other embeddings)"
        in line
    )


def test_a_layer_of_another_shape_is_named_with_both_and_left_as_it_was(trained):
    model, record = new_model(embedding_size=8)
    before = model.encoder.get_layer("embedding").get_weights()
    assert "embedding (64 x 16 there, 64 x 8 here)" in begin(trained.workdir, model, record)
    assert_same(model.encoder.get_layer("embedding").get_weights(), before)


def test_an_export_gives_its_encoder(trained, exported):
    model, record = new_model()
    assert "export): 7 of 8 layers loaded; not identity_centres (not there)" in begin(
        exported, model, record
    )
    held = restored(trained.workdir)
    assert_same(
        [weight.numpy() for weight in model.encoder.weights],
        [weight.numpy() for weight in held.encoder.weights],
    )


@pytest.mark.parametrize(
    "name",
    [
        "backbone.h5",
        "backbone.keras",
        "encoder.weights.h5",
        slow_case("backbone.weights.h5"),
        slow_case("encoder.h5"),
    ],
)
def test_weights_files_of_tf_keras_give_the_backbone_whatever_its_layers_numbers_were(
    tmp_path, name
):
    written = encoder.build_encoder(dataclasses.replace(TINY, image_size=48))
    for weight in written.weights:
        weight.assign(tf.random.stateless_uniform(weight.shape, (1, 2)))
    held = written if name.startswith("encoder") else written.get_layer(backbones.NAME)
    (held.save if name.endswith("keras") else held.save_weights)(str(tmp_path / name))
    model, record = new_model()
    assert "weights file): 6 of 8 layers loaded; not embedding (not there)" in begin(
        tmp_path / name, model, record
    )
    assert_same(
        backbone_weights(model),
        [weight.numpy() for weight in written.get_layer(backbones.NAME).weights],
    )


@pytest.mark.slow
def test_a_cut_inception_takes_what_a_whole_one_has(tmp_path):
    whole = backbones.build_plain("inception_v3", (75, 75, 3), None)
    whole.save_weights(str(tmp_path / "whole.h5"))
    record = model_record.describe(
        ModelOptions(feature_layer="mixed3", embedding_size=4, image_size=80), PEOPLE
    )
    model = siamese.build_siamese(record.options, len(PEOPLE))
    count = len(
        [layer for layer in model.encoder.get_layer(backbones.NAME).layers if layer.weights]
    )
    assert f"{count} of {count + 2} layers loaded; not embedding" in begin(
        tmp_path / "whole.h5", model, record
    )
    whole = dict(zip(weight_sources._lasting(whole.layers), whole.layers, strict=True))
    for name, weights in weight_sources.weights_by_layer(model).items():
        if name in whole:
            assert_same(weights, whole[name].weights)


def test_weights_of_which_nothing_fits_are_refused_and_the_model_stays(trained, tmp_path):
    layers = [
        tf_keras.Input((32, 32, 3)),
        tf_keras.layers.Conv2D(16, 3),
        tf_keras.layers.Conv2D(8, 1),
    ]
    tf_keras.Sequential(layers).save_weights(
        str(tmp_path / "other.weights.h5")
    )  # the first fits by chance
    model, record = new_model()
    before = backbone_weights(model)
    shapes = r"conv2d_1 \(1 x 1 x 16 x 8 and 8 there, 3 x 3 x 16 x 32 here"
    with pytest.raises(
        UserError, match=f"weights file does not fit the backbone: conv2d .*{shapes}"
    ):
        begin(tmp_path / "other.weights.h5", model, record)
    assert_same(backbone_weights(model), before)
    with pytest.raises(UserError, match="holds a tiny, not a resnet50"):
        weight_sources.find_weights(trained.workdir, ModelOptions(backbone="resnet50"))


def test_what_holds_no_weights_is_refused_in_one_line(tmp_path):
    (tmp_path / "text.h5").write_text("no weights")
    (tmp_path / "model_card.json").write_text("{}")
    for where, said in (
        ("no/such", "no file"),
        (tmp_path / "text.h5", "no weights file"),
        (tmp_path, "no export of this fv"),
    ):
        with pytest.raises(UserError, match=said) as raised:
            weight_sources.find_weights(str(where), TINY)
        assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="tiny has no ImageNet weights"):
        weight_sources.find_weights("imagenet", TINY)


@pytest.fixture
def following(trained, tmp_path) -> TrainOptions:
    """Options of a run with a larger image and another head whose backbone begins with `trained`'s and stands still."""
    return dataclasses.replace(
        trained,
        workdir=str(tmp_path / "following"),
        model=dataclasses.replace(TINY, image_size=48, head="sigmoid"),
        init_weights=shutil.copytree(trained.workdir, tmp_path / "first"),
        optimization=OptimizerOptions(freeze_backbone_steps=-1),
        steps=2,
    )


def backbone_of(workdir: str, checkpoint: str = checkpoint_choice.LAST) -> list[np.ndarray]:
    model, _ = checkpoint_files.load_model(workdir, model_record.load(workdir), checkpoint)
    return [weight.numpy() for weight in model.encoder.get_layer(backbones.NAME).weights]


def initial_weights_assert_same(ones: list[np.ndarray], others: list[np.ndarray]) -> None:
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_begins_with_another_s_weights_says_so_once_and_goes_on_without_it(
    following, trained, capsys
):
    train(following)
    assert (
        "first weights (last checkpoint, step 30): 7 of 8 layers loaded" in capsys.readouterr().out
    )
    initial_weights_assert_same(backbone_of(following.workdir), backbone_of(trained.workdir))
    shutil.rmtree(following.init_weights)
    train(dataclasses.replace(following, steps=3))
    assert "first weights" not in capsys.readouterr().out
    with pytest.raises(UserError, match="is no workdir of fv.train"):
        train(dataclasses.replace(following, workdir=following.workdir + "-new"))


@pytest.mark.parametrize(
    "compute",
    [
        StrategyOptions(),
        slow_case(StrategyOptions(strategy="mirrored", virtual_devices=2)),
    ],
    ids=["one device", "two replicas"],
)
def test_averages_and_lookahead_s_slow_weights_begin_with_them_too_on_every_replica(
    following, trained, compute
):
    options = dataclasses.replace(
        following,
        init_weights=f"{following.init_weights}@best",
        compute=compute,
        optimization=OptimizerOptions(
            "radam" if addons.available() else "adamw", learning_rate=0.0, weight_decay=0.0
        ),
        averaging=AveragingOptions("ema"),
        steps=6,
    )
    train(options)
    for one, other in zip(
        backbone_of(options.workdir),
        backbone_of(trained.workdir, checkpoint_choice.BEST),
        strict=True,
    ):
        if one.ndim > 1:  # BatchNorm's statistics move
            np.testing.assert_allclose(one, other, atol=1e-6)
