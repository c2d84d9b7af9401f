import dataclasses
import shutil
from collections.abc import Callable

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fv import addons, files, workdir
from fv.errors import UserError
from fv.model import backbones, checkpoint_files, initial_weights, model_record, siamese
from fv.model.initial_weights import FirstWeights
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


def load(where: object, model: Siamese, record: ModelRecord) -> str:
    source = initial_weights.find_weights(str(where), record.options)
    return FirstWeights(source, record).load(model)


def restore(folder: str, which: str = workdir.LAST) -> Siamese:
    return checkpoint_files.load_model(folder, model_record.load(folder), which)[0]


def backbone_weights(model: Siamese) -> list[np.ndarray]:
    return model.encoder.get_layer(backbones.NAME).get_weights()


def assert_same(ones: list, others: list) -> None:
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_runs_weights_are_taken_at_another_size_with_another_head(trained):
    model, record = new_model(image_size=64, head="sigmoid", batch_norm_momentum=0.5)
    line = load(trained.workdir, model, record)
    assert_same(model.encoder.get_weights(), restore(trained.workdir).encoder.get_weights())
    assert "last checkpoint, step 30): 7 of 8 layers loaded; not pair_logit (not there)" in line


def test_identity_centres_are_taken_for_the_same_people_and_no_others(trained):
    record = model_record.load(trained.workdir)
    same = siamese.build_siamese(record.options, record.identities)
    assert load(trained.workdir, same, record).endswith("8 of 8 layers loaded")
    np.testing.assert_array_equal(same.head.centres, restore(trained.workdir).head.centres)
    line = load(trained.workdir, *new_model(tuple("ABCDEF")))
    assert "7 of 8 layers loaded; not identity_centres (other training identities)" in line


def test_an_embedding_behind_another_layer_is_refused_though_its_shape_fits(trained):
    name = backbones.build_plain("tiny", (32, 32, 3), None).layers[-2].name
    model, record = new_model()
    source = initial_weights.find_weights(trained.workdir, TINY)
    line = FirstWeights(dataclasses.replace(source, last_layer=name), record).load(model)
    assert "6 of 8 layers loaded" in line and f"embedding (behind {name} and average there)" in line
    assert "identity_centres (other training identities)" in line


def test_a_head_is_refused_with_its_embedding(trained):
    held = model_record.load(trained.workdir)
    record = dataclasses.replace(held, options=dataclasses.replace(held.options, pooling="flatten"))
    line = load(trained.workdir, siamese.build_siamese(record.options, record.identities), record)
    assert "embedding (behind re_lu_2 and average there)" in line
    assert "identity_centres (of other embeddings)" in line


def test_a_layer_of_another_shape_is_named_with_both_and_unchanged(trained):
    model, record = new_model(embedding_size=8)
    before = model.encoder.get_layer("embedding").get_weights()
    assert "embedding (64 x 16 there, 64 x 8 here)" in load(trained.workdir, model, record)
    assert_same(model.encoder.get_layer("embedding").get_weights(), before)


def test_regions_begin_with_those_of_a_run_but_without_its_whitening():
    changes = dict(regions="0:0:1:1:24,0:0:1:0.5:16", second_head="sigmoid")
    first, record = new_model(**changes)
    siamese.apply_whitening(first.encoder, np.diag(np.arange(1.0, 17.0)))
    layers = {
        name: [weight.numpy() for weight in weights]
        for name, weights in initial_weights.weights_by_layer(first).items()
    }
    source = initial_weights.Source("run", layers, record, "region1")
    second, _ = new_model(**changes)
    line = FirstWeights(source, record).load(second)
    assert "8 of 9 layers loaded; not embedding (whitened there" in line
    assert_same(first.head.variables, second.head.variables)
    assert_same(backbone_weights(first), backbone_weights(second))
    np.testing.assert_array_equal(second.encoder.get_layer("embedding").kernel, np.eye(16))


def test_regions_begin_with_no_weights_of_one_network(trained):
    regions = dataclasses.replace(TINY, regions="0:0:1:1:32")
    with pytest.raises(UserError, match=r"was trained with --regions=: give the same"):
        initial_weights.find_weights(trained.workdir, regions)
    with pytest.raises(UserError, match="imagenet is of one network: leave --regions out"):
        initial_weights.find_weights("imagenet", regions)


def test_an_export_gives_its_encoder(trained, exported):
    model, record = new_model()
    line = load(exported, model, record)
    assert "export): 7 of 8 layers loaded; not identity_centres (not there)" in line
    assert_same(model.encoder.get_weights(), restore(trained.workdir).encoder.get_weights())


def test_the_external_teachers_of_an_export_are_taken_over(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "1")
    card = files.load_json(str(folder / initial_weights.CARD))
    files.save_json(card | {"external_teachers": ["a.npz"]}, str(folder / initial_weights.CARD))
    _, record = new_model()
    source = initial_weights.find_weights(str(folder), record.options)
    assert FirstWeights(source, record).record.external_teachers == ("a.npz",)


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
def test_weights_files_give_the_backbone_whatever_numbers_its_layers_had(tmp_path, name):
    written = siamese.build_encoder(dataclasses.replace(TINY, image_size=48))
    for weight in written.weights:
        weight.assign(tf.random.stateless_uniform(weight.shape, (1, 2)))
    backbone = written.get_layer(backbones.NAME)
    saved = written if name.startswith("encoder") else backbone
    (saved.save if name.endswith("keras") else saved.save_weights)(str(tmp_path / name))
    model, record = new_model()
    line = load(tmp_path / name, model, record)
    assert "weights file): 6 of 8 layers loaded; not embedding (not there)" in line
    assert_same(backbone_weights(model), backbone.get_weights())


@pytest.mark.slow
def test_a_cut_inception_takes_what_a_whole_one_has(tmp_path):
    whole = backbones.build_plain("inception_v3", (75, 75, 3), None)
    path = str(tmp_path / "whole.h5")
    whole.save_weights(path)
    options = ModelOptions(feature_layer="mixed3", embedding_size=4, image_size=80)
    record = model_record.describe(options, PEOPLE)
    model = siamese.build_siamese(options, len(PEOPLE))
    layers = model.encoder.get_layer(backbones.NAME).layers
    count = sum(bool(layer.weights) for layer in layers)
    assert f"{count} of {count + 2} layers loaded; not embedding" in load(path, model, record)
    names = initial_weights.stable_names([layer.name for layer in whole.layers])
    by_name = dict(zip(names, whole.layers, strict=True))
    for name, weights in initial_weights.weights_by_layer(model).items():
        if name in by_name:
            assert_same(weights, by_name[name].weights)


def test_weights_of_which_nothing_fits_are_refused_and_change_nothing(trained, tmp_path):
    layers = [tf_keras.layers.Conv2D(16, 3), tf_keras.layers.Conv2D(8, 1)]  # one fits by chance
    path = tmp_path / "other.weights.h5"
    tf_keras.Sequential([tf_keras.Input((32, 32, 3)), *layers]).save_weights(str(path))
    model, record = new_model()
    before = backbone_weights(model)
    shapes = r"conv2d_1 \(1 x 1 x 16 x 8 and 8 there, 3 x 3 x 16 x 32 here"
    message = f"weights file does not fit the backbone: conv2d .*{shapes}"
    with pytest.raises(UserError, match=message):
        load(path, model, record)
    assert_same(backbone_weights(model), before)
    with pytest.raises(UserError, match="holds a tiny, not a resnet50"):
        initial_weights.find_weights(trained.workdir, ModelOptions(backbone="resnet50"))


def test_a_path_without_weights_is_refused_in_one_line(tmp_path):
    (tmp_path / "text.h5").write_text("no weights")
    (tmp_path / "model_card.json").write_text("{}")
    for where, message in (
        ("no/such", "no file"),
        (tmp_path / "text.h5", "no weights file"),
        (tmp_path, "no export of this fv"),
    ):
        with pytest.raises(UserError, match=message) as raised:
            initial_weights.find_weights(str(where), TINY)
        assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="tiny has no ImageNet weights"):
        initial_weights.find_weights("imagenet", TINY)


def test_weights_files_of_another_layout_are_refused_in_one_line(tmp_path):
    path = tmp_path / "odd.h5"

    def refuse(write: Callable[[h5py.File], object]) -> None:
        with h5py.File(path, "w") as root:
            write(root)
        with pytest.raises(UserError, match="no weights file of tf_keras") as raised:
            initial_weights.find_weights(str(path), TINY)
        assert "\n" not in str(raised.value)

    refuse(lambda root: root.create_group("layers/conv2d/vars/0"))
    refuse(lambda root: root.create_dataset("layers/conv2d/vars/0", data="text"))
    refuse(lambda root: root.attrs.__setitem__("layer_names", 3))
    refuse(lambda root: root.attrs.__setitem__("layer_names", [3]))


# Names of layers


def test_stable_names_are_the_same_in_every_build_of_a_network():
    networks = [backbones.build_plain("tiny", (32, 32, 3), None) for _ in range(2)]
    first, second = ([layer.name for layer in network.layers] for network in networks)
    assert first != second
    assert initial_weights.stable_names(first) == initial_weights.stable_names(second)


def test_stable_names_count_from_the_lowest_number_of_their_kind():
    others = ["conv2_block1_1_conv", "expanded_conv_3/expand"]  # end otherwise
    names = ["conv2d_94", "batch_normalization_7", "conv2d_96", *others]
    expected = ["conv2d", "batch_normalization", "conv2d_2", *others]
    assert initial_weights.stable_names(names) == expected
    assert initial_weights.stable_names(["conv2d", "conv2d_1"]) == ["conv2d", "conv2d_1"]


def test_classes_are_counted_as_tf_keras_counts_them_in_weights_files():
    layers = tf_keras.layers
    made = [layers.Conv2D(1, 1), layers.BatchNormalization(), layers.Conv2D(1, 1)]
    names = initial_weights.names_by_class([*made, layers.DepthwiseConv2D(1)])
    assert names == ["conv2d", "batch_normalization", "conv2d_1", "depthwise_conv2d"]


# Training runs


@pytest.fixture
def following(trained, tmp_path) -> TrainOptions:
    """A run at another size with another head, whose frozen backbone begins with `trained`'s."""
    return dataclasses.replace(
        trained,
        workdir=str(tmp_path / "following"),
        model=dataclasses.replace(TINY, image_size=48, head="sigmoid"),
        init_weights=str(shutil.copytree(trained.workdir, tmp_path / "first")),
        optimization=OptimizerOptions(freeze_backbone_steps=-1),
        steps=2,
    )


def test_a_run_loads_first_weights_once_and_continues_without_them(following, trained, capsys):
    train(following)
    printed = capsys.readouterr().out
    assert "first weights (last checkpoint, step 30): 7 of 8 layers loaded" in printed
    weights = [backbone_weights(restore(run.workdir)) for run in (following, trained)]
    assert_same(*weights)
    shutil.rmtree(following.init_weights)
    train(dataclasses.replace(following, steps=3))
    assert "first weights" not in capsys.readouterr().out
    with pytest.raises(UserError, match="is no workdir of fv.train"):
        train(dataclasses.replace(following, workdir=following.workdir + "-new"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "compute",
    [StrategyOptions(), slow_case(StrategyOptions(strategy="mirrored", virtual_devices=2))],
    ids=["one device", "two replicas"],
)
def test_averages_and_lookaheads_slow_weights_begin_with_them_too(following, trained, compute):
    rule = "radam" if addons.available() else "adamw"
    options = dataclasses.replace(
        following,
        init_weights=f"{following.init_weights}@best",
        compute=compute,
        optimization=OptimizerOptions(rule, learning_rate=0.0, weight_decay=0.0),
        averaging=AveragingOptions("ema"),
        steps=6,
    )
    train(options)
    found = backbone_weights(restore(options.workdir))
    expected = backbone_weights(restore(trained.workdir, workdir.BEST))
    for one, other in zip(found, expected, strict=True):
        if one.ndim > 1:  # BatchNorm's statistics move
            np.testing.assert_allclose(one, other, atol=1e-6)
