import dataclasses
import json
import pathlib
import types

import numpy as np
import pytest
import tensorflow as tf

from fv import manifest, preprocess, record, workdir
from fv.errors import UserError
from fv.evaluation.run import EvaluateOptions, evaluate
from fv.model import model_record, restoring
from fv.pipeline.source import PairSource
from fv.training import run as training
from fv.whitening import matrix, run
from fv.whitening.options import WhitenOptions
from tests import samples

SHRINKAGE = 0.3


@pytest.fixture(scope="module")
def options(tiny_run, tmp_path_factory) -> WhitenOptions:
    """A run whose similarity is the cosine, and where its whitened model goes."""
    folder = tmp_path_factory.mktemp("whitening")
    model = dataclasses.replace(tiny_run.model, head="softmax")
    training.train(
        dataclasses.replace(tiny_run, model=model, workdir=str(folder / "run"), steps=10)
    )
    return WhitenOptions(
        str(folder / "run"),
        tiny_run.tfrecords,
        str(folder / "whitened"),
        shrinkage=SHRINKAGE,
        batch_size=24,
    )


@pytest.fixture(scope="module")
def figures(options) -> dict:
    run.whiten(options)
    return json.loads((pathlib.Path(options.output) / run.FILE_NAME).read_text())


def embedded(folder: str, shards: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of either image of the genuine training pairs, in the shards' order."""
    frames = [path.open("rb") for path in sorted(pathlib.Path(shards).glob("train-*.tfrecord"))]
    pairs = [record.decode_pair(data) for file in frames for _, data in record.read_frames(file)]
    genuine = [pair for pair in pairs if pair[record.LABEL] == record.GENUINE]
    held = model_record.load(folder)
    model, _ = restoring.load_model(folder, held)

    def embed(name: str) -> np.ndarray:
        loaded = [
            preprocess.load_jpeg(pair[name], held.options.image_size, held.options.crop_fraction)
            for pair in genuine
        ]
        return model.encoder(np.stack(loaded), training=False).numpy()

    return embed(record.IMAGE_A), embed(record.IMAGE_B)


def test_the_new_model_embeds_as_the_old_one_whitened_by_its_genuine_training_pairs(
    options, figures
):
    before, after = (
        embedded(folder, options.tfrecords) for folder in (options.workdir, options.output)
    )
    assert figures["pairs"] == len(before[0])
    turn = matrix.whitening(*matrix.covariances(*before), SHRINKAGE)
    for old, new in zip(before, after, strict=True):
        turned = old @ turn
        np.testing.assert_allclose(
            new, turned / np.linalg.norm(turned, axis=1, keepdims=True), atol=1e-4
        )


def test_the_figures_are_the_genuine_pairs_mean_cosines(options, figures):
    for key, folder in (
        ("mean_cosine_before", options.workdir),
        ("mean_cosine_after", options.output),
    ):
        cosines = np.sum(np.multiply(*embedded(folder, options.tfrecords)), axis=1)
        assert figures[key] == pytest.approx(cosines.mean(), abs=1e-4)
    assert figures["shrinkage"] == SHRINKAGE


def test_the_new_folder_is_a_workdir_that_says_how_and_on_whom_it_was_trained(options, figures):
    for name in (workdir.FLAGS, workdir.RUN, workdir.MODEL):
        before, after = (
            pathlib.Path(folder) / name for folder in (options.workdir, options.output)
        )
        assert before.read_bytes() == after.read_bytes()
    evaluate(EvaluateOptions(workdir=options.output, tfrecords=options.tfrecords))
    assert (pathlib.Path(options.output) / workdir.METRICS).exists()


def test_a_killed_run_leaves_no_workdir_and_is_run_again(options, tmp_path, monkeypatch):
    again = dataclasses.replace(options, output=str(tmp_path / "again"))
    with monkeypatch.context() as patched:
        patched.setattr(run.files, "save_json", _killed)
        with pytest.raises(KeyboardInterrupt):
            run.whiten(again)
    with pytest.raises(UserError, match="holds no model.json"):
        model_record.load(again.output)
    run.whiten(again)
    assert model_record.load(again.output) == model_record.load(options.workdir)


@pytest.mark.parametrize(
    "name", ["train.flags", "run.json", "whitening.json", "checkpoints/ckpt-9.index"]
)
def test_a_foreign_file_in_the_output_is_named_and_stays(options, tmp_path, name):
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(UserError, match=f"fv did not write, .*: {pathlib.Path(name).name};"):
        run.whiten(dataclasses.replace(options, output=str(tmp_path / "out")))
    assert [path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()] == [
        "mine"
    ]


def test_what_cannot_be_whitened_is_one_line(options, figures, tiny_run, tmp_path):
    classifier = str(tmp_path / "classifier")
    model = dataclasses.replace(tiny_run.model, head="sigmoid")
    training.train(dataclasses.replace(tiny_run, model=model, workdir=classifier, steps=1))
    elsewhere = dataclasses.replace(options, output=str(tmp_path / "new"))
    samples.write_shards(tmp_path / "others", {"train": 8}, identities=5)
    for changed, said in (
        (options, "holds a model already"),
        (dataclasses.replace(elsewhere, workdir=str(tmp_path)), "holds no model.json"),
        (dataclasses.replace(elsewhere, workdir=classifier), "weighs each number of an embedding"),
        (
            dataclasses.replace(elsewhere, tfrecords=str(tmp_path / "others")),
            "was trained on other data",
        ),
    ):
        with pytest.raises(UserError, match=said):
            run.whiten(changed)


@pytest.mark.parametrize(
    "first, second",
    [((1.0, 0.0), (1.0, 0.0)), ((1.0, 0.0), (-0.8, 0.6)), ((np.nan, 1.0), (1.0, 0.0))],
)
def test_embeddings_that_say_nothing_of_a_person_are_one_line(options, first, second):
    class Model:
        encoder = types.SimpleNamespace(output_shape=(None, 2))

        def embed_pairs(self, images, training):
            return tf.tile(tf.constant([[first, second]], tf.float32), (tf.shape(images)[0], 1, 1))

    source = PairSource.of(options.tfrecords, manifest.load(options.tfrecords), "train", 32, 1.0)
    with pytest.raises(UserError, match="all alike, nothing alike, or no numbers: train it again"):
        run._genuine_embeddings(Model(), source, 8)


def _killed(*arguments) -> None:
    raise KeyboardInterrupt
