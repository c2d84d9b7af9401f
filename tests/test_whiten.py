import dataclasses
import json
import pathlib

import numpy as np
import pytest

from fv import image_ops, record, whiten, workdir
from fv.errors import UserError
from fv.evaluate import EvaluateOptions, evaluate
from fv.model import checkpoint_files, model_record
from fv.training import run as training
from fv.whiten import WhitenOptions
from tests import samples

SHRINKAGE = 0.3
RNG = np.random.default_rng(0)
SPREAD = np.array([3.0, 1.0, 0.5])  # of images around their person
PEOPLE = np.array([1.0, 2.0, 0.5])  # of people
TINY = 1e-9  # shrinkage


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
    )


@pytest.fixture(scope="module")
def figures(options) -> dict:
    whiten.whiten(options)
    return json.loads((pathlib.Path(options.output) / workdir.WHITENING).read_text())


def embedded(folder: str, shards: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of either image of the genuine training pairs, in the shards' order."""
    frames = [path.open("rb") for path in sorted(pathlib.Path(shards).glob("train-*.tfrecord"))]
    pairs = [record.decode_pair(data) for file in frames for _, data in record.read_frames(file)]
    genuine = [pair for pair in pairs if pair[record.LABEL] == record.GENUINE]
    held = model_record.load(folder)
    model, _ = checkpoint_files.load_model(folder, held)

    def embed(name: str) -> np.ndarray:
        loaded = [
            image_ops.jpeg_to_input(pair[name], held.options.image_size, held.options.crop_fraction)
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
    turn = whiten.compute_whitening(*whiten.compute_covariances(*before), SHRINKAGE)
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


@pytest.fixture
def again(options, tmp_path, monkeypatch) -> whiten.WhitenOptions:
    """The options of a run that was killed before it wrote model.json."""
    again = dataclasses.replace(options, output=str(tmp_path / "again"))
    with monkeypatch.context() as patched:
        patched.setattr(whiten.files, "save_json", _killed)
        with pytest.raises(KeyboardInterrupt):
            whiten.whiten(again)
    return again


def test_a_killed_run_leaves_no_workdir_and_is_run_again(options, again):
    with pytest.raises(UserError, match="holds no model.json"):
        model_record.load(again.output)
    whiten.whiten(again)
    assert model_record.load(again.output) == model_record.load(options.workdir)


def test_a_repeated_run_loads_the_checkpoint_of_its_own_step(options, again, monkeypatch):
    checkpoints = pathlib.Path(again.output) / workdir.CHECKPOINTS
    (checkpoints / "mine.txt").write_text("mine")
    load_model = checkpoint_files.load_model

    def load_earlier(*arguments):
        return load_model(*arguments)[0], 3

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_files, "load_model", load_earlier)
        whiten.whiten(again)
    assert load_model(again.output, model_record.load(again.output))[1] == 3
    assert sorted(path.name for path in checkpoints.iterdir()) == [
        "ckpt-3.data-00000-of-00001",
        "ckpt-3.index",
        "mine.txt",
    ]


@pytest.mark.parametrize(
    "name", ["train.flags", "run.json", "whitening.json", "checkpoints/ckpt-9.index"]
)
def test_a_foreign_file_in_the_output_is_named_and_stays(options, tmp_path, name):
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(UserError, match=f"fv did not write, .*: {pathlib.Path(name).name};"):
        whiten.whiten(dataclasses.replace(options, output=str(tmp_path / "out")))
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
            whiten.whiten(changed)


@pytest.mark.parametrize("second", [(1.0, 0.0), (-0.8, 0.6)])
def test_embeddings_that_say_nothing_of_a_person_are_refused(second):
    pairs = np.tile(np.float32([[1.0, 0.0]]), (4, 1)), np.tile(np.float32([second]), (4, 1))
    with pytest.raises(UserError, match="all alike or unalike: train it again"):
        whiten.require_telling(*pairs)


def _killed(*arguments) -> None:
    raise KeyboardInterrupt


# The matrix


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    people = PEOPLE * RNG.normal(size=(20_000, 3))
    return tuple(people + SPREAD * RNG.normal(size=people.shape) for _ in range(2))


def test_the_covariances_are_those_of_images_around_their_person_and_of_people(pairs):
    within, shared = whiten.compute_covariances(*pairs)
    np.testing.assert_allclose(within, np.diag(SPREAD**2), atol=0.3)
    np.testing.assert_allclose(shared, np.diag(PEOPLE**2), atol=0.3)


def test_the_covariances_of_two_pairs_by_hand():
    first, second = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[2.0, 0.0], [1.0, 0.0]])
    within, shared = whiten.compute_covariances(first, second)
    np.testing.assert_allclose(within, [[0.5, -0.5], [-0.5, 1.0]])
    np.testing.assert_allclose(shared, [[1.0, 0.5], [0.5, 0.0]])


def test_who_is_first_in_a_pair_does_not_matter(pairs):
    for one, other in zip(
        whiten.compute_covariances(*pairs),
        whiten.compute_covariances(*pairs[::-1]),
        strict=True,
    ):
        np.testing.assert_allclose(one, other)


def test_a_direction_counts_by_its_spread_within_a_person_and_by_its_share_of_the_person():
    found = whiten.compute_whitening(np.diag([4.0, 1.0, 0.25]), np.diag([4.0, 3.0, 0.0]), TINY)
    np.testing.assert_allclose(found, np.diag([1 / 2 * 1 / 2, 1.0 * 3 / 4, 0.0]), atol=1e-6)


def test_shrinkage_takes_the_spread_towards_its_mean_by_hand():
    within, shared = (
        np.diag([4.0, 1.0, 1.0]),
        np.eye(3),
    )  # a mean of 2; half of each is 3, 1.5 and 1.5
    np.testing.assert_allclose(
        whiten.compute_whitening(within, shared, 0.5),
        np.diag([3.0**-0.5 / 4, *2 * [1.5**-0.5 / 2.5]]),
        atol=1e-12,
    )
    np.testing.assert_allclose(
        whiten.compute_whitening(within, shared, 1.0), np.eye(3) * 2**-0.5 / 3, atol=1e-12
    )


def test_in_whitened_space_it_is_the_best_linear_prediction_of_the_other_image(pairs):
    first, second = pairs
    within, shared = whiten.compute_covariances(*pairs)
    values, directions = np.linalg.eigh(within)
    whitened = (directions * values**-0.5) @ directions.T
    either, other = (
        np.concatenate([first, second]) @ whitened,
        np.concatenate([second, first]) @ whitened,
    )
    fitted = np.linalg.lstsq(either, other, rcond=None)[0]
    np.testing.assert_allclose(
        whiten.compute_whitening(within, shared, TINY), whitened @ fitted, atol=1e-6
    )


def test_people_are_told_apart_better_than_by_their_spread_alone():
    people = np.array([3.0, 3.0, 3.0, *20 * [0.1]]) * RNG.normal(size=(2000, 23))
    pairs = [people + RNG.normal(size=people.shape) for _ in range(2)]
    told = {}
    for name, turn in (
        ("whole", whiten.compute_whitening(*whiten.compute_covariances(*pairs), TINY)),
        ("spread alone", np.eye(23)),
    ):
        first, second = (
            each @ turn / np.linalg.norm(each @ turn, axis=1, keepdims=True) for each in pairs
        )
        genuine, impostor = (
            np.sum(first * second, axis=1),
            np.sum(first * np.roll(second, 1, axis=0), axis=1),
        )
        told[name] = np.mean(genuine > impostor)
    assert told["whole"] > told["spread alone"] + 0.01


def test_a_direction_in_which_no_pair_differs_or_is_alike_is_no_division_by_zero():
    found = whiten.compute_whitening(np.diag([1.0, 0.0]), np.diag([1.0, -0.1]), 0.1)
    assert np.isfinite(found).all() and not found[1].any()


def test_training_does_not_continue_in_a_whitened_workdir(tiny_run, tmp_path):
    (tmp_path / workdir.WHITENING).write_text("{}")
    with pytest.raises(UserError, match=r"holds no run to continue.*--init_weights="):
        training.train(dataclasses.replace(tiny_run, workdir=str(tmp_path)))
